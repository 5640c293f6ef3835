"""Biaffine scores of pairs: arcs, spans, or edges with labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Biaffine(nn.Module):
    """s(x, y) = [x; 1]^T W [y; 1] for each label (Dozat and Manning 2017).

    Args:
        width: of x and y.
        labels: scores a pair.
        bias: whether a 1 is put to both.
    """

    def __init__(self, width: int, labels: int = 1, *, bias: bool = True) -> None:
        super().__init__()
        self.bias = bias
        self.weight = nn.Parameter(torch.zeros(labels, width + bias, width + bias))
        nn.init.normal_(self.weight, std=1 / width)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Scores [B, N, M, labels] of left [B, N, D] with right [B, M, D]."""
        if self.bias:
            left, right = F.pad(left, (0, 1), value=1.0), F.pad(right, (0, 1), value=1.0)
        return torch.einsum("bnd,lde,bme->bnml", left, self.weight, right)
