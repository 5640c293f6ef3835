"""The parser: its prompts and their examples, its sentences and meanings, tuned models and encoder-decoders.

.venv/bin/python -m pytest tests/methods/parsing/test_constrained_lm_parser.py
"""

import math

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, LlamaConfig, LlamaForCausalLM

from stillroom import catalog
from stillroom.blocks.grammar import Grammar, token_texts
from stillroom.errors import UserError
from stillroom.methods.parsing.constrained_lm_parser import ConstrainedLMParser, training_rows
from stillroom.students.open import train_tokenizer

LANGUAGE = {
    "people of Peru": "(population country:peru)",
    "people of Chile": "(population country:chile)",
    "money of Peru": "(currency country:peru)",
    "people of Peru and Chile": "(sum country:peru country:chile)",
}
PAIRS = [
    ("how many live in Peru", "people of Peru"),
    ("how many live in Chile", "people of Chile"),
    ("what does one pay with in Peru", "money of Peru"),
]


@pytest.fixture(scope="module")
def tokenizer():
    texts = [*LANGUAGE, *(said for said, _ in PAIRS), "Human: how\nComputer: people\n"]
    return train_tokenizer(texts * 3, 330)


@pytest.fixture(scope="module")
def llama(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=512, initializer_range=0.5, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def parser(model, tokenizer, **settings):
    return ConstrainedLMParser(model, tokenizer, **({"language": LANGUAGE, "shots": 0, "beam": 4} | settings))


@torch.no_grad()
def cost(model, prompt, written, stop):
    """By hand: the tokens one by one, and all that may end it, over the length penalty with the stop counted."""
    total, ids = 0.0, list(prompt)
    for token in written:
        total += float(model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)[token])
        ids.append(token)
    last = model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    return -(total + math.log(sum(float(last[token]) for token in stop))) / ((5 + len(written) + 1) / 6) ** 0.7


def test_the_whole_language_is_ranked_as_by_hand(llama, tokenizer):
    """A beam as wide as the language; sentences follow "Computer:", so their first token begins with a space."""
    made = parser(llama, tokenizer)
    newline = [n for n in range(len(tokenizer)) if tokenizer.decode([n]).startswith("\n")]
    assert set(made.stop) == {tokenizer.eos_token_id, *newline} and newline
    prompt = tokenizer("Human: how many live in Peru\nComputer:")["input_ids"]
    costs = {text: cost(llama, prompt, tokenizer(f" {text}")["input_ids"], made.stop) for text in LANGUAGE}
    (found,) = made.parse(["how many live in Peru"])
    assert [one.text for one in found] == sorted(costs, key=costs.get)
    for one in found:
        assert one.cost == pytest.approx(costs[one.text], abs=1e-4) and one.meaning == LANGUAGE[one.text]


def test_without_the_constraint_a_random_model_writes_nothing_that_means_anything(llama, tokenizer):
    asked = [said for said, _ in PAIRS]
    free = parser(llama, tokenizer, constrained=False, max_new_tokens=6).parse(asked)
    bound = parser(llama, tokenizer, beam=1).parse(asked)
    assert all(among[0].meaning is None for among in free) and all(among[0].meaning for among in bound)


def test_a_grammar_takes_the_place_of_a_list(llama, tokenizer):
    """Of each sentence the likeliest way of cutting it is at least as likely as the tokenizer's own."""
    rules = {
        "<s>": [("people of <c>", "(population <c>)"), ("money of <c>", "(currency <c>)")],
        "<c>": [("Peru", "country:peru"), ("Chile", "country:chile")],
    }
    grammar = Grammar(rules, start="<s>", tokens=token_texts(tokenizer), first=" ")
    (found,) = parser(llama, tokenizer, language=grammar, beam=60, max_new_tokens=16).parse(["x"])
    best = {one.meaning: one for one in reversed(found)}
    assert "(population country:peru)" in best and None not in best
    made = parser(llama, tokenizer, exponent=0.7)
    prompt = tokenizer("Human: x\nComputer:")["input_ids"]
    own = cost(llama, prompt, tokenizer(" people of Peru")["input_ids"], made.stop)
    assert best["(population country:peru)"].cost <= own + 1e-4


def test_an_encoder_decoder_reads_the_utterance_alone(tokenizer):
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32, init_std=0.5,
        decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=tokenizer.eos_token_id, forced_eos_token_id=None,
    )  # fmt: skip
    made = parser(BartForConditionalGeneration(config), tokenizer)
    assert made.prompt("how many") == "how many" and made.lead == ""
    found = made.parse(["how many live in Peru", "what"])
    assert all({one.text for one in among} == set(LANGUAGE) for among in found)


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_the_prompt_by_hand(llama, tokenizer):
    made = parser(llama, tokenizer, pairs=PAIRS, shots=2, similarity="bm25", order="best-first", instruction="Go.")
    assert made.prompt("what does one pay with in Chile") == (
        "Go.\n\nHuman: what does one pay with in Peru\nComputer: money of Peru\n\n"
        "Human: how many live in Chile\nComputer: people of Chile\n\n"
        "Human: what does one pay with in Chile\nComputer:"
    )
    made.order = "best-last"
    assert made.prompt("what does one pay with in Chile").startswith("Go.\n\nHuman: how many live in Chile")
    made.order = "shuffle"
    assert made.prompt("x") == made.prompt("x")
    made.longest = len(tokenizer(made.prompt("how many"))["input_ids"]) - 1
    assert made.prompt("how many").count("Human:") == 2  # one example less


def test_examples_are_ranked_by_the_models_own_likelihood(llama, tokenizer):
    llama.eval()
    made = parser(llama, tokenizer, pairs=PAIRS, shots=1, batch=2)
    asked = "how many live in Spain"
    answer = tokenizer(asked)["input_ids"]
    scores = {}
    for said, meant in PAIRS:
        ids = [*tokenizer(f"{said}\n")["input_ids"], *answer]
        with torch.no_grad():
            rows = llama(torch.tensor([ids])).logits[0].log_softmax(-1)
        first = len(ids) - len(answer)
        scores[said, meant] = sum(float(rows[first - 1 + n, token]) for n, token in enumerate(answer))
    assert made.similar(asked) == sorted(scores, key=scores.get, reverse=True)


def test_rows_to_tune_on_are_what_is_asked_later(llama, tokenizer):
    (row,) = training_rows(PAIRS[:1])
    assert row == {"prompt": "Human: how many live in Peru\nComputer:", "completion": " people of Peru"}
    assert parser(llama, tokenizer).prompt(PAIRS[0][0]) == row["prompt"]


def test_what_does_not_fit_is_refused(llama, tokenizer):
    with pytest.raises(UserError, match="has two meanings"):
        parser(llama, tokenizer, language=[("a", "1"), ("a", "2")])
    with pytest.raises(UserError, match="20 examples are to be shown and 3 are given"):
        parser(llama, tokenizer, pairs=PAIRS, shots=20)
    for wrong in ({"beam": 0}, {"exponent": -1}, {"similarity": "cosine"}, {"order": "random"}):
        with pytest.raises(ValueError):
            parser(llama, tokenizer, **wrong)
    assert catalog.load("constrained-lm-parser") is ConstrainedLMParser
