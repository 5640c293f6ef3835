"""A table of token vectors with a weight for each token: the one layer of a static student while it is trained.

Shapes: ``V`` tokens, ``D`` width, ``N`` tokens of all texts of a batch, ``B`` texts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WeightedBag(nn.Module):
    """The mean of weighted token vectors, called as `torch.nn.EmbeddingBag` is.

    Args:
        vectors: [V, D].
        weights: [V], > 0. Their logarithms are what is learnt, so that a weight stays positive and a step changes it by
            a share of itself.
    """

    def __init__(self, vectors: Tensor, weights: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(vectors.clone())
        self.log_weights = nn.Parameter(weights.log())

    def forward(self, ids: Tensor, offsets: Tensor) -> Tensor:
        """[N] ids and [B] places where texts begin -> [B, D]; 0 for a text without tokens."""
        lengths = torch.diff(offsets, append=offsets.new_tensor([len(ids)]))
        weights = self.log_weights[ids].exp()
        sums = F.embedding_bag(ids, self.weight, offsets, mode="sum", per_sample_weights=weights)
        return sums / lengths.clamp(min=1).unsqueeze(1)


@torch.no_grad()
def folded(table: nn.Module) -> nn.Module:
    """A plain `torch.nn.EmbeddingBag` (mean) that gives what a `WeightedBag` gives; any other table as it is."""
    if not isinstance(table, WeightedBag):
        return table
    return nn.EmbeddingBag.from_pretrained(table.weight * table.log_weights.exp().unsqueeze(1), freeze=False)
