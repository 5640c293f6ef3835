"""Losses of models that score pairs of nodes.

Shapes: ``B`` rows, ``N`` pairs a row.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from stillroom.objectives.rows import in_float32, need_shape
from stillroom.objectives.sequence import row_means
from stillroom.signals import Reduced


def link_bce(scores: Tensor, links: Tensor, mask: Tensor) -> Reduced:
    """Binary cross-entropy of a link's probability, the mean over each row's pairs.

    Args:
        scores: [B, N], logits.
        links: [B, N], 1 where a link joins the pair and 0 where none does; pairs marked otherwise are left out.
        mask: [B, N], the pairs that are there.

    Returns:
        The sum of the rows' means, and the number of rows that have any pair.
    """
    need_shape(mask, scores.shape)
    judged = mask.bool() & (links >= 0)
    logits = in_float32(scores).masked_fill(~judged, 0.0)
    losses = F.binary_cross_entropy_with_logits(logits, (links == 1).to(logits.dtype), reduction="none")
    return Reduced(row_means(losses, judged).sum(), mask.bool().any(-1).sum())
