"""Contrastive losses: each anchor must pick its own target out of many.

`softmax_contrast` works on scores, whatever made them (dot products, late interaction, several sources side by side);
`info_nce` makes cosine or dot scores from vectors first. A batch's rows serve as each other's negatives, so these
losses depend on the batch by design.

Shapes: ``B`` anchors, ``M`` targets, ``K`` further negatives, ``D`` width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stillroom.objectives.divergence import Divergence, forward_kl
from stillroom.objectives.rows import in_float32, need_shape, products, select
from stillroom.signals import Reduced


def softmax_contrast(scores: Tensor, positives: Tensor, mask: Tensor, *, allowed: Tensor | None = None) -> Reduced:
    """-log of the share that an anchor's positives have of the softmax over its columns.

    -log [sum over positives of e^s / sum over allowed of e^s]: InfoNCE (van den Oord et al., 2018) for one positive,
    the soft nearest-neighbour form for several.

    Args:
        scores: [B, M], already scaled.
        positives: [B, M], true where a column is right for a row. A row without any is left out and not counted.
        mask: [B], the rows that count.
        allowed: [B, M], the columns that a row is compared with; all by default. A positive always is.

    Returns:
        The sum over the counted rows, and their number.
    """
    need_shape(positives, scores.shape)
    positives = positives.bool()
    rows = mask.bool() & positives.any(-1)
    scores, positives = select(scores, rows), select(positives, rows)
    others = torch.zeros_like(positives) if allowed is None else ~(select(allowed.bool(), rows) | positives)
    of_all = scores.masked_fill(others, -math.inf).logsumexp(-1)
    of_positives = scores.masked_fill(~positives, -math.inf).logsumexp(-1)
    return Reduced((of_all - of_positives).sum(), rows.sum())


def info_nce(
    anchors: Tensor,
    targets: Tensor,
    mask: Tensor,
    *,
    scale: float | Tensor = 1.0,
    positives: Tensor | None = None,
    columns: Tensor | None = None,
    allowed: Tensor | None = None,
    negatives: Tensor | None = None,
    negative_mask: Tensor | None = None,
    margin: float = 0.0,
    normalise: bool = True,
) -> Reduced:
    """`softmax_contrast` of each anchor's scaled similarities to the targets and to further negatives.

    Args:
        anchors: [B, D].
        targets: [M, D].
        mask: [B], the anchors that count.
        scale: one over the temperature, or a learned scale.
        positives: [B, M], true where a target is right for an anchor. By default target i is anchor i's, and M = B.
        columns: [M], the targets that exist (not padding). By default those of ``mask`` where target i is anchor i's,
            else all.
        allowed: [B, M], the pairs that may be contrasted: false for other targets of the anchor's class, say.
        negatives: [K, D] shared by all anchors (a queue, the anchors themselves) or [B, K, D] each anchor's own.
        negative_mask: [K] or [B, K], the negatives that exist for an anchor; all by default.
        margin: taken off a positive's similarity before scaling (additive margin softmax, Yang et al., 2019).
        normalise: compare by cosine; otherwise by inner product.

    Returns:
        The sum over the anchors that have a positive, and their number.

    Raises:
        ValueError: sizes that disagree.
    """
    if positives is None and len(anchors) != len(targets):
        raise ValueError(f"{len(anchors)} anchors and {len(targets)} targets do not pair up; say which belong together")
    if columns is None:
        columns = mask if positives is None else mask.new_ones(len(targets))
    if positives is None:
        positives = torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
    mask, columns = mask.bool(), columns.bool()

    kept = _vectors(select(anchors, mask), normalise)
    scores = products(kept, _vectors(select(targets, columns), normalise))
    positives = positives.bool()[mask][:, columns]
    allowed = torch.ones_like(positives) if allowed is None else allowed.bool()[mask][:, columns]
    scores = scores - margin * positives
    if negatives is not None:
        more, usable = _negative_scores(kept, negatives, negative_mask, mask, normalise)
        scores, allowed = torch.cat([scores, more], -1), torch.cat([allowed, usable], -1)
        positives = F.pad(positives, (0, more.shape[-1]))
    return softmax_contrast(scale * scores, positives, mask.new_ones(len(kept)), allowed=allowed)


def two_sided_info_nce(
    first: Tensor,
    second: Tensor,
    mask: Tensor,
    *,
    scale: float | Tensor = 1.0,
    positives: Tensor | None = None,
    allowed: Tensor | None = None,
    margin: float = 0.0,
    normalise: bool = True,
) -> Reduced:
    """The mean of `info_nce` in both directions, as in CLIP (Radford et al., 2021).

    Args:
        first: [B, D].
        second: [B, D]; row i belongs to row i of ``first``.
        mask: [B], the pairs that count.
        scale: one over the temperature, or a learned scale.
        positives: [B, B], further pairs that belong together, beside the diagonal.
        allowed: [B, B], the pairs that may be contrasted.
        margin: taken off a positive's similarity before scaling.
        normalise: compare by cosine; otherwise by inner product.

    Returns:
        The sum over pairs, and their number.
    """
    own = torch.eye(len(first), dtype=torch.bool, device=first.device)
    pairs = own if positives is None else own | positives.bool()
    shared: dict[str, Any] = {"scale": scale, "columns": mask, "margin": margin, "normalise": normalise}
    there = info_nce(first, second, mask, positives=pairs, allowed=allowed, **shared)
    back = info_nce(second, first, mask, positives=pairs.T, allowed=None if allowed is None else allowed.T, **shared)
    return mean_of_both(there, back)


def mean_of_both(there: Reduced, back: Reduced) -> Reduced:
    """The mean of a loss in both directions, over the pairs that both count."""
    return Reduced(0.5 * (there.sum + back.sum), there.count)


def sigmoid_pairs(
    anchors: Tensor,
    targets: Tensor,
    positives: Tensor,
    mask: Tensor,
    *,
    columns: Tensor,
    scale: float | Tensor,
    bias: float | Tensor,
    normalise: bool = True,
) -> Reduced:
    """Each pair judged alone, sum over pairs of softplus(-y (scale s + bias)), y = 1 or -1 (SigLIP, Zhai et al., 2023).

    Args:
        anchors: [B, D].
        targets: [M, D].
        positives: [B, M], true where the two belong together.
        mask: [B], the anchors that count.
        columns: [M], the targets that count.
        scale: one over the temperature, or a learned scale.
        bias: added to every scaled similarity; a negative start offsets the many negatives.
        normalise: compare by cosine; otherwise by inner product.

    Returns:
        The sum over all pairs, and the number of *targets*: with one target an anchor that is the number of pairs that
        belong together.
    """
    mask, columns = mask.bool(), columns.bool()
    losses = sigmoid_pair_losses(
        select(anchors, mask),
        select(targets, columns),
        positives[mask][:, columns],
        scale=scale,
        bias=bias,
        normalise=normalise,
    )
    return Reduced(losses.sum(), columns.sum())


def sigmoid_pair_losses(
    anchors: Tensor,
    targets: Tensor,
    positives: Tensor,
    *,
    scale: float | Tensor,
    bias: float | Tensor,
    normalise: bool = True,
) -> Tensor:
    """`sigmoid_pairs` pair by pair: [B, M] of anchors [B, D] and targets [M, D], all of which count."""
    sign = 2.0 * positives - 1.0
    similarities = products(_vectors(anchors, normalise), _vectors(targets, normalise))
    return F.softplus(-sign * (scale * similarities + bias))


def contrast_divergence(
    anchors: Tensor,
    targets: Tensor,
    teacher_anchors: Tensor,
    teacher_targets: Tensor,
    mask: Tensor,
    *,
    scale: float | Tensor,
    teacher_scale: float | Tensor,
    divergence: Divergence = forward_kl,
    normalise: bool = True,
) -> Reduced:
    """How far two models' distributions over the targets of a batch are apart, each the softmax of an anchor's row.

    The two models may differ in width, as each compares its own vectors; one side may be shared by both (the teacher's
    targets, say, so that the student's anchors are held against them).

    Args:
        anchors: [B, D] of the student.
        targets: [B, D], what they are compared with.
        teacher_anchors: [B, E].
        teacher_targets: [B, E].
        mask: [B], the rows that count; the others are no targets either.
        scale: of the student's similarities, one over its temperature.
        teacher_scale: of the teacher's.
        divergence: of the student's from the teacher's log-probabilities, a row at a time.
        normalise: compare by cosine; otherwise by inner product.

    Returns:
        The sum over anchors, and their number.
    """
    ours, theirs = (
        (factor * products(*(_vectors(select(side, mask), normalise) for side in sides))).log_softmax(-1)
        for factor, *sides in ((scale, anchors, targets), (teacher_scale, teacher_anchors, teacher_targets))
    )
    return Reduced(divergence(ours, theirs).sum(), mask.bool().sum())


def info_nce_gradients(anchors: Tensor, targets: Tensor, *, scale: float | Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the mean one-sided InfoNCE with respect to anchors and targets, in closed form.

    With P the softmax of the rows of scale A T^T: scale (P - I) T / B and scale (P - I)^T A / B. Differentiable
    themselves, as they are written out and not taken by autograd.

    Args:
        anchors: [B, D], as they are (not normalised here).
        targets: [B, D]; row i belongs to row i of ``anchors``.
        scale: one over the temperature.

    Returns:
        Two tensors [B, D].
    """
    anchors, targets = in_float32(anchors), in_float32(targets)
    chances = (scale * products(anchors, targets)).softmax(-1)
    errors = scale / max(len(anchors), 1) * (chances - torch.eye(len(anchors)).to(chances))
    return products(errors, targets.T), products(errors.T, anchors.T)


def _negative_scores(
    kept: Tensor, negatives: Tensor, negative_mask: Tensor | None, mask: Tensor, normalise: bool
) -> tuple[Tensor, Tensor]:
    """Unscaled similarities of the kept anchors to the negatives, and which of them are real; [kept, K] both."""
    if negative_mask is None:
        negative_mask = mask.new_ones(negatives.shape[-2])
    usable = negative_mask[mask] if negative_mask.dim() == 2 else negative_mask.expand(len(kept), -1)
    usable = usable.bool()
    shared = negatives.dim() == 2
    real = usable.any(0) if shared else usable
    vectors = (negatives if shared else negatives[mask]).masked_fill(~real.unsqueeze(-1), 0.0)
    vectors = _vectors(vectors, normalise)
    scores = products(kept, vectors) if shared else products(kept.unsqueeze(1), vectors).squeeze(1)
    return scores, usable


def _vectors(rows: Tensor, normalise: bool) -> Tensor:
    rows = in_float32(rows)
    return F.normalize(rows, dim=-1) if normalise else rows
