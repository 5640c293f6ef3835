"""Does the model know how sure it may be? Reliability table, expected calibration error, Brier score.

Shapes: ``N`` predictions, ``C`` classes. Arrays or tensors on the CPU; a token model's masked places are selected by
the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Bin:
    """Predictions of like confidence: the interval they lie in, how many, how sure on average, how often right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def top_label(probabilities: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The confidence [N] of the likeliest class, and whether it is the right one [N].

    Args:
        probabilities: [N, C], rows that sum to 1.
        labels: [N] right classes.
    """
    probabilities, labels = _distributions(probabilities, labels)
    return probabilities.max(1), probabilities.argmax(1) == labels


def reliability_table(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15, equal_mass: bool = False
) -> list[Bin]:
    """Predictions sorted into bins of confidence; empty bins are left out.

    Args:
        confidence: [N] in [0, 1].
        correct: [N] bool, whether each prediction is right.
        bins: how many.
        equal_mass: bins with as many predictions each, rather than equal parts of [0, 1]. Equal parts show where a
            model is off; equal masses leave no bin with three predictions in it.

    Raises:
        ValueError: shapes that differ, nothing to sort, or a confidence outside [0, 1].
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool)
    if sure.shape != right.shape or sure.ndim != 1 or not len(sure):
        raise ValueError(f"confidence and correct must be two equally long lists, not {sure.shape} and {right.shape}")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError("confidences must lie in [0, 1]; were these logits?")
    if equal_mass:
        parts = [part for part in np.array_split(np.argsort(sure, kind="stable"), bins) if len(part)]
        return [_bin(float(sure[part].min()), float(sure[part].max()), sure[part], right[part]) for part in parts]
    places = np.minimum((sure * bins).astype(int), bins - 1)
    return [
        _bin(place / bins, (place + 1) / bins, sure[places == place], right[places == place])
        for place in np.unique(places).tolist()
    ]


def expected_calibration_error(table: list[Bin]) -> float:
    """Mean distance of confidence and accuracy over the bins, weighted by count; in [0, 1], 0 is best.

    Source: Guo et al., 2017, "On Calibration of Modern Neural Networks", equation 5; with equal masses: Nixon et al.,
    2019.
    """
    total = sum(part.count for part in table)
    return sum(part.count * abs(part.accuracy - part.confidence) for part in table) / total


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared distance of the distribution from the right class's; in [0, 2], 0 is best (Brier, 1950).

    The sum goes over all classes. For two classes it is twice the form that looks at the positive class alone.

    Args:
        probabilities: [N, C], rows that sum to 1.
        labels: [N] right classes.
    """
    probabilities, labels = _distributions(probabilities, labels)
    errors = probabilities.copy()
    errors[np.arange(len(labels)), labels] -= 1
    return float((errors**2).sum(1).mean())


def _bin(low: float, high: float, sure: np.ndarray, right: np.ndarray) -> Bin:
    return Bin(low, high, len(sure), float(sure.mean()), float(right.mean()))


def _distributions(probabilities: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    rows, right = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if rows.ndim != 2 or right.shape != rows.shape[:1] or not len(rows):
        raise ValueError(f"probabilities [N, C] and labels [N] are needed, not {rows.shape} and {right.shape}")
    if not np.allclose(rows.sum(1), 1, atol=1e-3):
        raise ValueError("the rows of probabilities must sum to 1; were these logits?")
    return rows, right
