"""Reading run folders: what is refused and in which words, torn and repeated lines, and keys that must not be shown.

.venv/bin/python -m pytest tests/report/test_reading.py
"""

import json

import pytest
from tests.report.folders import EVALUATION, RUN, write, write_complete, write_minimal

from stillroom.errors import UserError
from stillroom.report.reading import read
from stillroom.report.text import clean, shorten, without_keys


def test_everything_is_read(tmp_path):
    run = read(write_complete(tmp_path))
    assert list(run.logged) == ["margin-mse", "kd", "sft"]
    assert run.evaluation.role("teacher").metrics["ndcg@10"] == 0.712
    assert run.settings()["data.train.1.view"] == "pairs"
    assert run.evaluation.agreement["rank_correlation"].value == 0.913  # a bare number


def test_the_least(tmp_path):
    run = read(write_minimal(tmp_path))
    assert (run.logged, run.evaluation, run.recipe, run.settings()) == ({}, None, "", {})


def test_no_run(tmp_path):
    with pytest.raises(UserError, match=r"is no run folder: it holds no run\.json; give a folder"):
        read(tmp_path / "nowhere")


def test_an_unfinished_run(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: a\n")
    with pytest.raises(UserError, match=r"is not finished: go on with `stillroom distill .*recipe\.yaml --resume`"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"primary": "unheard"}, "the primary metric 'unheard' is not among the metrics"),
        ({"systems": [{"name": "a", "role": "king"}]}, r"at systems\.0\.role: .*'teacher'.*found 'king'"),
        ({"metrics": 3}, r"evaluation\.json is wrong at metrics: .*found 3"),
        ({"worst": [{"input": "<script>" * 1000}]}, r"at worst\.0\.teacher"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, change, words):
    write(tmp_path, evaluation=EVALUATION | change)
    with pytest.raises(UserError, match=words) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_files_that_are_not_json_or_yaml(tmp_path):
    write_complete(tmp_path)
    (tmp_path / "recipe.yaml").write_text("a: [1\n")
    with pytest.raises(UserError, match=r"recipe\.yaml is not YAML"):
        read(tmp_path).settings()
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json is not JSON"):
        read(tmp_path)


def test_a_torn_last_line_is_left_out_and_another_is_refused(tmp_path):
    write(tmp_path, logged={"": [{"step": 1, "total": 2.0}, {"step": 2, "total": 1.0}]})
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"step": 3, "tot')
    assert [line.step for line in read(tmp_path).logged["margin-mse"]] == [1, 2]
    path.write_text('{"step": 0, "tot\n' + whole)
    with pytest.raises(UserError, match="line 1, is not JSON"):
        read(tmp_path)


def test_of_a_repeated_step_the_later_line_counts(tmp_path):
    lines = [{"step": step, "total": total} for step, total in ((1, 9.0), (2, 8.0), (3, 7.0), (2, 8.5), (3, 7.5))]
    write(tmp_path, logged={"": [*lines, {"step": 3, "evaluation": {"loss": 1.0}}]})
    found = read(tmp_path).logged["margin-mse"]
    assert [line.total for line in found] == [9.0, 8.5, 7.5, None]
    assert found[-1].evaluation == {"loss": 1.0}


def test_a_nan_is_a_number(tmp_path):
    write(tmp_path, logged={"": [{"step": 1, "total": float("nan"), "parts": {"a": float("inf")}}]})
    assert read(tmp_path).logged["margin-mse"][0].total != 0


def test_keys_are_kept_out(tmp_path):
    recipe = {"teacher": {"endpoint": "http://host", "api_key": "sk-abc123", "key_variable": "OPENAI_API_KEY"}}
    recipe["train"] = {"max_new_tokens": 5, "tokenizer": "x", "password": "hunter2", "hf_token": "hf_abc"}
    command = "stillroom distill r.yaml --set teacher.api_key=sk-abc123 --set train.steps=2"
    write(tmp_path, run=RUN | {"command": command}, recipe=recipe)
    run = read(tmp_path)
    for secret in ("sk-abc123", "hunter2", "hf_abc"):
        assert secret not in run.recipe + run.about.command
    assert "OPENAI_API_KEY" in run.recipe and "max_new_tokens: 5" in run.recipe and "tokenizer: x" in run.recipe
    assert run.about.command.endswith("--set train.steps=2")
    assert without_keys("api_key: null\n") == "api_key: null\n"


def test_text_that_cannot_be_shown():
    assert clean("a\x00b\x1b[0m\ud800\u202ec\n\td") == "a�b�[0m��c\n\td"
    assert clean("naïve 日本語 👩‍🔬") == "naïve 日本語 👩‍🔬"
    assert shorten("  one\ntwo   three ", 20) == "one two three"
    assert shorten("abcdef", 6) == "abcdef" and shorten("abcdefg", 6) == "abcde…"
    assert len(shorten("x" * 10**6, 50)) == 50


def test_fields_that_others_add_are_let_through(tmp_path):
    write(tmp_path, run=RUN | {"host": "a"}, evaluation=json.loads(json.dumps(EVALUATION)) | {"more": 1})
    assert read(tmp_path).about.name == RUN["name"]
