"""Log-probabilities of given labels, by token and by sequence, and plain cross-entropy.

Labels are aligned: ``labels[b, t]`` is what ``logits[b, t]`` predicts. Outside the mask a label may be anything.

Shapes: ``B`` rows, ``T`` tokens, ``V`` vocabulary or classes, ``N`` entries inside the mask.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from stillroom.objectives.logits import masked_log_probs
from stillroom.objectives.rows import in_float32, need_shape, select, spread
from stillroom.signals import Reduced


def token_log_probs(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The log-probability of each label, 0 outside the mask.

    Args:
        logits: [B, T, V] (or [B, V]).
        labels: [B, T] (or [B]), ids in [0, V) wherever the mask is true.
        mask: [B, T] (or [B]).

    Returns:
        The mask's shape, in at least float32.

    Raises:
        ValueError: shapes that disagree, or a label outside the vocabulary inside the mask.
    """
    return spread(_label_log_probs(masked_log_probs(logits, mask), select(labels, mask)), mask)


def sequence_log_prob(
    logits: Tensor, labels: Tensor, mask: Tensor, *, reduce: Literal["sum", "mean"] = "sum"
) -> Tensor:
    """The log-probability of each row's labels, [B]: their sum, or their mean over the masked tokens.

    A row without a masked token gets 0. Args and errors are those of `token_log_probs`.
    """
    if reduce not in ("sum", "mean"):
        raise ValueError(f"reduce is 'sum' or 'mean', not {reduce!r}")
    by_token = token_log_probs(logits, labels, mask)
    return by_token.sum(-1) if reduce == "sum" else row_means(by_token, mask)


def cross_entropy(logits: Tensor, labels: Tensor, mask: Tensor, *, label_smoothing: float = 0.0) -> Reduced:
    """-log q(label), summed over the masked entries.

    Args:
        logits: [B, T, V] for token models, [B, C] for classifiers.
        labels: [B, T] or [B], ids in [0, V) wherever the mask is true.
        mask: [B, T] or [B].
        label_smoothing: the share of the target, in [0, 1], spread evenly over all V classes (Szegedy et al., 2016).

    Raises:
        ValueError: shapes that disagree, a label outside the vocabulary inside the mask, a share outside [0, 1].
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is a share in [0, 1], not {label_smoothing}")
    log_probs = masked_log_probs(logits, mask)
    target = _label_log_probs(log_probs, select(labels, mask))
    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing * log_probs.mean(-1)
    return Reduced(-target.sum(), mask.bool().sum())


def row_means(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of each row's masked values, [B, T] -> [B]; 0 for a row that has none."""
    need_shape(mask, values.shape)
    mask = mask.bool()
    return in_float32(values).masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


def sequence_mean(values: Tensor, mask: Tensor) -> Reduced:
    """Values [B, T] averaged within each row first: the sum of the rows' means, and how many rows have any value.

    With it a long row weighs as much as a short one; summing `values` directly weighs every token alike.
    """
    return Reduced(row_means(values, mask).sum(), mask.bool().any(-1).sum())


def _label_log_probs(log_probs: Tensor, labels: Tensor) -> Tensor:
    """[N, V] and [N] -> [N]."""
    if labels.numel() and not (int(labels.min()) >= 0 and int(labels.max()) < log_probs.shape[-1]):
        raise ValueError(
            f"labels inside the mask must lie in [0, {log_probs.shape[-1]}); "
            f"these reach from {int(labels.min())} to {int(labels.max())}"
        )
    return log_probs.gather(-1, labels.long().unsqueeze(-1)).squeeze(-1)
