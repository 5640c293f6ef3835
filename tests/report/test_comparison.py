"""Runs side by side: as a dict, in the terminal, as JSON, as a page; and the ways to use it wrongly.

.venv/bin/python -m pytest tests/report/test_comparison.py
"""

import copy
import json
import math

import pytest
from tests.report.folders import EVALUATION, RECIPE, RUN, write, write_complete, write_hostile, write_minimal
from tests.report.page import Page, check_safe

from stillroom.cli.app import run
from stillroom.errors import UserError
from stillroom.report import compare
from stillroom.report.comparison import groups, write_comparison


def write_other(folder, name="other", teacher=0.712, **student):
    """A second run: another method, another student."""
    evaluation = copy.deepcopy(EVALUATION)
    evaluation["systems"][0]["metrics"]["ndcg@10"] = teacher
    evaluation["systems"][1] |= {"metrics": {"ndcg@10": 0.534, "rank": 4.9}, "parameters": 11_000_000} | student
    recipe = RECIPE | {"name": name, "method": {"name": "kd", "temperature": 2.0}, "output": "elsewhere"}
    return write(folder, run=RUN | {"name": name, "method": "kd"}, recipe=recipe, evaluation=evaluation)


@pytest.fixture
def two(tmp_path):
    return [write_complete(tmp_path / "a"), write_other(tmp_path / "b")]


def test_the_figures(two):
    found = compare(two)
    assert [each["name"] for each in found["runs"]] == ["margin-mse-e5-minilm", "other"]
    assert found["recipe"] == {
        "method.name": ["margin-mse", "kd"],
        "method.scale": [1.0, None],
        "method.temperature": [None, 2.0],
    }
    assert list(found["metrics"]) == ["ndcg@10", "recall@100", "rank"]
    assert found["metrics"]["ndcg@10"]["values"] == [0.67, 0.534]
    assert found["metrics"]["ndcg@10"]["of_teacher"] == pytest.approx([0.67 / 0.712, 0.75])
    assert found["metrics"]["recall@100"]["values"] == [0.921, None]
    assert found["cost"]["parameters"] == [22_713_216, 11_000_000]
    assert found["notes"] == ["One seed each: differences of the size of a seed's luck can't be told from it."]


def test_the_best_is_marked_by_the_metrics_own_direction(two):
    quality = {row.title: row for title, rows in groups(compare(two)) for row in rows if title == "Quality"}
    best = {title.replace("\N{NO-BREAK SPACE}", " "): row.best for title, row in quality.items() if not row.part}
    assert best == {"nDCG@10 ↑": 0, "Recall@100 ↑": None, "Mean rank ↓": 1}


def test_teachers_that_differ_are_noted(tmp_path):
    runs = [write_complete(tmp_path / "a"), write_other(tmp_path / "b", teacher=0.5)]
    assert "teachers' nDCG@10 differs (0.500, 0.712)" in compare(runs)["notes"][0]


def test_runs_with_other_metrics_are_noted_and_not_drawn(tmp_path):
    evaluation = EVALUATION | {"primary": "rank"}
    other = write(tmp_path / "b", run=RUN | {"name": "b"}, evaluation=evaluation)
    runs = [write_complete(tmp_path / "a"), other]
    assert compare(runs)["notes"] == ["The runs lead with different metrics: nDCG@10, Mean rank."]
    assert "Quality against cost" not in Page(write_comparison(runs, tmp_path / "c.html").read_text("utf-8")).outline


def test_runs_of_the_same_name_are_told_apart_by_their_folders(tmp_path):
    runs = [write_complete(tmp_path / "a"), write_complete(tmp_path / "b")]
    assert [each["name"] for each in compare(runs)["runs"]] == [str(folder) for folder in runs]


def test_the_page(two, tmp_path):
    page = Page(write_comparison(two, tmp_path / "c.html").read_text("utf-8"))
    check_safe(page)
    assert page.outline == ["In one sentence", "Recipe, where it differs", "Quality", "Cost", "Quality against cost"]
    for figure in ("0.670 0.534", "94.1 % 75.0 %", "22.7 M 11.0 M", "method.temperature – 2.0"):
        assert figure in page.text


def test_a_hostile_run(tmp_path):
    runs = [write_complete(tmp_path / "a"), write_hostile(tmp_path / "b")]
    check_safe(Page(write_comparison(runs, tmp_path / "c.html").read_text("utf-8")))
    json.dumps(compare(runs), allow_nan=False)


def test_the_command_prints_tables(two, capsys):
    assert run(["compare", *map(str, two)]) == 0
    out = capsys.readouterr().out.replace("\N{NARROW NO-BREAK SPACE}", " ")
    for words in ("method.temperature", "94.1 %", "75.0 %", "30 min 43 s", "The student keeps 94.1 %"):
        assert words in out


def test_the_command_prints_json(two, capsys, tmp_path):
    other = write_other(tmp_path / "c", "c", metrics={"ndcg@10": math.nan})
    assert run(["compare", *map(str, two), str(other), "--json", "--html", str(tmp_path / "c.html")]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["metrics"]["ndcg@10"]["values"] == [0.67, 0.534, None]
    assert (tmp_path / "c.html").is_file() and "c.html" in captured.err


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: [write_complete(folder / "a")], "needs two run folders or more"),
        (lambda folder: [write_complete(folder / "a"), folder / "nowhere"], "is no run folder"),
        (lambda folder: [write_complete(folder / "a"), write_minimal(folder / "b")], "was not measured"),
    ],
)
def test_wrong_use(tmp_path, capsys, make, words):
    runs = make(tmp_path)
    assert run(["compare", *map(str, runs)]) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    with pytest.raises(UserError, match=words):
        compare(runs)
