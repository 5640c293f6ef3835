"""The beam search against all sentences one by one; its probabilities, its penalty, and when it ends.

.venv/bin/python -m pytest tests/blocks/test_constrained_search.py
"""

import math
from itertools import product

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, LlamaConfig, LlamaForCausalLM

from stillroom.blocks.constrained_search import DecoderReader, EncoderDecoderReader, beam_search, length_cost
from stillroom.blocks.constraints import Trie

SIZES = {"vocab_size": 13, "max_position_embeddings": 64, "eos_token_id": 0, "pad_token_id": 1}
SENTENCES = [(5, 6), (5, 6, 7), (8,), (8, 9, 9, 9), (4, 5)]
PROMPTS = [[3, 4, 10], [9], [11, 2]]


def llama():
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**SIZES, **sizes, initializer_range=0.7)).eval()


def bart():
    torch.manual_seed(1)
    config = BartConfig(
        **SIZES, d_model=16, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32, init_std=0.7,
        encoder_attention_heads=2, decoder_attention_heads=2, decoder_start_token_id=0, bos_token_id=2,
    )  # fmt: skip
    return BartForConditionalGeneration(config).eval()


@torch.no_grad()
def log_prob(model, prompt, written, stop=(0,)):
    """log p(written, any stop | prompt), everything read again at each token."""
    total, said = 0.0, []
    for place in range(len(written) + 1):
        if model.config.is_encoder_decoder:
            logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[0, *said]])).logits
        else:
            logits = model(torch.tensor([[*prompt, *said]])).logits
        probabilities = torch.softmax(logits[0, -1].double(), -1)
        if place == len(written):
            return total + math.log(sum(float(probabilities[token]) for token in stop))
        total += math.log(float(probabilities[written[place]]))
        said.append(written[place])


@pytest.mark.parametrize(("make", "reader"), [(llama, DecoderReader), (bart, EncoderDecoderReader)])
def test_a_wide_beam_ranks_all_sentences_as_they_are_ranked_one_by_one(make, reader):
    """Prompts of different lengths in one batch; log-probabilities are the model's own, not renormalised."""
    model = make()
    found = beam_search(reader(model), PROMPTS, [Trie(SENTENCES)] * 3, beam=5, stop=[0], max_new_tokens=4)
    for prompt, among in zip(PROMPTS, found, strict=True):
        scores = {one: log_prob(model, prompt, one) for one in SENTENCES}
        costs = {one: -scores[one] / ((5 + len(one) + 1) / 6) ** 0.7 for one in SENTENCES}
        assert [one.tokens for one in among] == sorted(SENTENCES, key=costs.get)
        for one in among:
            assert one.log_prob == pytest.approx(scores[one.tokens], abs=1e-4)
            assert one.cost == pytest.approx(costs[one.tokens], abs=1e-4)


def test_an_end_is_as_likely_as_all_stop_tokens_together():
    model = llama()
    (found,) = beam_search(DecoderReader(model), PROMPTS[:1], [Trie([(8,)])], beam=1, stop=[0, 2, 7], max_new_tokens=3)
    assert found[0].log_prob == pytest.approx(log_prob(model, PROMPTS[0], (8,), (0, 2, 7)), abs=1e-4)


def test_without_an_automaton_everything_is_searched():
    """All sequences of two tokens at most, one by one."""
    model = llama()
    everything = [one for size in range(3) for one in product(range(1, 13), repeat=size)]
    (found,) = beam_search(
        DecoderReader(model), PROMPTS[1:2], [None], beam=200, stop=[0], max_new_tokens=2, exponent=0.0
    )
    best = sorted(everything, key=lambda one: -log_prob(model, PROMPTS[1], one))[:8]
    assert [one.tokens for one in found[:8]] == best


class Fixed:
    """A model of two tokens: 3 with 0.9 as long as it is written, the end with the rest."""

    def begin(self, prompts):
        return self.extend(torch.zeros(len(prompts)), None)

    def extend(self, parents, tokens):
        return torch.tensor([0.1, 1e-9, 1e-9, 0.9]).log().expand(len(parents), -1)


def test_the_search_goes_on_until_no_unfinished_node_can_win():
    """Without penalty the empty sequence wins at once; with a strong one the longest does, at a tenth of its cost."""
    search = {"beam": 1, "stop": [0], "max_new_tokens": 30}
    (short,) = beam_search(Fixed(), [[1]], [None], exponent=0.0, **search)
    (long,) = beam_search(Fixed(), [[1]], [None], exponent=3.0, **search)
    assert short[0].tokens == () and short[0].log_prob == pytest.approx(math.log(0.1), abs=1e-5)
    assert long[0].tokens == (3,) * 30
    assert long[0].cost == pytest.approx(-(30 * math.log(0.9) + math.log(0.1)) / (36 / 6) ** 3, abs=1e-5)
    assert length_cost(-6.0, 1) == pytest.approx(6.0)


def test_a_search_without_a_beam_or_a_stop_is_refused():
    for wrong in ({"beam": 0, "stop": [0]}, {"beam": 1, "stop": []}):
        with pytest.raises(ValueError, match="a search needs"):
            beam_search(Fixed(), [[1]], [None], max_new_tokens=3, **wrong)
