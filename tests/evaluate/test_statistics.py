"""Intervals, paired comparisons and verdicts against scipy and textbook figures.

Run: pytest tests/evaluate/test_statistics.py
"""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from stillroom.evaluate.statistics import (
    auroc,
    bootstrap_interval,
    bootstrap_measure,
    paired_bootstrap,
    paired_t,
    permutation_test,
    summary,
    verdict,
)


def test_summary_of_three_seeds_by_hand():
    found = summary([1.0, 2.0, 3.0])
    assert (found.mean, found.std) == (2.0, 1.0)
    reach = 4.302652729911275 / math.sqrt(3)  # the 97.5% point of Student's t with two degrees of freedom
    assert found.interval == pytest.approx((2 - reach, 2 + reach))


def test_one_seed_has_no_spread():
    found = summary([5.0])
    assert found.mean == 5
    assert math.isnan(found.std)
    assert math.isnan(found.interval[0])


def test_paired_t_is_scipys():
    generator = np.random.default_rng(0)
    ours, baseline = generator.normal(0.3, 1, 8), generator.normal(0, 1, 8)
    expected = stats.ttest_rel(ours, baseline)
    found = paired_t(ours, baseline)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert found.difference == pytest.approx((ours - baseline).mean())


def test_pairing_uses_what_the_seeds_share():
    hard = np.array([0.2, 0.5, 0.9])
    assert paired_t(hard + np.array([0.011, 0.010, 0.009]), hard).p < 0.01
    assert stats.ttest_ind(hard + 0.01, hard).pvalue > 0.9


def test_bootstrap_interval_nears_the_normal_one():
    values = np.random.default_rng(0).exponential(size=400)
    low, high = bootstrap_interval(values)
    reach = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert low == pytest.approx(values.mean() - reach, abs=0.01)
    assert high == pytest.approx(values.mean() + reach, abs=0.01)
    assert bootstrap_interval(values) == (low, high)


def test_paired_bootstrap():
    generator = np.random.default_rng(1)
    baseline = generator.uniform(size=200)
    better = paired_bootstrap(baseline + generator.normal(0.05, 0.1, 200), baseline, resamples=2000)
    assert better.difference == pytest.approx(0.05, abs=0.02)
    assert better.interval[0] > 0
    assert better.p < 0.01
    same = paired_bootstrap(baseline + generator.normal(0, 0.1, 200), baseline, resamples=2000)
    assert same.interval[0] < 0 < same.interval[1]
    assert same.p > 0.05
    assert paired_bootstrap([1.0, 1], [1.0, 1], resamples=100).p == 1


def test_the_bootstraps_p_nears_that_of_the_t_test():
    baseline, noise = np.random.default_rng(3).uniform(size=(2, 300))
    # The mean difference is 1.6 standard errors.
    ours = baseline + (noise - noise.mean()) / noise.std(ddof=1) + 1.6 / math.sqrt(300)
    expected = stats.ttest_rel(ours, baseline).pvalue
    assert expected == pytest.approx(0.11, abs=0.01)
    assert paired_bootstrap(ours, baseline).p == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("ours", "baseline", "higher", "expected"),
    [
        ([0.80, 0.81, 0.79], [0.70, 0.72, 0.69], True, "holds"),
        ([0.80, 0.81, 0.79], [0.70, 0.72, 0.69], False, "does not hold here"),
        ([12.0, 12.5, 11.9], [14.0, 14.4, 14.1], False, "holds"),
        ([0.80, 0.60, 0.75], [0.70, 0.72, 0.69], True, "inconclusive"),
        ([0.9], [0.1], True, "inconclusive"),
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], True, "inconclusive"),
        ([0.3, 0.3, 0.3], [0.1 + 0.2] * 3, False, "inconclusive"),
        ([0.6, 0.6], [0.5, 0.5], True, "holds"),
    ],
)
def test_verdicts(ours, baseline, higher, expected):
    assert verdict(ours, baseline, higher) == expected


def test_a_false_claim_holds_in_one_run_of_forty():
    # Nothing is better here, so an interval at 95% lies wholly above zero 2.5% of the time.
    generator = np.random.default_rng(0)
    found = [verdict(generator.normal(size=5), generator.normal(size=5), True) for _ in range(2000)]
    assert found.count("holds") / 2000 == pytest.approx(0.025, abs=0.01)
    assert found.count("does not hold here") / 2000 == pytest.approx(0.025, abs=0.01)


def test_bad_input():
    with pytest.raises(ValueError, match="not 2 and 1"):
        verdict([1.0, 2.0], [1.0], True)
    with pytest.raises(ValueError, match="value number 1 is not finite"):
        summary([1.0, math.nan])
    with pytest.raises(ValueError, match="at least two pairs"):
        paired_t([1.0], [2.0])
    with pytest.raises(ValueError, match="non-empty"):
        summary([])


def test_auroc_is_that_of_scikit_learn_and_nan_for_one_class():
    draw = np.random.default_rng(0)
    labels, scores = draw.integers(2, size=200), draw.integers(5, size=200).astype(float)  # with ties
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    assert auroc([0, 1, 1], [0.1, 0.2, 0.3]) == 1 and auroc([1, 0], [0.5, 0.5]) == 0.5
    assert math.isnan(auroc([1, 1], [0.1, 0.2]))


def test_a_permutation_test_by_all_permutations():
    """Of the 20 ways to choose three of six values, one has the observed difference; of 8 changes of sign, one too."""
    observed, p = permutation_test([4, 5, 6], [1, 2, 3], permutations=20_000)
    assert observed == 3 and p == pytest.approx(1 / 20, abs=0.006)
    _, paired = permutation_test([4, 5, 6], [1, 2, 3], paired=True, permutations=20_000)
    assert paired == pytest.approx(1 / 8, abs=0.01)
    assert permutation_test([1, 0, 1, 0], [0, 1, 0, 1])[1] > 0.5
    assert permutation_test([1.0] * 50, [0.0] * 50, permutations=99)[1] == 1 / 100


def test_the_interval_of_any_measure():
    draw = np.random.default_rng(0)
    values = draw.normal(3, 1, size=400)
    low, high = bootstrap_measure(np.mean, values, confidence=0.9)
    reach = 1.645 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.02)
    labels = np.array([1] + [0] * 30)  # some resamples have no positive example
    low, high = bootstrap_measure(auroc, labels, np.arange(31.0))
    assert 0 <= low <= high <= 1
    assert all(math.isnan(end) for end in bootstrap_measure(auroc, np.ones(5), np.arange(5.0)))
    with pytest.raises(ValueError, match="columns of one length"):
        bootstrap_measure(auroc, [1, 0], [0.5])
