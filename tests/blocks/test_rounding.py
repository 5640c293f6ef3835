"""Weights rounded to a few bits.

.venv/bin/python -m pytest tests/blocks/test_rounding.py
"""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stillroom.blocks.rounding import round_weights, rounded_copy


def test_by_hand():
    """2 bits have 4 values: of 0 ... 3 the whole numbers, of -1 ... 1 the thirds of the way."""
    found = round_weights(torch.tensor([[0.0, 3.0, 1.4, 1.6, -1.0, 1.0, -0.5, 0.1]]), bits=2, group=4)
    torch.testing.assert_close(found, torch.tensor([[0.0, 3.0, 1.0, 2.0, -1.0, 1.0, -1 / 3, 1 / 3]]))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_group_has_few_values_and_no_weight_moves_far(bits):
    torch.manual_seed(0)
    weight = torch.randn(6, 70, dtype=torch.float64)
    found = round_weights(weight, bits=bits, group=32)
    for columns in (slice(0, 32), slice(32, 64), slice(64, 70)):
        for before, after in zip(weight[:, columns], found[:, columns], strict=True):
            step = (before.max() - before.min()) / (2**bits - 1)
            assert (before - after).abs().max() <= step / 2 + 1e-12
            assert len(((after - after.min()) / step).round().unique()) <= 2**bits
            torch.testing.assert_close(torch.stack(after.aminmax()), torch.stack(before.aminmax()))


def test_equal_weights_stay_as_they_are():
    assert torch.equal(round_weights(torch.full((2, 8), 0.3)), torch.full((2, 8), 0.3))


def test_a_copy_rounds_the_linear_maps_and_nothing_else():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=30, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = rounded_copy(model, bits=3, group=8)
    for name, value in made.state_dict().items():
        assert torch.equal(model.state_dict()[name], before[name])
        if "proj" in name:
            torch.testing.assert_close(value, round_weights(before[name], bits=3, group=8))
            assert not torch.equal(value, before[name])
        else:
            assert torch.equal(value, before[name])


@pytest.mark.parametrize("settings", [{"bits": 1}, {"bits": 9}, {"group": 1}])
def test_values_outside_their_range_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        round_weights(torch.zeros(2, 4), **settings)
