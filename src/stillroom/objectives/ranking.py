"""Teaching the order and the distances of scores among candidates.

Two kinds: losses over candidate lists, [B, N] with a mask of the real candidates, and the pairwise losses that they are
made of, on any two tensors of scores where one is meant to lie above the other. Teacher scores are not detached here.

Shapes: ``B`` lists, ``N`` candidates, ``...`` pairs of any shape.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from stillroom.objectives.divergence import Divergence, forward_kl
from stillroom.objectives.rows import in_float32, need_shape, select
from stillroom.signals import Reduced


def score_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Reduced:
    """Squared differences of scores (or margins, or any numbers), [...] all three, summed over the mask."""
    return Reduced((select(student, mask) - select(teacher, mask)).square().sum(), mask.bool().sum())


def margin_mse(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor) -> Reduced:
    """Squared differences of margins, positive over negative (Margin-MSE, Hofstätter et al., 2020).

    Args:
        student_scores: [B, N]; candidate 0 is the positive, the others are its negatives.
        teacher_scores: [B, N], on any scale of which the differences make sense: logits, not probabilities.
        mask: [B, N], real candidates. A list without its positive counts for nothing.

    Returns:
        The sum over pairs of the positive and a negative, and the number of pairs.
    """
    need_shape(mask, student_scores.shape)
    student, teacher = (scores[:, :1] - scores[:, 1:] for scores in map(in_float32, (student_scores, teacher_scores)))
    return score_mse(student, teacher, mask[:, :1].bool() & mask[:, 1:].bool())


def listwise_kl(
    student_scores: Tensor,
    teacher_scores: Tensor,
    mask: Tensor,
    *,
    divergence: Divergence = forward_kl,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    weight: Tensor | None = None,
) -> Reduced:
    """A divergence of the student's softmax over each list from the teacher's (ListNet, Cao et al., 2007).

    Args:
        student_scores: [B, N].
        teacher_scores: [B, N].
        mask: [B, N], real candidates.
        divergence: any row function of `stillroom.objectives.divergence`.
        student_temperature: divides the student's scores.
        teacher_temperature: divides the teacher's; below 1 sharpens them.
        weight: [B], a factor for each list.

    Returns:
        The sum over the lists that have any candidate, and their number.

    Raises:
        ValueError: a temperature that is not above 0.
    """
    if not (student_temperature > 0 and teacher_temperature > 0):
        raise ValueError(f"temperatures must be above 0, not {student_temperature} and {teacher_temperature}")
    need_shape(mask, student_scores.shape)
    mask = mask.bool()
    lists = mask.any(-1)
    student, teacher = (
        (select(scores, lists) / temperature).masked_fill(~mask[lists], -math.inf).log_softmax(-1)
        for scores, temperature in ((student_scores, student_temperature), (teacher_scores, teacher_temperature))
    )
    each = divergence(student, teacher)
    return Reduced((each if weight is None else each * select(weight, lists)).sum(), lists.sum())


def pairwise_logistic(
    better: Tensor,
    worse: Tensor,
    mask: Tensor,
    *,
    probability: Tensor | None = None,
    weight: Tensor | None = None,
) -> Reduced:
    """Cross-entropy of "better beats worse" under sigmoid(better - worse) (RankNet, Burges et al., 2005).

    Args:
        better: [...], scores.
        worse: [...], scores.
        mask: [...], the pairs that count.
        probability: [...], the teacher's probability that better does beat worse; 1 by default.
        weight: [...], a factor for each pair.

    Returns:
        The sum over pairs, and their number.
    """
    margin = select(better, mask) - select(worse, mask)
    losses = F.softplus(-margin)
    if probability is not None:
        losses = losses + (1 - select(probability, mask)) * margin
    if weight is not None:
        losses = losses * select(weight, mask)
    return Reduced(losses.sum(), mask.bool().sum())


def pairwise_hinge(better: Tensor, worse: Tensor, mask: Tensor, *, margin: float | Tensor = 1.0) -> Reduced:
    """max(0, margin - (better - worse)), summed over the pairs that count.

    Args:
        better: [...], scores or sequence log-probs.
        worse: [...].
        mask: [...], the pairs that count.
        margin: how far better should lie above worse; a tensor [...] gives each pair its own.

    Returns:
        The sum over pairs, and their number.
    """
    margins = select(margin, mask) if isinstance(margin, Tensor) else margin
    return Reduced(F.relu(margins - (select(better, mask) - select(worse, mask))).sum(), mask.bool().sum())


def ranknet(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor, *, threshold: float = 0.0) -> Reduced:
    """`pairwise_logistic` over all pairs of a list that the teacher orders.

    Args:
        student_scores: [B, N].
        teacher_scores: [B, N]; the order is all that is used.
        mask: [B, N], real candidates.
        threshold: a pair is ordered where the teacher's scores differ by more than this.

    Returns:
        The sum over ordered pairs, and their number.
    """
    better, worse = _all_pairs(student_scores)
    return pairwise_logistic(better, worse, ordered_pairs(teacher_scores, mask, threshold=threshold))


def rank_hinge(
    student_scores: Tensor, teacher_scores: Tensor, mask: Tensor, *, margin: float = 1.0, threshold: float = 0.0
) -> Reduced:
    """`pairwise_hinge` over all pairs of a list that the teacher orders; arguments as in `ranknet`."""
    better, worse = _all_pairs(student_scores)
    return pairwise_hinge(better, worse, ordered_pairs(teacher_scores, mask, threshold=threshold), margin=margin)


def lambda_loss(student_scores: Tensor, gains: Tensor, mask: Tensor) -> Reduced:
    """RankNet with each pair weighted by how much swapping it would change nDCG (LambdaRank, Burges et al., 2006).

    The weight of (i, j) is |gain_i - gain_j| |1/log2(1 + rank_i) - 1/log2(1 + rank_j)| / ideal DCG, with ranks by the
    student's current scores; it carries no gradient.

    Args:
        student_scores: [B, N].
        gains: [B, N], not negative: 2^grade - 1 for graded judgements, or a teacher's probabilities of relevance.
        mask: [B, N], real candidates.

    Returns:
        The sum over pairs and lists, and the number of lists with two candidates that differ in gain.
    """
    pairs = ordered_pairs(gains, mask)
    lists = pairs.flatten(1).any(-1)
    scores, gains, mask, pairs = (select(part, lists) for part in (student_scores, gains, mask.bool(), pairs))
    better, worse = _all_pairs(scores)
    total = pairwise_logistic(better, worse, pairs, weight=_ndcg_changes(scores.detach(), gains.detach(), mask)).sum
    return Reduced(total, lists.sum())


def ordered_pairs(teacher_scores: Tensor, mask: Tensor, *, threshold: float = 0.0) -> Tensor:
    """[B, N] -> [B, N, N], true at (i, j) where both are real and the teacher puts i above j by more than threshold."""
    need_shape(mask, teacher_scores.shape)
    mask, scores = mask.bool(), in_float32(teacher_scores)
    above = scores.unsqueeze(-1) > scores.unsqueeze(-2) + threshold
    return above & mask.unsqueeze(-1) & mask.unsqueeze(-2)


def _all_pairs(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [B, N] as the first and the second of each pair, [B, N, N]."""
    size = (*scores.shape, scores.shape[-1])
    return scores.unsqueeze(-1).expand(size), scores.unsqueeze(-2).expand(size)


def _ndcg_changes(scores: Tensor, gains: Tensor, mask: Tensor) -> Tensor:
    """|change of nDCG| when i and j swap places, [B, N, N]."""
    gains = gains.masked_fill(~mask, 0.0)
    order = scores.masked_fill(~mask, -math.inf).argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(scores.shape[-1], device=scores.device, dtype=scores.dtype)
    discounts = 1 / torch.log2(places + 2)
    by_candidate = torch.zeros_like(scores).scatter(-1, order, discounts.expand_as(scores))
    ideal = (gains.sort(-1, descending=True).values * discounts).sum(-1)
    swaps = [(part.unsqueeze(-1) - part.unsqueeze(-2)).abs() for part in (gains, by_candidate)]
    return swaps[0] * swaps[1] / ideal[:, None, None]
