"""Log-probabilities of given labels, by token and by sequence, and plain cross-entropy.

Labels are aligned: ``labels[b, t]`` is what ``logits[b, t]`` predicts. Outside the mask a label may be anything.

Shapes: ``B`` rows, ``T`` tokens, ``V`` vocabulary or classes, ``N`` entries inside the mask.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor

from stillroom.objectives.chunks import Logits, Values, row_losses, summed_loss
from stillroom.objectives.gradients import FORMS
from stillroom.objectives.logits import rows_inside
from stillroom.objectives.rows import in_float32, need_shape, select, spread
from stillroom.signals import Reduced


def token_log_probs(logits: Logits, labels: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Tensor:
    """The log-probability of each label, 0 outside the mask.

    Args:
        logits: [B, T, V] (or [B, V]).
        labels: [B, T] (or [B]), ids in [0, V) wherever the mask is true.
        mask: [B, T] (or [B]).
        temperature: divides the logits, above 0.

    Returns:
        The mask's shape, in at least float32.

    Raises:
        ValueError: shapes that disagree, or a label outside the vocabulary inside the mask.
    """
    rows = rows_inside(logits, mask, temperature=temperature)
    wanted = _labels(labels, mask, rows.shape[-1])
    return spread(row_losses(_log_prob, rows, [Values(wanted)], temperature=temperature), mask)


def sequence_log_prob(
    logits: Logits,
    labels: Tensor,
    mask: Tensor,
    *,
    reduce: Literal["sum", "mean"] = "sum",
    temperature: float = 1.0,
) -> Tensor:
    """The log-probability of each row's labels, [B]: their sum, or their mean over the masked tokens.

    A row without a masked token gets 0. Args and errors are those of `token_log_probs`.
    """
    if reduce not in ("sum", "mean"):
        raise ValueError(f"reduce is 'sum' or 'mean', not {reduce!r}")
    by_token = token_log_probs(logits, labels, mask, temperature=temperature)
    return by_token.sum(-1) if reduce == "sum" else row_means(by_token, mask)


def cross_entropy(logits: Logits, labels: Tensor, mask: Tensor, *, label_smoothing: float = 0.0) -> Reduced:
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
    rows = rows_inside(logits, mask)
    others = [Values(_labels(labels, mask, rows.shape[-1]))]
    return Reduced(summed_loss(partial(_smoothed, label_smoothing=label_smoothing), rows, others), mask.bool().sum())


def _smoothed(log_probs: Tensor, labels: Tensor, *, label_smoothing: float) -> Tensor:
    """`cross_entropy` of rows, [n, V] and [n] -> [n]."""
    target = _log_prob(log_probs, labels)
    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing * log_probs.mean(-1)
    return -target


def _smoothed_with_gradient(
    log_q: Tensor, q: Tensor, labels: Tensor, *, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """The same, and the gradient of its sum for the logits: q minus the target."""
    values, change = _smoothed(log_q, labels, label_smoothing=label_smoothing), q
    if label_smoothing:
        change -= label_smoothing / change.shape[-1]
    sharp = change.new_full((1, 1), label_smoothing - 1).expand(len(labels), 1)
    return values, change.scatter_add_(-1, labels.unsqueeze(-1), sharp)


FORMS[_smoothed] = _smoothed_with_gradient


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


def _labels(labels: Tensor, mask: Tensor, ids: int) -> Tensor:
    """The labels inside the mask, which must be ids: [N]."""
    found = select(labels, mask).long()
    if found.numel() and not (int(found.min()) >= 0 and int(found.max()) < ids):
        raise ValueError(
            f"labels inside the mask must lie in [0, {ids}); these reach from {int(found.min())} to {int(found.max())}"
        )
    return found


def _log_prob(log_probs: Tensor, labels: Tensor) -> Tensor:
    """[n, V] and [n] -> [n]."""
    return log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
