"""Hidden tokens: which, how they are shown, and that nobody else changes.

.venv/bin/python -m pytest tests/blocks/test_masking.py
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from stillroom.blocks.masking import hide
from stillroom.signals import Batch

MASK, VOCABULARY = 3, 1000


class Tokenizer(SimpleNamespace):
    def __len__(self):
        return VOCABULARY


TOKENIZER = Tokenizer(mask_token_id=MASK)


def batch(rows=200, tokens=100):
    ids = torch.full((rows, tokens), 7)
    mask = torch.ones(rows, tokens, dtype=torch.bool)
    mask[:, 0] = False  # a special token
    mask[: rows // 2, 60:] = False  # padding
    student = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return Batch(ids=[str(n) for n in range(rows)], student=student, mask=mask, labels=ids)


def test_what_is_hidden_and_how_it_is_shown():
    torch.manual_seed(0)
    before = batch()
    after = hide(before, TOKENIZER, 0.15)
    shown = after.student["input_ids"][after.mask]
    assert not (after.mask & ~before.mask).any()
    assert float(after.mask.sum() / before.mask.sum()) == pytest.approx(0.15, abs=0.01)
    assert float((shown == MASK).float().mean()) == pytest.approx(0.8, abs=0.03)
    assert float((shown == 7).float().mean()) == pytest.approx(0.1, abs=0.02)
    others = shown[(shown != MASK) & (shown != 7)]
    assert len(others.unique()) > 100 and int(others.max()) < VOCABULARY


def test_all_else_stays_as_it_was():
    torch.manual_seed(0)
    before = batch()
    after = hide(before, TOKENIZER, 0.5)
    assert (after.student["input_ids"][~after.mask] == 7).all() and torch.equal(after.labels, before.labels)
    assert (before.student["input_ids"] == 7).all() and after.student["attention_mask"] is before.student[
        "attention_mask"
    ]
    assert torch.equal(hide(before, TOKENIZER, 1.0).mask, before.mask)


def test_it_is_drawn_from_the_steps_seed():
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(hide(batch(), TOKENIZER, 0.15))
    assert torch.equal(found[0].student["input_ids"], found[1].student["input_ids"])
    assert not torch.equal(found[0].mask, found[2].mask)


def test_a_teacher_that_reads_otherwise_is_refused():
    with pytest.raises(ValueError, match="read the same"):
        hide(replace(batch(), teacher={}), TOKENIZER, 0.15)
