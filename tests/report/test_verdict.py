"""The sentence that a run comes to, for every kind of outcome.

.venv/bin/python -m pytest tests/report/test_verdict.py
"""

from pathlib import Path

import pytest

from stillroom.report.reading import Run
from stillroom.report.schema import About, Evaluation
from stillroom.report.units import THIN
from stillroom.report.verdict import verdict

FOLDER = Path("runs/run")


def system(name, role, value, parameters=None, throughput=None, **more):
    cost = {"throughput": throughput, **more.pop("cost", {})}
    return {"name": name, "role": role, "metrics": {"m": value}, "parameters": parameters, "cost": cost, **more}


def said(*systems, title="nDCG@10", higher=True, seconds=None):
    evaluation = Evaluation.model_validate(
        {"primary": "m", "metrics": {"m": {"title": title, "higher_is_better": higher}}, "systems": list(systems)}
    )
    run = Run(FOLDER, About(name="run", seconds=seconds), evaluation=evaluation)
    return verdict(run).replace(THIN, " ").replace("’", "'")


TEACHER = system("teacher", "teacher", 0.8, 1000, 10.0)
STUDENT = system("student", "student", 0.7528, 290, 29.0)


def test_the_whole_sentence():
    alone = system("sft", "baseline", 0.648, without_teacher=True)
    other = system("kd", "baseline", 0.74)
    assert said(TEACHER, STUDENT, other, alone) == (
        "The student keeps 94.1 % of the teacher's nDCG@10 with 29 % of its parameters and 2.9 × its speed; "
        "training without the teacher reaches 81.0 %."
    )


def test_the_best_of_several_baselines():
    assert said(TEACHER, STUDENT, system("kd", "baseline", 0.74), system("sft", "baseline", 0.6)).endswith(
        "; the best baseline, kd, reaches 92.5 %."
    )


@pytest.mark.parametrize(("value", "words"), [(0.76, "does better: 95.0 %."), (0.7528, "does as well: 94.1 %.")])
def test_a_teacher_that_did_not_help(value, words):
    alone = system("sft", "baseline", value, without_teacher=True)
    assert said(TEACHER, STUDENT, alone).endswith(f"; training without the teacher {words}")


def test_a_student_above_its_teacher():
    assert said(system("t", "teacher", 0.5), system("s", "student", 0.55)) == (
        "The student reaches 110 % of the teacher's nDCG@10."
    )


def test_lower_is_better():
    systems = [system("t", "teacher", 10.0, 1000), system("s", "student", 12.0, 100)]
    systems += [system(name, "baseline", value, without_teacher=True) for name, value in (("a", 15.0), ("b", 13.0))]
    assert said(*systems, title="perplexity", higher=False) == (
        "The student's perplexity is 1.20 × the teacher's, with 10 % of its parameters; "
        "training without the teacher reaches 1.30 ×."
    )
    better = [*systems[:2], system("a", "baseline", 11.0, without_teacher=True)]
    assert said(*better, title="perplexity", higher=False).endswith("does better: 1.10 ×.")


def test_no_baseline_but_the_start():
    assert said(TEACHER, STUDENT, system("untrained", "start", 0.4)).endswith("; untrained it stood at 50.0 %.")


def test_without_a_teacher():
    assert said(STUDENT) == "The student reaches 0.753 in nDCG@10."


def test_a_teacher_at_zero_gives_no_share():
    assert said(system("t", "teacher", 0.0), STUDENT) == "The student reaches 0.753 in nDCG@10 against the teacher's 0."


def test_a_teacher_of_whom_only_the_cost_is_known():
    assert said(system("t", "teacher", None, 1000), STUDENT) == (
        "The student reaches 0.753 in nDCG@10, with 29 % of the teacher's parameters."
    )


def test_speed_from_latency():
    slow = system("t", "teacher", 0.8, cost={"p50_ms": 30.0})
    assert "2.0 × its speed" in said(slow, system("s", "student", 0.8, cost={"p50_ms": 15.0}))


def test_the_comma_of_a_title_stays_in_the_table():
    assert "the teacher's nDCG@10 with" in said(TEACHER, STUDENT, title="nDCG@10, docstring to function")


def test_not_measured():
    assert said(TEACHER) == "Not evaluated yet."
    assert said(TEACHER, seconds=252) == "Not evaluated after 4 min 12 s of training."
    assert verdict(Run(FOLDER, About(name="run"))) == "Not evaluated yet."
    nothing = Evaluation(primary="", metrics={}, systems=[])
    assert verdict(Run(FOLDER, About(name="run"), evaluation=nothing)) == "Not evaluated yet."
