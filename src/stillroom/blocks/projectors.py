"""Bringing vectors to another width: a student's to a teacher's by a learnt map, or any to fewer dimensions by PCA.

A projector is made in a method's `setup`, so that it is trained and checkpointed, and absent from the exported student.

Shapes: [..., width_in] -> [..., width_out].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillroom.errors import UserError, nearest


class MLP(nn.Module):
    """Linear, GELU, Linear.

    Args:
        width_in: of the vectors that come in.
        width_out: of those that go out.
        hidden: width between; the larger of the two by default.
    """

    def __init__(self, width_in: int, width_out: int, *, hidden: int | None = None) -> None:
        super().__init__()
        between = max(width_in, width_out) if hidden is None else hidden
        self.layers = nn.Sequential(nn.Linear(width_in, between), nn.GELU(), nn.Linear(between, width_out))

    def forward(self, vectors: Tensor) -> Tensor:
        """[..., width_in] -> [..., width_out]."""
        return self.layers(vectors)


def projector(width_in: int, width_out: int, kind: str = "linear") -> nn.Module:
    """A map from one width to another.

    Args:
        width_in: the student's width.
        width_out: the teacher's.
        kind: ``linear``, which is the identity where the widths agree, or ``mlp``, which never is.

    Raises:
        UserError: an unknown kind.
        ValueError: a width below 1.
    """
    if min(width_in, width_out) < 1:
        raise ValueError(f"widths must be at least 1, not {width_in} and {width_out}")
    if kind == "linear":
        return nn.Identity() if width_in == width_out else nn.Linear(width_in, width_out)
    if kind == "mlp":
        return MLP(width_in, width_out)
    raise UserError(f"unknown projector {kind!r}{nearest(kind, ('linear', 'mlp'))}; there are linear and mlp")


def principal_components(vectors: Tensor, count: int) -> Tensor:
    """The first principal components [count, D] of vectors [N, D], each with its largest entry positive."""
    centred = (vectors - vectors.mean(0)).double()
    _, _, directions = torch.linalg.svd(centred.T @ centred)
    found = directions[:count]
    largest = found.gather(1, found.abs().argmax(1, keepdim=True))
    return (found * largest.sign()).to(vectors)
