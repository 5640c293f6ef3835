"""How sure a figure is: means with intervals over seeds, paired comparisons, and the verdicts that `reproduce` prints.

Two ways to an interval, each for its own kind of sample. Over a few seeds (3 to 10) Student's t: a bootstrap of three
values knows only those three and is far too narrow. Over many examples (some 30 and more) the bootstrap, which
assumes no shape.

Comparisons are paired: both methods saw the same seeds (or examples), so what the seeds share cancels in the
difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

CONFIDENCE = 0.95

Verdict = Literal["holds", "does not hold here", "inconclusive"]


class Summary(NamedTuple):
    """Mean, sample standard deviation (n - 1) and 95% interval; std and interval are NaN for a single value."""

    mean: float
    std: float
    interval: tuple[float, float]


class Comparison(NamedTuple):
    """Mean of the paired differences (ours - baseline), its 95% interval, the two-sided p-value of no difference."""

    difference: float
    interval: tuple[float, float]
    p: float


def summary(values: Sequence[float]) -> Summary:
    """Mean, spread and 95% t interval of a few values, such as one a seed.

    Raises:
        ValueError: no value, or one that isn't finite.
    """
    sample = _finite(values)
    if len(sample) == 1:
        return Summary(float(sample[0]), math.nan, (math.nan, math.nan))
    return Summary(float(sample.mean()), float(sample.std(ddof=1)), _t_interval(sample))


def bootstrap_interval(values: Sequence[float], *, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95% percentile interval of the mean of many values, such as one an example (Efron, 1979)."""
    return _percentiles(_resampled_means(_finite(values), resamples, seed))


def paired_t(ours: Sequence[float], baseline: Sequence[float]) -> Comparison:
    """Compare over seeds: Student's paired t-test.

    Raises:
        ValueError: lists of different lengths, fewer than two pairs, or a value that isn't finite.
    """
    from scipy.stats import t

    differences = _differences(ours, baseline)
    if len(differences) < 2:
        raise ValueError("a paired t-test needs at least two pairs")
    mean, error = float(differences.mean()), _standard_error(differences)
    if error == 0:
        return Comparison(mean, (mean, mean), 1.0 if mean == 0 else 0.0)
    p = 2 * float(t.sf(abs(mean) / error, len(differences) - 1))
    return Comparison(mean, _t_interval(differences), p)


def paired_bootstrap(
    ours: Sequence[float], baseline: Sequence[float], *, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare over examples: resample the pairs (Koehn, 2004, "Statistical significance tests for MT evaluation").

    The p-value is twice the share of resamples whose difference falls on the other side of zero, and at least
    2 / (resamples + 1).

    Raises:
        ValueError: lists of different lengths, no pair, or a value that isn't finite.
    """
    differences = _differences(ours, baseline)
    means = _resampled_means(differences, resamples, seed)
    below, above = int((means <= 0).sum()), int((means >= 0).sum())
    p = min(1.0, 2 * (min(below, above) + 1) / (resamples + 1))
    return Comparison(float(differences.mean()), _percentiles(means), p)


def verdict(ours: Sequence[float], baseline: Sequence[float], higher_is_better: bool) -> Verdict:
    """Whether "ours beats the baseline" is what these seeds show.

    The rule: pair by seed and take the 95% t interval of the improvement. All of it above zero: ``holds``. All of it
    below: ``does not hold here``. Otherwise, with fewer than two seeds, or with no difference at all:
    ``inconclusive``, for then this ground can't tell the two apart.

    Args:
        ours: one value a seed.
        baseline: the baseline's, in the same order of seeds.
        higher_is_better: the direction of the metric.

    Raises:
        ValueError: lists of different lengths, no value, or one that isn't finite.
    """
    if len(_differences(ours, baseline)) < 2:
        return "inconclusive"
    low, high = paired_t(ours, baseline).interval
    if not higher_is_better:
        low, high = -high, -low
    if low > 0:
        return "holds"
    return "does not hold here" if high < 0 else "inconclusive"


def _finite(values: Sequence[float]) -> np.ndarray:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample):
        raise ValueError(f"a non-empty list of numbers is needed, not one of shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError(f"value number {int(np.flatnonzero(~np.isfinite(sample))[0])} is not finite")
    return sample


def _differences(ours: Sequence[float], baseline: Sequence[float]) -> np.ndarray:
    if len(ours) != len(baseline):
        raise ValueError(f"a paired comparison needs as many values of both, not {len(ours)} and {len(baseline)}")
    left, right = _finite(ours), _finite(baseline)
    # Equal up to rounding is equal: 0.3 and 0.1 + 0.2 on every seed would otherwise be a perfectly certain difference.
    return np.where(np.isclose(left, right, rtol=1e-12, atol=0), 0.0, left - right)


def _standard_error(sample: np.ndarray) -> float:
    return float(sample.std(ddof=1)) / math.sqrt(len(sample))


def _t_interval(sample: np.ndarray) -> tuple[float, float]:
    from scipy.stats import t

    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(sample) - 1)) * _standard_error(sample)
    return float(sample.mean()) - reach, float(sample.mean()) + reach


def _resampled_means(sample: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    # One resample at a time: resamples x examples indices at once would be gigabytes for a large test set.
    return np.array([sample[generator.integers(len(sample), size=len(sample))].mean() for _ in range(resamples)])


def _percentiles(means: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
