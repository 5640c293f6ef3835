"""``stillroom evaluate``: a saved student measured again, alone or beside its teacher.

.venv/bin/python -m pytest tests/cli/test_evaluate.py
"""

import json
import math

import pytest
import torch
from tests.cli.conftest import TINY, new_model, sums, write_rows


def test_the_figures_are_those_of_the_model(stillroom, shop):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    told = stillroom("evaluate", shop.student, "--data", shop.held_out, "--json")
    assert told.code == 0, told.err
    found = json.loads(told.out)
    (system,) = found["systems"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(shop.student), AutoTokenizer.from_pretrained(shop.student)
    nats, right, tokens = 0.0, 0, 0
    for row in list(sums(90))[60:]:  # the slow way: row by row, token by token
        asked = tokenizer(row["prompt"])["input_ids"]
        answer = [*tokenizer(row["completion"])["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model(torch.tensor([asked + answer])).logits[0]
        for place, token in enumerate(answer, len(asked) - 1):
            nats -= float(logits[place].log_softmax(-1)[token])
            right += int(logits[place].argmax()) == token
            tokens += 1
    assert system["metrics"]["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    assert system["metrics"]["next_token_accuracy"] == pytest.approx(right / tokens)
    assert system["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["primary"] == "perplexity"


def test_beside_a_teacher_agreement_is_measured_too(stillroom, shop):
    told = stillroom("evaluate", shop.student, "--data", shop.held_out, "--teacher", shop.teacher, "--json")
    assert told.code == 0, told.err
    teacher, student = json.loads(told.out)["systems"]
    assert (teacher["role"], student["role"]) == ("teacher", "student")
    assert student["metrics"]["teacher_kl"] > 0 and 0 <= student["metrics"]["teacher_top1"] <= 1
    assert "teacher_kl" not in teacher["metrics"]
    same = stillroom("evaluate", shop.teacher, "--data", shop.held_out, "--teacher", shop.teacher, "--json")
    measured = json.loads(same.out)["systems"][1]["metrics"]
    assert measured["teacher_kl"] == pytest.approx(0, abs=1e-6) and measured["teacher_top1"] == 1


def test_a_teacher_with_another_tokenizer_is_measured_but_not_compared(stillroom, shop):
    told = stillroom("evaluate", shop.student, "--data", shop.held_out, "--teacher", shop.stranger)
    assert told.code == 0, told.err
    assert "perplexity" in told.out and "KL from the teacher" not in told.out


def test_limit_draws_fewer_rows(stillroom, shop):
    figures = [
        json.loads(stillroom("evaluate", shop.student, "--data", shop.held_out, "--limit", count, "--json").out)
        for count in (5, 500)
    ]
    few, all_ = (found["systems"][0]["metrics"]["perplexity"] for found in figures)
    assert few != all_


def test_a_kind_that_the_files_do_not_tell_is_asked_for(stillroom, tmp_path, shop):
    folder = tmp_path / "odd"
    new_model("language", folder, TINY, tokenizer=shop.teacher)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": None}))
    told = stillroom("evaluate", "odd", "--data", shop.held_out)
    assert told.code == 2 and "does not say what kind of model it is" in told.err and "language" in told.err
    assert stillroom("evaluate", "odd", "--data", shop.held_out, "--task", "language").code == 0


def test_a_head_that_the_files_lack_is_said_to_be_random(stillroom, tmp_path, caplog):
    rows = write_rows(tmp_path / "texts.jsonl", [{"text": f"text {n}", "label": n % 2} for n in range(8)])
    bare = new_model("encoder", tmp_path / "bare", TINY, ["text 1 2 3"] * 5)
    with caplog.at_level("WARNING"):
        assert stillroom("evaluate", bare, "--data", rows, "--task", "text-classifier").code == 0
    assert "has no weights for classifier.bias, classifier.weight: they start at random" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere/at/all", "--data", "x"), "there is no model folder nowhere/at/all"),
        (("STUDENT", "--data", "none.jsonl"), "none.jsonl: no such file"),
        (("STUDENT", "--data", "ROWS", "--suite", "word-similarity"), "'embeddings'; this one is 'language'"),
        (("STUDENT", "--data", "ROWS", "--limit", "0"), "limit must be at least 1"),
        (("STUDENT", "--data", "PAIRS"), "'pair'"),
        (("STUDENT", "--data", "pydocs", "--split", "tset"), "did you mean 'test'?"),
        (("STUDENT",), "--data"),
    ],
)
def test_wrong_use(stillroom, shop, tmp_path, arguments, words):
    pairs = write_rows(tmp_path / "pairs.jsonl", [{"anchor": "a", "positive": "b"}])
    named = {"STUDENT": shop.student, "ROWS": shop.rows, "PAIRS": pairs}
    told = stillroom("evaluate", *(named.get(argument, argument) for argument in arguments))
    assert (told.code, told.out) == (2, "") and words in told.err, told.err
