"""The results that are shipped: they belong to the bench as it is, say what their figures say, and come from grounds
that tell better from worse.

.venv/bin/python -m pytest tests/testbeds/test_results.py
"""

import pytest
from scipy.stats import ttest_rel

from stillroom import catalog
from stillroom.reproduce import bench_of

MEASURED = [system.slug for system in catalog.systems() if system.state == "reproduced"]

# The student that is trained without a teacher on each ground, and a measure that means the same for teacher and all.
ALONE = {
    "language": ("sft", "exact_match"),
    "embeddings": ("contrastive", "mrr@10"),
    "encoders": ("mlm", "probe_accuracy"),
    "retrieval": ("ranknet", "mrr@10"),
    "vision": ("triplet", "recall@1"),
}


@pytest.fixture(params=MEASURED)
def system(request):
    return catalog.find(request.param)


def test_some_are_measured():
    assert {catalog.find(slug).family for slug in MEASURED} >= set(ALONE)


def test_a_result_is_of_its_bench_as_it_is(system):
    result, bench = system.result, bench_of(system.slug)
    assert (result["claim"], result["metric"], result["versus"]) == (bench.claim, bench.metric, bench.versus)
    assert result["higher_is_better"] is bench.higher_is_better and not result["smoke"]
    assert len(result["seeds"]) >= 3 and result["command"].startswith(f"stillroom reproduce {system.slug}")
    assert {system.slug, bench.versus} <= set(result["systems"])  # a teacher is there where a method has one
    for entry in result["systems"].values():
        assert len(entry["values"]) == len(result["seeds"]) and None not in entry["values"]


def test_the_verdict_is_what_the_figures_say(system):
    result = system.result
    ours, theirs = (result["systems"][name]["values"] for name in (system.slug, result["versus"]))
    sign = 1 if result["higher_is_better"] else -1
    low, high = ttest_rel([sign * value for value in ours], [sign * value for value in theirs]).confidence_interval(
        0.95
    )
    said = "holds" if low > 0 else "does not hold here" if high < 0 else "inconclusive"
    assert result["verdict"] == said


def test_the_ground_tells_better_from_worse(system):
    """The teacher is better than a student that is trained without it, by more than the seeds differ."""
    alone, metric = ALONE[system.family]
    systems = system.result["systems"]
    if alone not in systems or metric not in systems["teacher"]["metrics"]:
        pytest.skip(f"{system.slug} is not held against {alone}")
    found = systems[alone]["metrics"][metric]
    assert min(systems["teacher"]["metrics"][metric]) - max(found) > max(found) - min(found)
