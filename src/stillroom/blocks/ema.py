"""A slow copy of a model: the exponential moving average of its weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Momentum = Callable[[float], float]


def cosine_momentum(start: float = 0.996, end: float = 1.0) -> Momentum:
    """A momentum that rises from ``start`` to ``end`` along half a cosine (BYOL, Grill et al., 2020)."""
    return lambda progress: end - (end - start) * 0.5 * (1 + math.cos(math.pi * progress))


class EMA(nn.Module):
    """A copy of a model that follows it: copy <- momentum x copy + (1 - momentum) x model.

    The copy starts equal to the model, takes no gradient and stays in eval mode. Its weights are in the state dict, so
    that a resumed run goes on from the same average. Buffers (a batch norm's statistics) are taken over as they are.

    Args:
        model: what to follow. It is copied, not kept.
        momentum: in [0, 1], or a function of the progress in [0, 1] that gives it, such as `cosine_momentum`.
    """

    def __init__(self, model: nn.Module, momentum: float | Momentum = 0.999) -> None:
        super().__init__()
        self.copy = copy.deepcopy(model).requires_grad_(False).eval()
        self.momentum = momentum

    def momentum_at(self, progress: float) -> float:
        """The momentum at a progress in [0, 1].

        Raises:
            ValueError: it is outside [0, 1].
        """
        value = self.momentum(progress) if callable(self.momentum) else self.momentum
        if not 0 <= value <= 1:
            raise ValueError(f"a momentum lies in [0, 1], not at {value}")
        return value

    @torch.no_grad()
    def update(self, model: nn.Module, progress: float = 0.0) -> None:
        """Move the copy towards the model. Call it once an optimiser step, after the step.

        Args:
            model: the one that the copy was made from, wrapped or not.
            progress: of the training, in [0, 1]; matters only for a momentum that is a function.
        """
        keep = self.momentum_at(progress)
        for slow, fast in zip(self.copy.parameters(), model.parameters(), strict=True):
            slow.lerp_(fast.detach().to(slow), 1 - keep)
        for kept, now in zip(self.copy.buffers(), model.buffers(), strict=True):
            kept.copy_(now)

    def train(self, mode: bool = True) -> EMA:
        """Stays in eval mode whatever its owner does."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the copy gives, without gradient."""
        return self.copy(*args, **kwargs)
