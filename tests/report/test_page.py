"""The report as text: well formed, self-contained, every figure there, nothing empty, hostile text harmless.

.venv/bin/python -m pytest tests/report/test_page.py
"""

import copy
import math

import pytest
from tests.report.folders import EVALUATION, RECIPE, RUN, lines, write, write_complete, write_hostile, write_minimal
from tests.report.page import Page, check_safe

from stillroom.report import write_report
from stillroom.report.training import DRAWN, smooth, thin

ORDER = [
    "What survived",
    "Quality against cost",
    "Training",
    "Agreement with the teacher",
    "Calibration",
    "Where they part most",
    "Data",
    "Recipe",
    "To repeat it",
]


def report(folder):
    return Page(write_report(folder).read_text("utf-8"))


def test_everything_in_its_order(tmp_path):
    page = report(write_complete(tmp_path))
    check_safe(page)
    assert page.outline == ORDER
    assert page.tags.count("h1") == 1 and page.headings[0][0] == "h1"
    assert "keeps 94.1 %" in page.headings[0][1].replace("\N{NARROW NO-BREAK SPACE}", " ")


FIGURES = [
    # the table: the teacher, then the student
    *("0.712", "0.943", "4.21", "335 M", "1.34 GB", "2.91 GB", "88.2", "42.7 / 61.3"),
    *("0.670", "94.1 %", "0.921", "5.02", "22.7 M", "90.9 MB", "412 MB", "1,024", "6.31 / 8.04", "30 min 43 s"),
    *("69.9 %", "81.0 %", "91.4 %", "63.5 %"),
    # agreement, calibration, disagreement
    *(
        "0.871",
        "0.792",
        "0.913",
        "0.0210",
        "0.0640",
        "0.970",
        "How do I undo the last commit",
        "796 characters",
        "3 more",
    ),
    # data, recipe, repetition
    *("48,213", "9,120,344", "71.3 %", "duplicate of another row", "3,310", "pydocs, view pairs, limit 20000"),
    *("learning_rate: 2.0e-05", "transformers 5.17.0", "seed 7", "2025-03-04 09:12", "--against sft,kd,untrained"),
]


@pytest.fixture(scope="module")
def complete_text(tmp_path_factory):
    return report(write_complete(tmp_path_factory.mktemp("run"))).text


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_there(complete_text, figure):
    assert figure in complete_text


def test_the_table_has_its_order(complete_text):
    columns = "teacher margin-mse student untrained student, untrained"
    columns += " sft without the teacher kd baseline bm25 baseline"
    assert f"What survived {columns} nDCG@10 ↑ 0.712" in complete_text


def test_the_least_has_no_empty_headings(tmp_path):
    page = report(write_minimal(tmp_path))
    check_safe(page)
    assert page.outline == [] and page.text == "minimal Not evaluated yet."
    assert not {"table", "figure", "section", "dl", "pre"} & set(page.tags)


@pytest.mark.parametrize(
    ("left_out", "heading"),
    [("agreement", "Agreement with the teacher"), ("calibration", "Calibration"), ("worst", "Where they part most")],
)
def test_what_was_not_measured_is_left_out(tmp_path, left_out, heading):
    evaluation = {key: value for key, value in EVALUATION.items() if key != left_out}
    page = report(write(tmp_path, evaluation=evaluation, logged={"": lines()}))
    assert page.outline == [name for name in ORDER if name != heading]


def test_unknown_columns_are_left_out(tmp_path):
    evaluation = copy.deepcopy(EVALUATION)
    for system in evaluation["systems"]:
        system["cost"] = {}
    text = report(write(tmp_path, evaluation=evaluation)).text
    assert "throughput" not in text and "latency" not in text and "parameters" in text


def test_a_run_in_which_nothing_could_be_measured(tmp_path):
    evaluation = {
        "primary": "",
        "metrics": {},
        "systems": [{"name": "a", "role": "student", "parameters": 5, "metrics": {}}],
    }
    page = report(write(tmp_path, evaluation=evaluation))
    assert "Not evaluated after 30 min 43 s of training." in page.text and "a student parameters 5" in page.text


def test_hostile_text_stays_text(tmp_path):
    path = write_report(write_hostile(tmp_path))
    page = Page(path.read_text("utf-8"))
    check_safe(page)
    assert page.outline == ORDER
    assert "<script>document.title='owned'</script>]]>\"'><img src=http://localhost:9/x onerror=alert(1)>" in page.text
    assert page.text.count("x" * 10_000) >= 3 * len(EVALUATION["worst"])  # no text is lost, only folded
    assert "{{ 7*7 }}{% raw %}" in page.text
    assert not set(map(ord, path.read_text("utf-8"))) & {0, 0x1B, 0x202E, 0xD800, 0xFFFE}


def test_numbers_that_are_none(tmp_path):
    evaluation = copy.deepcopy(EVALUATION)
    evaluation["systems"][1]["metrics"]["ndcg@10"] = math.nan
    logged = [line | {"total": math.nan} if line["step"] == 8 else line for line in lines()]
    page = report(write(tmp_path, evaluation=evaluation, logged={"": logged}))
    assert "NaN" in page.text and "nan" not in "".join(value or "" for name, value in page.attributes if name == "d")


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = write_complete(tmp_path)
    path = write_report(folder)
    before = path.read_bytes()
    (folder / "evaluation.json").write_text("{")
    with pytest.raises(Exception, match="not JSON"):
        write_report(folder)
    assert path.read_bytes() == before and not list(folder.glob("*.part"))


def test_the_same_run_gives_the_same_page(tmp_path):
    assert write_report(write_complete(tmp_path)).read_bytes() == write_report(tmp_path).read_bytes()


def test_a_long_run_stays_small(tmp_path):
    logged = [
        {"step": n, "total": 1 + math.sin(n / 50), "parts": {"a": 1.0, "b": math.sin(n / 50)}} for n in range(20_000)
    ]
    path = write_report(write(tmp_path, run=RUN, recipe=RECIPE, evaluation=None, logged={"": logged}))
    assert path.stat().st_size < 200_000


def test_smoothing_is_the_mean_around_each_point():
    points = [(n, float(n % 2)) for n in range(200)]  # a twentieth of 200: 5 on either side
    found = dict(smooth(points))
    assert found[100] == pytest.approx(6 / 11) and found[101] == pytest.approx(5 / 11)
    assert found[0] == pytest.approx(3 / 6) and found[199] == pytest.approx(3 / 6)
    assert smooth(points[:39]) == points[:39]


def test_thinning_keeps_every_spike():
    points = [(n, 1000.0 if n == 31_337 else math.sin(n)) for n in range(50_000)]
    kept = thin(points)
    assert len(kept) <= DRAWN and (31_337, 1000.0) in kept and kept == sorted(kept)
