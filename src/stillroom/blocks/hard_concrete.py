"""Masks that are learnt: hard-concrete variables (Louizos, Welling and Kingma, 2018), and the sparsity they promise.

A variable has one parameter, log alpha. In training it is drawn: mostly an exact 0 or 1, with a gradient all the same.
Its chance of not being 0 is known in closed form, so that an expected size can be held at a target by multipliers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LOW, HIGH = -0.1, 1.1
TEMPERATURE = 2 / 3
SMALLEST = 1e-6
LIMITS = math.log(0.01), math.log(100.0)
SHARPER = 0.8  # of the soft value that a mask is left with


class HardConcrete(nn.Module):
    """Some variables of one kind.

    Args:
        shape: how many; the last axis is the group whose number of zeros is settled together.
        start: mean of log alpha to begin with; its standard deviation is 0.01.
    """

    def __init__(self, *shape: int, start: float = 10.0) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(start + 0.01 * torch.randn(shape))

    def forward(self, noise: Tensor) -> Tensor:
        """Values in [0, 1], drawn by uniform noise of the same shape in [0, 1]."""
        noise = noise.clamp(SMALLEST, 1 - SMALLEST)
        soft = torch.sigmoid((noise.logit() + self.log_alpha) / TEMPERATURE)
        return (soft * (HIGH - LOW) + LOW).clamp(0, 1)

    def open(self) -> Tensor:
        """Each variable's probability of not being 0."""
        return torch.sigmoid(self.log_alpha - TEMPERATURE * math.log(-LOW / HIGH)).clamp(SMALLEST, 1 - SMALLEST)

    def kept(self) -> Tensor:
        """How many of each group are expected not to be 0, rounded; [...] without the last axis."""
        size = self.log_alpha.shape[-1]
        return size - (size - self.open().sum(-1)).round().long()

    def settled(self, kept: Tensor | int | None = None) -> Tensor:
        """What the masks are when nothing is drawn: zeros for all but the largest, and soft values for these.

        Args:
            kept: how many of each group are not 0; as many as are expected to be by default.
        """
        kept = self.kept().unsqueeze(-1) if kept is None else kept
        soft = torch.sigmoid(self.log_alpha / TEMPERATURE * SHARPER)
        rank = self.log_alpha.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
        return soft * (rank < kept)

    @torch.no_grad()
    def clamp(self) -> None:
        """Keep log alpha where it can still move."""
        self.log_alpha.clamp_(*LIMITS)


class Sparsity(nn.Module):
    """Holds an expected sparsity s at a target t by two multipliers: l1 (s - t) + l2 (s - t)^2.

    The multipliers start at 0 and *rise* along their gradient while everything else goes down, so that a target that
    is missed costs ever more (Wang, Wohlwend and Lei, 2020). The turn is in the gradient that they get here, and any
    optimiser that minimises will do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.square = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, sparsity: Tensor, target: float) -> Tensor:
        """The cost of missing the target."""
        missed = sparsity - target
        return _rising(self.linear) * missed + _rising(self.square) * missed.square()


def _rising(value: Tensor) -> Tensor:
    """The value, with its gradient turned round."""
    return 2 * value.detach() - value
