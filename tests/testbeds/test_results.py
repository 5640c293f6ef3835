"""The results that are shipped: they belong to the bench as it is, say what their figures say, and come from grounds
that tell better from worse.

.venv/bin/python -m pytest tests/testbeds/test_results.py
"""

import pytest
from scipy.stats import ttest_rel

from stillroom import catalog
from stillroom.methods.baselines import BASELINES
from stillroom.reproduce import bench_of
from stillroom.signals import Needs

# Results from before `alone` was kept say nothing of it; a baseline that asks no teacher is alone.
PLAIN = {name for name, made in BASELINES.items() if not getattr(made, "needs", Needs()).teacher}
MEASURED = [system.slug for system in catalog.systems() if system.state == "reproduced"]


@pytest.fixture(params=MEASURED)
def system(request):
    return catalog.find(request.param)


def test_every_family_is_measured():
    assert {catalog.find(slug).family for slug in MEASURED} == set(catalog.families())


def test_a_result_is_of_its_bench_as_it_is(system):
    result, bench = system.result, bench_of(system.slug)
    assert (result["claim"], result["metric"], result["versus"]) == (bench.claim, bench.metric, bench.versus)
    assert result["higher_is_better"] is bench.higher_is_better and not result["smoke"]
    assert len(result["seeds"]) >= 3 and result["command"].startswith(f"stillroom reproduce {system.slug}")
    for name, entry in result["systems"].items():
        assert len(entry["values"]) == len(result["seeds"])
        assert None not in entry["values"] or name not in (
            system.slug,
            bench.versus,
        )  # a teacher may be of another kind


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
    result = system.result
    sign, metric = 1 if result["higher_is_better"] else -1, result["metric"]
    taught = [one["metrics"] for one in result["systems"].values() if one["role"] == "teacher"]
    alone = [one["metrics"] for name, one in result["systems"].items() if one.get("alone", name in PLAIN)]
    compared = [(one[metric], other[metric]) for one in taught for other in alone if metric in one and metric in other]
    if not compared:
        pytest.skip(f"{system.slug} has no teacher and no student alone with the same measure")
    for theirs, own in compared:
        assert min(sign * value for value in theirs) - max(sign * value for value in own) > max(own) - min(own)
