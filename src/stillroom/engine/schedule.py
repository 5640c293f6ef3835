"""Learning-rate schedules as pure functions of the step, so that there is no schedule state to save."""

from __future__ import annotations

import math
from collections.abc import Callable

from stillroom.errors import UserError, nearest

Shape = Callable[[float], float]

# Each maps the progress after warm-up, in [0, 1], to a factor in [0, 1].
SHAPES: dict[str, Shape] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "stable-decay": lambda progress: min(1.0, (1.0 - progress) / 0.2),
}


def factor(step: int, total: int, *, warmup: float, shape: str) -> float:
    """What the learning rate is multiplied by at a step.

    Args:
        step: counted from 0.
        total: steps of the whole run.
        warmup: the share of the run, in [0, 1), in which the rate rises linearly from 0.
        shape: constant, linear, cosine, or stable-decay (flat, then linear over the last fifth).

    Returns:
        A number in [0, 1].

    Raises:
        UserError: an unknown shape.
    """
    if shape not in SHAPES:
        raise UserError(f"unknown schedule {shape!r}{nearest(shape, SHAPES)}; there are {', '.join(SHAPES)}")
    rise = math.ceil(warmup * total)
    if step < rise:
        return (step + 1) / (rise + 1)
    return SHAPES[shape]((step - rise) / max(total - rise, 1))
