"""Losses over binary trees: how unlikely the given one is among all."""

from __future__ import annotations

import torch
from torch import Tensor

from stillroom.blocks.charts import log_partition, real_spans
from stillroom.signals import Reduced, masked_sum


def tree_nll(scores: Tensor, spans: Tensor, lengths: Tensor, mask: Tensor) -> Reduced:
    """-log p(tree), where a tree's probability is in proportion to the exp of its spans' summed scores.

    Args:
        scores: of half-open spans [B, N + 1, N + 1]; see `stillroom.blocks.charts`.
        spans: bool [B, N + 1, N + 1], the spans of the given binary tree; those of single words count for nothing.
        lengths: words of each sentence [B], at least 1.
        mask: bool [B], sentences that count.

    Returns:
        The sum over sentences, and how many count.

    Raises:
        ValueError: a tree of a sentence that counts is not binary.
    """
    real = real_spans(lengths, scores.shape[1])
    given = spans & real
    if bool((mask & (given.sum((1, 2)) != lengths - 1)).any()):
        raise ValueError("a binary tree over n words has n - 1 spans of two words and more, and one has not")
    shown = scores.masked_fill(~(real & mask[:, None, None]), 0.0)
    said = torch.where(given, shown, 0.0).sum((1, 2))
    return masked_sum(log_partition(shown, lengths) - said, mask)
