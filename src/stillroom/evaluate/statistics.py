"""How sure a figure is: means with intervals over seeds, paired comparisons, and the verdicts that `reproduce` prints.

Two ways to an interval, each for its own kind of sample. Over a few seeds (3 to 10) Student's t: a bootstrap of three
values knows only those three and is far too narrow. Over many examples (some 30 and more) the bootstrap, which
assumes no shape.

Comparisons are paired: both methods saw the same seeds (or examples), so what the seeds share cancels in the
difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

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


def bootstrap_measure(
    measure: Callable[..., float],
    *columns: Any,
    confidence: float = CONFIDENCE,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of any measure of examples, such as an AUROC, whose columns are resampled together.

    Resamples that the measure has no answer for (NaN) are left out; where all are, the interval is NaN.

    Args:
        measure: of as many arrays as there are columns.
        columns: arrays of equal length, one entry an example.
        confidence: share of the resamples that lie inside, in (0, 1).
        resamples: how many.
        seed: of the draw.

    Raises:
        ValueError: columns of different lengths, or empty ones.
    """
    arrays = [np.asarray(each) for each in columns]
    if not arrays or len({len(each) for each in arrays}) > 1 or not len(arrays[0]):
        raise ValueError(f"columns of one length are needed, not of {[len(each) for each in arrays]}")
    generator = np.random.default_rng(seed)
    count, found = len(arrays[0]), []
    for _ in range(resamples):
        chosen = generator.integers(count, size=count)
        found.append(measure(*(each[chosen] for each in arrays)))
    known = np.array(found)[np.isfinite(found)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def permutation_test(
    ours: Sequence[float], others: Sequence[float], *, paired: bool = False, permutations: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """The difference of two means, and the p-value that ours is the larger by chance alone (Fisher, 1935).

    Without a difference it would not matter which value belongs to whom. So values change places, all with all or,
    where they are pairs, each with its partner; the p-value is the share of draws with at least this difference, the
    observed one counted among them.

    Args:
        ours: values, such as 1 for a right answer and 0 for a wrong one.
        others: values of the others.
        paired: whether the n-th of both belong together.
        permutations: draws.
        seed: of the draws.

    Raises:
        ValueError: no value, one that isn't finite, or pairs that don't go up.
    """
    left, right = _finite(ours), _finite(others)
    if paired and len(left) != len(right):
        raise ValueError(f"pairs need as many values of both, not {len(left)} and {len(right)}")
    observed = float(left.mean() - right.mean())
    generator, count = np.random.default_rng(seed), 0
    pooled, differences = np.concatenate([left, right]), left - right if paired else left
    for _ in range(permutations):
        if paired:
            drawn = (differences * generator.choice((-1.0, 1.0), size=len(differences))).mean()
        else:
            generator.shuffle(pooled)
            drawn = pooled[: len(left)].mean() - pooled[len(left) :].mean()
        count += bool(drawn >= observed - 1e-12)
    return observed, (count + 1) / (permutations + 1)


def auroc(labels: Sequence[float] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """How often a positive example has a higher score than a negative one, ties counting half; NaN with one class.

    Args:
        labels: true or 1 for positive examples.
        scores: higher for what is held to be positive.

    Raises:
        ValueError: lists of different lengths, or a score that isn't finite.
    """
    from scipy.stats import rankdata

    positive, values = np.asarray(labels).astype(bool), _finite(scores)  # type: ignore[arg-type]
    if positive.shape != values.shape:
        raise ValueError(f"as many labels as scores are needed, not {positive.shape} and {values.shape}")
    first = int(positive.sum())
    second = len(positive) - first
    if not first or not second:
        return math.nan
    return float((rankdata(values)[positive].sum() - first * (first + 1) / 2) / (first * second))


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
