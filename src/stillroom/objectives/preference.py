"""Learning from which of several answers is preferred, given the log-probability of each.

The log-probs are those of `stillroom.objectives.sequence_log_prob`, sums or means as the method has it, under the
student and under a reference that is held fixed (a frozen start, or the teacher). With h = [log q(chosen)
- log r(chosen)] - [log q(rejected) - log r(rejected)], a loss asks for h > 0. Without a reference, pass zeros for it.

Shapes: ``B`` pairs (any shape will do, tokens [B, T] as well), ``N`` candidates, ``K`` ranked places.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from stillroom.objectives.rows import need_shape, select
from stillroom.signals import Reduced


def dpo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    mask: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Reduced:
    """-log sigmoid(beta h): direct preference optimisation (Rafailov et al., 2023).

    Args:
        chosen: [B], log-prob of the preferred answer under the student.
        rejected: [B], of the other answer.
        reference_chosen: [B], under the reference.
        reference_rejected: [B].
        mask: [B], the pairs that count.
        beta: above 0; how strongly the student is held to the reference.
        label_smoothing: the share of preferences, in [0, 0.5), that are taken to be the wrong way round.

    Returns:
        The sum over pairs, and their number.

    Raises:
        ValueError: ``beta`` or ``label_smoothing`` out of range.
    """
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is a share in [0, 0.5), not {label_smoothing}")
    logits = _positive(beta) * _margin(chosen, rejected, reference_chosen, reference_rejected, mask)
    losses = (1 - label_smoothing) * F.softplus(-logits) + label_smoothing * F.softplus(logits)
    return Reduced(losses.sum(), mask.bool().sum())


def ipo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    mask: Tensor,
    *,
    beta: float = 0.1,
) -> Reduced:
    """(h - 1 / (2 beta))^2: identity preference optimisation (Azar et al., 2024); arguments as in `dpo`."""
    margin = _margin(chosen, rejected, reference_chosen, reference_rejected, mask)
    return Reduced((margin - 0.5 / _positive(beta)).square().sum(), mask.bool().sum())


def preference_hinge(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    mask: Tensor,
    *,
    beta: float = 0.1,
) -> Reduced:
    """max(0, 1 - beta h): SLiC's hinge on the ratio to a reference (RSO, Liu et al., 2024); arguments as in `dpo`.

    SLiC itself, without a reference and with a margin in nats, is `stillroom.objectives.pairwise_hinge`.
    """
    margin = _margin(chosen, rejected, reference_chosen, reference_rejected, mask)
    return Reduced(F.relu(1 - _positive(beta) * margin).sum(), mask.bool().sum())


def plackett_luce(scores: Tensor, ranking: Tensor, mask: Tensor) -> Reduced:
    """-log probability of drawing candidates in the ranked order (Plackett, 1975; ListMLE, Xia et al., 2008).

    At each place the ranked candidate competes with all that are not placed yet, the unranked ones included: a partial
    ranking says that its members come first, in this order. Two candidates give the logistic pairwise loss.

    Args:
        scores: [B, N].
        ranking: [B, K], the index of the best candidate first. A shorter ranking ends with -1s.
        mask: [B, N], real candidates. Every ranked one must be.

    Returns:
        The sum over lists, and the number of lists with any rank.

    Raises:
        ValueError: a ranked candidate that is padding, or ranked twice, or does not exist.
    """
    need_shape(mask, scores.shape)
    lists = (ranking >= 0).any(-1)
    scores, ranking, mask = select(scores, lists), select(ranking, lists), select(mask.bool(), lists)
    ranked, places = ranking >= 0, ranking.clamp(min=0)
    if ranking.numel() and int(ranking.max()) >= scores.shape[-1]:
        raise ValueError(f"candidate {int(ranking.max())} is ranked, but a list has {scores.shape[-1]}")
    placed = F.one_hot(places, scores.shape[-1]) * ranked.unsqueeze(-1)  # [B, K, N]
    if (placed.sum(1) > mask).any():
        raise ValueError("a ranking names a candidate twice, or one that its mask calls padding")
    waiting = mask.unsqueeze(1) & (placed.cumsum(1) - placed == 0)
    scores = scores.unsqueeze(1).expand(placed.shape)[ranked]  # [places, N]
    chances = scores.masked_fill(~waiting[ranked], -math.inf).log_softmax(-1)
    return Reduced(-chances.gather(-1, places[ranked].unsqueeze(-1)).sum(), lists.sum())


def _margin(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, mask: Tensor
) -> Tensor:
    """The margin h of the pairs inside the mask."""
    parts = torch.stack([select(part, mask) for part in (chosen, reference_chosen, rejected, reference_rejected)])
    return (parts[0] - parts[1]) - (parts[2] - parts[3])


def _positive(beta: float) -> float:
    if not beta > 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    return beta
