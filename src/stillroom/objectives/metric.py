"""Learning by class which rows are to lie near each other, without a teacher.

Shapes: ``N`` rows, ``n`` of them inside the mask, ``H`` width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stillroom.objectives.rows import select
from stillroom.signals import Reduced


def triplet(vectors: Tensor, labels: Tensor, mask: Tensor, *, margin: float) -> Reduced:
    """max(0, d(a, p) - d(a, n) + margin), for rows a and p of one class and n of another, by Euclidean distance.

    All triplets of the batch are formed, and those that keep their margin are not counted: they would drown the others
    ("batch all", Hermans et al., 2017, section 2).

    Args:
        vectors: [N, H]. Scale them to length 1 first if it is cosines that will be searched by.
        labels: [N], the class of each row.
        mask: [N].
        margin: above 0.

    Returns:
        The sum over the triplets that break their margin, and their number; 0 where a batch has none at all.
    """
    if not margin > 0:
        raise ValueError(f"margin must be above 0, not {margin}")
    vectors, labels = select(vectors, mask), select(labels, mask)
    distances = euclidean(vectors)
    same = labels.unsqueeze(1) == labels
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    excess = distances.unsqueeze(2) - distances.unsqueeze(1) + margin  # [anchor, positive, negative]
    broken = positive.unsqueeze(2) & ~same.unsqueeze(1) & (excess > 0)
    return Reduced(excess.masked_fill(~broken, 0.0).sum(), broken.sum())


def euclidean(rows: Tensor) -> Tensor:
    """The distance of each of [n, H] to each, [n, n]; rows that coincide get a gradient of 0."""
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
