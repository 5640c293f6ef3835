"""A family's results side by side: gains by hand, costs, and the page in which they stand.

.venv/bin/python -m pytest tests/report/test_family.py
"""

import pytest

from stillroom import catalog
from stillroom.report import family


def entry(values, *, alone=False, seconds=None, role="baseline"):
    mean = sum(values) / len(values)
    seconds = seconds or [None] * len(values)
    found = {"role": role, "alone": alone, "values": values, "train_seconds": seconds, "mean": mean, "std": 0.1}
    return found | {"interval": [mean - 0.25, mean + 0.25]}


RESULT = {
    "slug": "rkd",
    "metric": "recall@1",
    "higher_is_better": True,
    "versus": "triplet",
    "seeds": [0, 1],
    "seconds": 61.0,
    "verdict": "holds",
    "comparison": {"difference": 0.1, "interval": [0.05, 0.15], "p": 0.01},
    "systems": {
        "teacher": entry([0.9, 0.9], role="teacher"),
        "rkd": entry([0.6, 0.6], seconds=[30.0, 50.0], role="student"),
        "triplet": entry([0.5, 0.5], alone=True, seconds=[20.0, 20.0]),
    },
}


def test_gain_and_cost_are_those_computed_by_hand():
    found = family.outcome(RESULT)
    assert found.gain == pytest.approx(0.1 / 0.5) and found.interval == pytest.approx((0.1, 0.3))
    assert found.cost == pytest.approx(40 / 20)
    assert found.cells == (
        "rkd",
        "holds",
        "+20.0%",
        "2.00 ×",
        "recall@1\N{NO-BREAK SPACE}↑",
        "0.600\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.250",
        "0.500\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.250 (triplet)",
        "0.900\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.250",
    )


def test_where_lower_is_better_a_fall_is_a_gain():
    worse = RESULT | {"higher_is_better": False}
    assert family.outcome(worse).gain == pytest.approx(-0.2)
    assert family.outcome(worse).interval == pytest.approx((-0.3, -0.1))


def test_what_was_not_measured_is_left_open():
    systems = {name: entry([0.0, 0.0]) for name in ("rkd", "triplet")}
    found = family.outcome(RESULT | {"systems": systems})
    assert found.gain is None and found.cost is None and found.cells[2:4] == ("–", "–")


def test_the_page_has_table_and_figure(tmp_path):
    path = family.write_family("vision", tmp_path / "out")
    page = path.read_text()
    assert path.name == "vision.html" and "<svg" in page
    measured = [system.slug for system in catalog.systems("vision") if system.result]
    assert measured and all(f'<th scope="row">{slug}</th>' in page for slug in measured)


def test_a_family_without_results_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(family, "outcomes", lambda name: [])
    assert "Nothing of this family was measured yet." in family.write_family("vision", tmp_path).read_text()
