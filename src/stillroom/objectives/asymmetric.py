"""Multi-label classification where nearly every label is absent."""

from __future__ import annotations

import torch
from torch import Tensor

from stillroom.objectives.rows import select
from stillroom.signals import Reduced


def asymmetric(
    logits: Tensor,
    targets: Tensor,
    mask: Tensor,
    *,
    gamma_negative: float = 4.0,
    gamma_positive: float = 0.0,
    clip: float = 0.05,
) -> Reduced:
    """The asymmetric loss (Ridnik et al., 2021): absent labels count little once they are held unlikely.

    With p = sigmoid(logit) and p_m = max(p - clip, 0), a label that is there costs -(1 - p)^gamma_positive log p, one
    that is not -p_m^gamma_negative log(1 - p_m).

    Args:
        logits: [..., C].
        targets: [..., C], true where a label is there.
        mask: [...].
        gamma_negative: how fast absent labels fade, >= 0.
        gamma_positive: the same of labels that are there, >= 0.
        clip: absent labels held less likely than this cost nothing, in [0, 1).

    Returns:
        The sum over masked rows of their mean over C, and the number of these rows.

    Raises:
        ValueError: a value outside its range, or shapes that disagree.
    """
    if min(gamma_negative, gamma_positive) < 0 or not 0 <= clip < 1:
        raise ValueError(f"gammas are >= 0 and clip in [0, 1); they are {gamma_negative}, {gamma_positive} and {clip}")
    if logits.shape != targets.shape:
        raise ValueError(f"logits have the shape {tuple(logits.shape)} and targets {tuple(targets.shape)}")
    rows, there = select(logits, mask), select(targets.bool(), mask)
    likely = rows.sigmoid()
    shifted = (likely - clip).clamp(min=0)
    present = -((1 - likely) ** gamma_positive) * torch.nn.functional.logsigmoid(rows)
    absent = -(shifted**gamma_negative) * torch.log1p(-shifted)
    return Reduced(torch.where(there, present, absent).mean(-1).sum(), mask.bool().sum())
