"""Preference rows: two answers after one prompt, as a language model reads them, and who learns what from them.

.venv/bin/python -m pytest tests/views/test_preferences.py
"""

import pytest
import torch
from datasets import Dataset

from stillroom.checks import build_method
from stillroom.data.rows import check, chosen_alone, recognise
from stillroom.engine.encoding import encode
from stillroom.errors import UserError
from stillroom.recipe import Method
from stillroom.run import usable
from stillroom.students.open import train_tokenizer
from stillroom.views.base import make_batch
from stillroom.views.causal_lm import CausalLM

ROWS = [
    {"prompt": "one two three four five", "chosen": " six", "rejected": " nine ten ten"},
    {"prompt": "two", "chosen": " three four", "rejected": " one"},
]


@pytest.fixture(scope="module")
def tokenizer():
    words = "one two three four five six nine ten"
    return train_tokenizer([words, " " + words] * 20, 330)


def test_a_row_becomes_two_of_the_batch(tokenizer):
    view = CausalLM(tokenizer)
    batch = make_batch(view, None, [{"student": view.encode(row)} for row in ROWS])
    assert batch.columns["pairs"].tolist() == [[0, 1], [2, 3]] and len(set(batch.ids)) == 4
    said = [tokenizer.decode(labels[mask]) for labels, mask in zip(batch.labels, batch.mask, strict=True)]
    assert said == [f"{row[name]}<|end|>" for row in ROWS for name in ("chosen", "rejected")]
    for place, row in enumerate(ROWS):
        for side in (0, 1):
            ids = batch.student["input_ids"][2 * place + side]
            assert tokenizer.decode(ids).startswith(row["prompt"])
    assert {unit: int(count) for unit, count in batch.counts().items()} == {
        "token": int(batch.mask.sum()), "row": 4, "pair": 2, "batch": 1,
    }  # fmt: skip


def test_through_a_table_they_stay_what_they_are(tokenizer):
    view = CausalLM(tokenizer)
    encoded, counts = encode(Dataset.from_list(ROWS), view)
    rows = [{"student": row} for row in encoded["student"]]
    ours, theirs = (make_batch(view, None, some) for some in (rows, [{"student": view.encode(row)} for row in ROWS]))
    assert torch.equal(ours.labels, theirs.labels) and torch.equal(ours.mask, theirs.mask) and ours.ids == theirs.ids
    assert counts.rows == 2 and counts.tokens == sum(row["length"] for row in encoded)
    assert counts.trained == int(ours.mask.sum())


def test_both_answers_keep_the_same_prompt_when_it_is_shortened(tokenizer):
    whole = CausalLM(tokenizer).encode(ROWS[0])
    longest = max(whole["sizes"])
    encoded = CausalLM(tokenizer, max_length=longest - 1).encode(ROWS[0])
    assert encoded["shortened"] and not encoded["dropped"] and encoded["sizes"] == [size - 1 for size in whole["sizes"]]
    first, second = (
        tokenizer.decode(ids).split(" ")[0]
        for ids in (encoded["input_ids"], encoded["input_ids"][encoded["sizes"][0] :])
    )
    assert first == second
    assert "longer than" in CausalLM(tokenizer, max_length=longest - 1, overflow="drop").encode(ROWS[0])["dropped"]


def test_answers_that_are_the_same_are_refused(tokenizer):
    same = ROWS[1] | {"rejected": ROWS[1]["chosen"]}
    with pytest.raises(UserError, match=r"rows.jsonl line 2: 'chosen' and 'rejected' are the same"):
        check(same, "preference", "rows.jsonl line 2")
    assert CausalLM(tokenizer).encode(same)["dropped"] == "chosen and rejected are the same tokens"
    assert recognise(ROWS[0]) == "preference"


def test_who_compares_nothing_learns_from_the_chosen_answers():
    source = Dataset.from_list(ROWS)
    (plain,) = usable(build_method(Method(name="sft")), [source])
    assert plain.to_list() == [{"prompt": row["prompt"], "completion": row["chosen"]} for row in ROWS]
    assert usable(build_method(Method(name="dpo-self-training")), [source]) == [source]
    assert chosen_alone(plain) is plain
    with pytest.raises(UserError, match="learns from rows of the format preference"):
        usable(build_method(Method(name="dpo-self-training")), [plain])
