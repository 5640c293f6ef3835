"""The calculator: what it forces in a real ``generate``, row by row, and where it leaves the model alone.

.venv/bin/python -m pytest tests/blocks/test_calculator.py
"""

import math
from fractions import Fraction

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stillroom.blocks.calculator import Calculator, shown
from stillroom.blocks.sampler import answers
from stillroom.students.open import train_tokenizer

TEXTS = ["She has 12 + 4 = <<12+4=16>>16 eggs.", "half of 48/2 = <<48/2=24>>24", "-3 1.5 7 * 0"] * 20


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 330)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=340, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, initializer_range=0.5,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def written(model, tokenizer, texts, processors, count=12, **settings):
    prompts = [tokenizer(text)["input_ids"] for text in texts]
    ids = answers(model, prompts, stop=[], max_new_tokens=count, processors=processors, vocabulary=330, **settings)
    return [tokenizer.decode(row) for row in ids]


SUMS = [
    ("She has 12 + 4 = <<12+4=", "16>>"),
    ("<<48/5=", "9.6>>"),
    ("<<1/3=", "0.33>>"),
    ("<<(2+3)*4 =", "20>>"),
    ("<<7*0=", "0>>"),
    ("<<2=2>> and <<100000*3=", "300000>>"),
]


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"temperature": 1.0}, {"temperature": 0.0, "beams": 3}])
def test_open_sums_are_finished_each_in_its_own_row(model, tokenizer, sampling):
    """Rows of different lengths, results of different lengths, and rows without a sum in one batch."""
    torch.manual_seed(0)
    texts = [text for text, _ in SUMS] + ["She has 12 eggs"]
    found = written(model, tokenizer, texts, [Calculator(tokenizer)], **sampling)
    for said, (_, wanted) in zip(found, SUMS, strict=False):
        assert said.startswith(wanted)


def test_where_nothing_is_open_the_model_is_alone(model, tokenizer):
    texts = ["12 + 4 =", "<<12+4=16>>16 =", "<<3-7=", "<<1/0=", "<<eggs=", "<<1=1=", "none", "<<9**9**9="]
    free = written(model, tokenizer, texts, [], temperature=0.0)
    assert written(model, tokenizer, texts, [Calculator(tokenizer)], temperature=0.0) == free


def test_marks_and_forms_can_be_chosen(model, tokenizer):
    own = Calculator(tokenizer, opening="[", closing=" ]", before=" ", digits=0, negative=True)
    found = written(model, tokenizer, ["[ 3 - 7 =", "[ 5 / 2 =", "<<1+1="], [own], temperature=0.0)
    assert found[0].startswith(" -4 ]") and found[1].startswith(" 2 ]") and not found[2].startswith("2>>")


def test_a_step_by_hand(tokenizer):
    """One row in the midst of its result, one before it, one that left the path: only the first two are forced."""
    rows = ["<<10+6=1", "<<10+6=", "<<10+6=2"]
    wanted = tokenizer("16>>")["input_ids"]
    ids = [tokenizer(text)["input_ids"] for text in rows]
    ids[0] = ids[1] + wanted[:1]
    width = max(map(len, ids))
    padded = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in ids])
    scores = torch.randn(3, 340)
    out = Calculator(tokenizer)(padded, scores)
    assert out[0].argmax() == wanted[1] and out[1].argmax() == wanted[0]
    assert torch.equal(out[2], scores[2]) and (out[:2] > -math.inf).sum(1).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("value", "text"), [("9.60", "9.6"), ("-4", "-4"), ("2/3", "0.67"), ("1000000", "1000000"), ("-0.001", "0")]
)
def test_numbers_are_written_without_needless_zeros(value, text):
    assert shown(Fraction(value)) == text


def test_marks_are_needed(tokenizer):
    with pytest.raises(ValueError, match="needs marks"):
        Calculator(tokenizer, closing=" ")
