"""What models were trained on is found through their folders, and rows of it are refused.

.venv/bin/python -m pytest tests/test_provenance.py
"""

import json

import pytest
import yaml
from datasets import Dataset

from stillroom.errors import UserError
from stillroom.measuring.provenance import refuse_trained_on, trained_on

QUESTIONS = [f"Which of the {n} old houses in street number {n * n} was sold first, and why?" for n in range(20)]


def rows(path, questions):
    path.write_text("".join(json.dumps({"prompt": q, "completion": f" {n}"}) + "\n" for n, q in enumerate(questions)))
    return str(path)


def run(folder, train, *, model="model", **recipe):
    (folder / model).mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"data": {"train": [{"source": train}]}, **recipe}))
    return str(folder / model)


@pytest.fixture
def chain(tmp_path):
    """A teacher that learnt the benchmark, its student, the student's student, and rows of each."""
    benchmark, other = (
        rows(tmp_path / "benchmark.jsonl", QUESTIONS[:10]),
        rows(tmp_path / "other.jsonl", QUESTIONS[10:]),
    )
    teacher = run(tmp_path / "teacher", benchmark)
    student = run(tmp_path / "student", other, teacher={"model": teacher}, student={"cut": {"of": "teacher"}})
    last = run(tmp_path / "last", other, teacher={"model": student}, model="against/sft/model")
    return benchmark, other, teacher, student, last


def test_a_model_answers_for_its_teachers(chain):
    benchmark, other, teacher, student, last = chain
    found = [(model, source["source"]) for model, source in trained_on(last)]
    assert found == [(last, other), (student, other), (teacher, benchmark)]
    assert list(trained_on("owner/some-model")) == []


def test_the_benchmark_is_refused_to_the_last_student_and_fresh_rows_are_not(chain):
    _, _, teacher, _, last = chain
    seen = Dataset.from_list([{"prompt": q, "completion": " so"} for q in QUESTIONS[:10]])
    with pytest.raises(UserError, match=f"10 of 10 rows .* stand in the training data of {teacher}"):
        refuse_trained_on(last, seen)
    fresh = Dataset.from_list([{"prompt": f"How many spoons has cook number {n}?", "completion": ""} for n in range(9)])
    refuse_trained_on(last, fresh)
    refuse_trained_on(last, Dataset.from_list([{"image": [[0.0]]}]))  # nothing to read


def test_rows_that_are_gone_are_said_and_not_fatal(chain, tmp_path, caplog):
    (tmp_path / "benchmark.jsonl").unlink()
    refuse_trained_on(chain[2], Dataset.from_list([{"prompt": QUESTIONS[0], "completion": ""}]))
    assert "can't be read" in caplog.text
