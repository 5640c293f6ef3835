"""Connectionist temporal classification: labels without places, read off a sequence of frames.

Shapes: ``B`` rows, ``F`` frames, ``U`` labels, ``V`` vocabulary with the blank.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from stillroom.objectives.rows import in_float32, need_shape
from stillroom.signals import Reduced


def ctc_loss(logits: Tensor, frames: Tensor, labels: Tensor, mask: Tensor, *, blank: int) -> Reduced:
    """-log of the summed probability of all paths that collapse to a row's labels, by label (Graves et al., 2006).

    A row with too few frames for its labels (`too_short`) has no path; it counts, and its loss and gradient are 0.

    Args:
        logits: [B, F, V].
        frames: [B, F], real frames, which come first.
        labels: [B, U], without blanks.
        mask: [B, U], real labels, which come first. A row without any is left out.
        blank: its id.

    Returns:
        The sum over rows of the loss divided by the row's number of labels, and the number of rows.
    """
    need_shape(frames, logits.shape[:2])
    need_shape(mask, labels.shape)
    mask = mask.bool()
    rows = mask.any(-1)
    if not rows.any():
        return Reduced(logits[rows].sum(), rows.sum())
    real, sizes = frames.bool()[rows], mask[rows].sum(-1)
    log_probs = in_float32(logits[rows]).masked_fill(~real.unsqueeze(-1), 0.0).log_softmax(-1)
    targets = labels[rows].masked_fill(~mask[rows], 0)
    losses = F.ctc_loss(
        log_probs.transpose(0, 1), targets, real.sum(-1), sizes, blank=blank, reduction="none", zero_infinity=True
    )
    return Reduced((losses / sizes).sum(), rows.sum())


def too_short(frames: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """[B], rows with fewer frames than labels and the blanks that must part equal neighbours."""
    mask = mask.bool()
    equal = (labels[:, 1:] == labels[:, :-1]) & mask[:, 1:]
    return frames.bool().sum(-1) < mask.sum(-1) + equal.sum(-1)


def greedy_labels(logits: Tensor, frames: Tensor, *, blank: int) -> list[list[int]]:
    """The labels of each row's likeliest path: the best id of every frame, repetitions collapsed, blanks removed."""
    best = logits.argmax(-1).masked_fill(~frames.bool(), blank)
    before = torch.cat([torch.full_like(best[:, :1], blank), best[:, :-1]], 1)
    kept = (best != blank) & (best != before)
    return [row[keep].tolist() for row, keep in zip(best.cpu(), kept.cpu(), strict=True)]
