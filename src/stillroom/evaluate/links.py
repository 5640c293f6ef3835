"""How well scores tell pairs that a link joins from pairs that none does."""

from __future__ import annotations

import torch
from torch import Tensor

from stillroom.errors import need


def hits_at_k(positive: Tensor, negative: Tensor, k: int) -> float:
    """The share of joined pairs that score above the k-th best of the others (Hu et al., 2020, OGB).

    Args:
        positive: [P], scores of joined pairs.
        negative: [N], scores of others; with fewer than k of them every joined pair hits.
        k: at least 1.

    Raises:
        ValueError: k below 1, or no joined pairs.
    """
    if k < 1 or not len(positive):
        raise ValueError(f"hits@k needs a k of at least 1 and joined pairs; there are k={k} and {len(positive)} pairs")
    if len(negative) < k:
        return 1.0
    return float((positive > torch.topk(negative, k).values[-1]).double().mean())


def link_auc(positive: Tensor, negative: Tensor) -> float:
    """The chance that a joined pair scores above another, ties for one half (area under the ROC curve)."""
    measure = need("sklearn.metrics", "lexical").roc_auc_score
    truth = [1] * len(positive) + [0] * len(negative)
    return float(measure(truth, torch.cat([positive, negative]).tolist()))
