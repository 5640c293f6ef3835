"""A learned scale of similarities, one over the temperature."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LearnedScale(nn.Module):
    """exp(a) with a trainable, kept at or below a maximum (CLIP, Radford et al., 2021).

    Args:
        initial: the scale at the start, above 0; CLIP starts at 1 / 0.07.
        maximum: the largest scale that is given out.

    Raises:
        ValueError: not 0 < initial <= maximum.
    """

    def __init__(self, initial: float = 1 / 0.07, *, maximum: float = 100.0) -> None:
        super().__init__()
        if not 0 < initial <= maximum:
            raise ValueError(f"a scale starts above 0 and at most at its maximum, not at {initial} of {maximum}")
        self.log_scale = nn.Parameter(torch.tensor(math.log(initial)))
        self.maximum = maximum

    def forward(self) -> Tensor:
        """The scale now."""
        hold_back(self.log_scale, maximum=self.maximum)
        return self.log_scale.exp()


@torch.no_grad()
def hold_back(log_scale: Tensor, *, minimum: float = 0.0, maximum: float = 100.0) -> None:
    """Keep the logarithm of a scale between those of two scales, in place.

    The parameter itself is held back: clamping only what is given out would stop its gradient for good.
    """
    log_scale.clamp_(math.log(minimum) if minimum else None, math.log(maximum))
