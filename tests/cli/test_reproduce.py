"""`stillroom reproduce`: what it runs, what it prints, what it keeps.

.venv/bin/python -m pytest tests/cli/test_reproduce.py
"""

import json
from types import SimpleNamespace

import pytest

from stillroom import catalog, reproduce
from stillroom.cli import app
from stillroom.errors import UserError


def result_of(slug, seeds, smoke=False):
    several = len(seeds) > 1
    systems = {
        "teacher": {"role": "teacher", "values": [0.9, 0.9], "train_seconds": [None, None], "parameters": 1000},
        slug: {"role": "student", "values": [0.5, 0.7], "train_seconds": [3.0, 4.0], "parameters": 100},
    }
    for system in systems.values() if several else ():
        mean = sum(system["values"]) / 2
        system |= {"mean": mean, "std": 0.1, "interval": [mean - 0.05, mean + 0.05]}
    result = {"slug": slug, "claim": "It is better.", "metric": "exact_match", "seeds": seeds, "smoke": smoke}
    return result | {"systems": systems, "seconds": 12.3} | ({"verdict": "holds"} if several else {})


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What was run and what was kept, by slug; nothing is trained and nothing written."""
    seen = SimpleNamespace(run=[], kept=[])

    def run(slug, *, seeds, smoke, workers, tell):
        seen.run.append((slug, list(seeds), smoke))
        return result_of(slug, list(seeds), smoke)

    monkeypatch.setattr(reproduce, "reproduce", run)
    monkeypatch.setattr(reproduce, "write", lambda result: seen.kept.append(result["slug"]) or tmp_path / "result.json")
    return seen


@pytest.fixture
def stillroom(capsys):
    def call(*arguments):
        code = app.run(("reproduce", *arguments))
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return call


def test_the_table_has_means_intervals_and_the_verdict(stillroom, asked):
    done = stillroom("taid", "--seeds", "2")
    assert done.code == 0
    assert asked.run == [("taid", [0, 1], False)] and asked.kept == ["taid"]
    cells = next(line.split() for line in done.out.splitlines() if line.split()[:1] == ["taid"])
    assert cells == ["taid", "student", "0.6", "±", "0.05", "100", "3.5"]
    assert "verdict: holds" in done.out and "claim: It is better." in done.out
    assert "result.json" in done.err


def test_a_smoke_run_is_one_seed_and_keeps_nothing(stillroom, asked):
    done = stillroom("taid", "--smoke")
    assert (done.code, asked.run, asked.kept) == (0, [("taid", [0], True)], [])
    assert "±" not in done.out and "verdict: none" in done.out


def test_machines_get_the_result_alone(stillroom, asked):
    done = stillroom("taid", "--json")
    assert json.loads(done.out) == result_of("taid", [0, 1, 2])


def test_a_family_is_all_that_is_built_and_has_a_ground(stillroom, asked, monkeypatch, tmp_path):
    def bench_of(slug):
        if slug == "three":
            raise UserError("the family 'language' has no testbed entry for 'three' yet")

    built = [SimpleNamespace(slug=slug, result=None) for slug in ("one", "two", "three")]
    monkeypatch.setattr(reproduce, "bench_of", bench_of)
    monkeypatch.setattr(catalog, "systems", lambda family, state=None: built if family == "language" else [])
    done = stillroom("--family", "language", "--json", "--output", str(tmp_path / "out"))
    assert [result["slug"] for result in json.loads(done.out)] == asked.kept == ["one", "two"]
    assert "no testbed entry for 'three'" in done.err
    assert (tmp_path / "out" / "language.html").is_file()


@pytest.mark.parametrize("arguments", [(), ("taid", "--family", "language"), ("taid", "--seeds", "1")])
def test_wrong_use_is_said(stillroom, asked, arguments):
    done = stillroom(*arguments)
    assert done.code == 2 and done.err and not asked.run
