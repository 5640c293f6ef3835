"""Charts over spans: the best binary tree, the sum over all of them, how likely each span is, how unsure all are.

Scores are of half-open spans, ``scores[b, i, j]`` [B, N + 1, N + 1], for 0 <= i < j <= lengths[b]; a tree's score is
the sum over its spans of two words and more, the whole sentence's among them. Entries elsewhere count for nothing,
whatever they are. Everything is differentiable but the best tree; time is cubic in N, with N steps one after another.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stillroom.blocks.trees import Span


def real_spans(lengths: Tensor, size: int) -> Tensor:
    """Which entries of a chart are spans of two words and more [B, size, size]."""
    starts, ends = torch.arange(size, device=lengths.device)[:, None], torch.arange(size, device=lengths.device)
    return (ends - starts > 1) & (ends <= lengths[:, None, None])


def _diagonals(
    scores: Tensor, lengths: Tensor, combine: Callable[[Tensor], tuple[Tensor, Tensor | None]]
) -> tuple[list[Tensor], list[Tensor | None]]:
    """For each width w from 1: the value of all spans of that width [B, N + 1 - w], and what `combine` chose there.

    A span's value is its score and the combination over its splits, the leftmost first, of what its two parts have.
    """
    size = scores.shape[1]
    _check(scores, lengths)
    scores = scores.masked_fill(~real_spans(lengths, size), 0.0)
    values: list[Tensor] = [scores.new_zeros(len(scores), 0), scores.new_zeros(len(scores), size - 1)]
    chosen: list[Tensor | None] = [None, None]
    for width in range(2, size):
        count = size - width
        splits = [values[k][:, :count] + values[width - k][:, k : k + count] for k in range(1, width)]
        best, choice = combine(torch.stack(splits, -1))
        values.append(best + scores.diagonal(width, 1, 2))
        chosen.append(choice)
    return values, chosen


def _check(scores: Tensor, lengths: Tensor) -> None:
    if scores.dim() != 3 or scores.shape[1] != scores.shape[2] or len(lengths) != len(scores):
        raise ValueError(f"scores [B, N + 1, N + 1] and lengths [B] are needed; scores are {tuple(scores.shape)}")
    if len(lengths) and (int(lengths.min()) < 1 or int(lengths.max()) >= scores.shape[1]):
        raise ValueError(f"lengths lie between 1 and {scores.shape[1] - 1}, which is what the scores have room for")


def _at_top(values: list[Tensor], lengths: Tensor) -> Tensor:
    """The value of each whole sentence [B]."""
    firsts = torch.stack([value[:, 0] for value in values[1:]], 1)
    return firsts.gather(1, lengths[:, None] - 1).squeeze(1)


def best_trees(scores: Tensor, lengths: Tensor) -> tuple[Tensor, list[list[Span]]]:
    """CYK: the score of the best binary tree [B], and its spans of two words and more.

    Among equals the first split from the left is taken, which makes the left part the smallest.
    """
    with torch.no_grad():
        values, chosen = _diagonals(
            scores,
            lengths,
            lambda splits: (splits.amax(-1), splits.argmax(-1)),  # argmax gives the first of equals
        )
    tables = [None if one is None else one.tolist() for one in chosen]
    trees = []
    for row, length in enumerate(lengths.tolist()):
        found, open_ = list[Span](), [(0, length)]
        while open_:
            start, end = open_.pop()
            if (table := tables[end - start]) is None:
                continue
            found.append((start, end))
            split = start + 1 + table[row][start]
            open_ += [(split, end), (start, split)]
        trees.append(found)
    return _at_top(values, lengths), trees


def log_partition(scores: Tensor, lengths: Tensor) -> Tensor:
    """The log of the sum over all binary trees of exp(score) [B]: the inside algorithm."""
    values, _ = _diagonals(scores, lengths, lambda splits: (splits.logsumexp(-1), None))
    return _at_top(values, lengths)


def span_marginals(scores: Tensor, lengths: Tensor) -> Tensor:
    """How likely each span is under the distribution exp(score) / sum [B, N + 1, N + 1]; 0 where there is no span."""
    with torch.enable_grad():
        leaf = scores.detach().requires_grad_()
        (found,) = torch.autograd.grad(log_partition(leaf, lengths).sum(), leaf)
    return found


def tree_entropy(scores: Tensor, lengths: Tensor) -> Tensor:
    """The entropy of that distribution over trees, in nats [B]."""
    real = real_spans(lengths, scores.shape[1])
    expected = (span_marginals(scores, lengths) * scores.masked_fill(~real, 0.0)).sum((1, 2))
    return log_partition(scores, lengths) - expected
