"""A codebook: each vector is replaced by the nearest of a few, which follow the vectors that chose them.

Shapes: ``n`` vectors, ``D`` width, ``K`` codes.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Quantised(NamedTuple):
    """What became of some vectors.

    codes [n, D]: the code of each, with the gradient of the vector itself (straight-through); places [n]: which one.
    """

    codes: Tensor
    places: Tensor


class VectorQuantiser(nn.Module):
    """The quantiser of VQ-VAE (van den Oord et al. 2017), its codes moved by averages instead of gradients.

    In training, each forward pass moves every code that was chosen towards the mean of the vectors that chose it; codes
    that nobody chose stay. The codebook is a buffer: it is saved with the model and no optimiser sees it.

    Args:
        codes: K, at least 2.
        width: D.
        compare: ``cosine``, vectors and codes at length 1, or ``distance``, Euclidean, as they are.
        decay: how much of a code is kept when it moves, in [0, 1).

    Raises:
        ValueError: a value outside its range.
    """

    book: Tensor
    chosen: Tensor

    def __init__(
        self, codes: int, width: int, *, compare: Literal["cosine", "distance"] = "cosine", decay: float = 0.8
    ) -> None:
        super().__init__()
        if codes < 2 or width < 1:
            raise ValueError(f"a codebook needs at least 2 codes and a width of at least 1, not {codes} and {width}")
        if compare not in ("cosine", "distance") or not 0 <= decay < 1:
            raise ValueError(f"compare is cosine or distance, and decay in [0, 1); they are {compare!r} and {decay}")
        self.compare, self.decay = compare, decay
        book = torch.randn(codes, width)
        self.register_buffer("book", F.normalize(book, dim=-1) if compare == "cosine" else book / width**0.5)
        self.register_buffer("chosen", torch.zeros(codes))  # how often lately, as an average that forgets like a code

    def scores(self, vectors: Tensor) -> Tensor:
        """How near vectors are to every code, [n, D] -> [n, K]: cosines in [-1, 1], or minus distances."""
        return code_scores(vectors, self.book, self.compare)

    def forward(self, vectors: Tensor) -> Quantised:
        """[n, D] -> codes and places; in training the codes then move.

        Raises:
            ValueError: vectors of another width than the codes.
        """
        if vectors.shape[-1] != self.book.shape[-1]:
            raise ValueError(
                f"vectors of the width {vectors.shape[-1]} have no place among codes of {self.book.shape[-1]}"
            )
        fixed = vectors.detach()
        places = self.scores(fixed).argmax(-1)
        found = self.book[places]
        if self.training:
            self._move(F.normalize(fixed, dim=-1) if self.compare == "cosine" else fixed, places)
        return Quantised(vectors + (found - fixed), places)

    @torch.no_grad()
    def _move(self, vectors: Tensor, places: Tensor) -> None:
        counts = torch.bincount(places, minlength=len(self.book)).to(vectors)
        sums = torch.zeros_like(self.book).index_add_(0, places, vectors.to(self.book))
        means = sums / counts.clamp(min=1).unsqueeze(1)
        if self.compare == "cosine":
            means = F.normalize(means, dim=-1)
        used = counts > 0
        self.book[used] = torch.lerp(self.book[used], means[used], 1 - self.decay)
        self.chosen.lerp_(counts, 1 - self.decay)

    @property
    def dead(self) -> float:
        """The share of codes that hardly any vector chose lately (less than one in a hundred passes)."""
        return float((self.chosen < 0.01).double().mean())

    @property
    def perplexity(self) -> float:
        """How many codes are in use, were they used alike: e to the entropy of their recent use; 1 to K."""
        share = self.chosen.double() / self.chosen.double().sum().clamp(min=torch.finfo(torch.float32).tiny)
        return float(torch.exp(-(share * share.clamp(min=torch.finfo(torch.float32).tiny).log()).sum()))


def code_scores(vectors: Tensor, book: Tensor, compare: str) -> Tensor:
    """How near vectors [n, D] are to codes [K, D]: cosines, or minus Euclidean distances; [n, K].

    Raises:
        ValueError: the widths differ.
    """
    if vectors.shape[-1] != book.shape[-1]:
        raise ValueError(f"vectors of the width {vectors.shape[-1]} can't be compared with codes of {book.shape[-1]}")
    if compare == "cosine":
        return F.normalize(vectors, dim=-1) @ F.normalize(book, dim=-1).T
    gaps = vectors.square().sum(-1, keepdim=True) - 2 * vectors @ book.T + book.square().sum(-1)
    return -gaps.clamp(min=1e-12).sqrt()  # never 0, where a root has no gradient
