"""A local model as a writer: its log-probabilities, its stops, its penalties.

.venv/bin/python -m pytest tests/synthesis/test_local.py
"""

import pytest
import torch
from tests.servers import make_tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from stillroom.synthesis.local import Penalties, writing
from stillroom.synthesis.writers import FunctionWriter


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = make_tiny_llama(tmp_path_factory.mktemp("tiny"))
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def turns(*texts):
    return [[{"role": "user", "content": text}] for text in texts]


@torch.no_grad()
def log_prob(model, ids, written):
    total, said = 0.0, list(ids)
    for token in written:
        total += float(model(torch.tensor([said])).logits[0, -1].log_softmax(-1)[token])
        said.append(token)
    return total


def test_log_probabilities_are_the_models_own_whatever_the_temperature(tiny):
    model, tokenizer = tiny
    torch.manual_seed(0)
    write = writing(model, tokenizer, temperature=0.5, top_p=0.9, max_tokens=6)
    for text, found in zip(("a still", "a room is where"), write(turns("a still", "a room is where")), strict=True):
        assert found.finish_reason in ("length", "stop") and found.tokens_in == len(tokenizer(text)["input_ids"])
        if found.finish_reason == "length" and "�" not in found.text:
            ids = tokenizer(text)["input_ids"]
            again = tokenizer(found.text)["input_ids"]
            if len(again) == found.tokens_out:  # written as the tokenizer cuts it
                assert found.log_prob == pytest.approx(log_prob(model, ids, again), abs=1e-3)


def test_a_stop_text_ends_an_answer_and_is_not_of_it(tiny):
    model, tokenizer = tiny
    (whole,) = writing(model, tokenizer, temperature=0, max_tokens=8)(turns("a still"))
    mark = whole.text[2:4]
    (cut,) = writing(model, tokenizer, temperature=0, max_tokens=8, stop=mark)(turns("a still"))
    assert cut.text == whole.text[: whole.text.index(mark)] and cut.finish_reason == "stop"
    assert cut.tokens_out <= whole.tokens_out and cut.log_prob >= whole.log_prob


def test_penalties_by_hand():
    """Token 2 was written twice, 3 once, 1 only in the prompt: 0.5 for being there, 0.25 for each time."""
    rule = Penalties(2, presence=0.5, frequency=0.25)
    found = rule(torch.tensor([[1, 1, 2, 3, 2]]), torch.zeros(1, 5))
    assert found.tolist() == [[0.0, 0.0, -1.0, -0.75, 0.0]]


def test_it_is_what_a_function_writer_calls(tiny):
    model, tokenizer = tiny
    made = FunctionWriter(writing(model, tokenizer, max_tokens=3, chat=True), name="tiny", batch=2)
    answers = list(made.complete(["a", "still", "room"], ["1", "2", "3"]))
    assert [answer.id for answer in answers] == ["1", "2", "3"] and made.usage.answers == 3
    assert all(answer.log_prob < 0 and answer.tokens_out <= 3 for answer in answers)
