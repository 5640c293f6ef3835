"""The maps to queries, keys and values, in every spelling.

.venv/bin/python -m pytest tests/blocks/test_taps.py
"""

import pytest
import torch
import transformers
from torch import nn

from stillroom.blocks.taps import all_attention_projections, attention_projections
from stillroom.errors import UserError

WIDTHS = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 8}
TEXT = WIDTHS | {"vocab_size": 60000}


def model(architecture, **config):
    with torch.device("meta"):
        return transformers.AutoModel.from_config(transformers.AutoConfig.for_model(architecture, **config))


@pytest.mark.parametrize(
    ("architecture", "config", "query", "value"),
    [
        ("bert", TEXT, "encoder.layer.1.attention.self.query", "encoder.layer.1.attention.self.value"),
        ("roberta", TEXT, "encoder.layer.1.attention.self.query", "encoder.layer.1.attention.self.value"),
        ("electra", TEXT, "encoder.layer.1.attention.self.query", "encoder.layer.1.attention.self.value"),
        ("deberta-v2", TEXT, "encoder.layer.1.attention.self.query_proj", "encoder.layer.1.attention.self.value_proj"),
        (
            "distilbert",
            {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 8},
            "transformer.layer.1.attention.q_lin",
            "transformer.layer.1.attention.v_lin",
        ),
        ("llama", TEXT | {"num_key_value_heads": 1}, "layers.1.self_attn.q_proj", "layers.1.self_attn.v_proj"),
        ("dinov2", WIDTHS, "encoder.layer.1.attention.attention.query", "encoder.layer.1.attention.attention.value"),
    ],
)
def test_each_spelling(architecture, config, query, value):
    found = model(architecture, **config)
    names = attention_projections(found, 2)
    assert (names.query, names.value) == (query, value)
    assert attention_projections(found, -2) == names and len(all_attention_projections(found)) == 3
    assert all(isinstance(found.get_submodule(name), nn.Linear) for name in names)


def test_a_vit_in_whatever_spelling_this_version_of_transformers_has():
    found = model("vit", **WIDTHS)
    layers = all_attention_projections(found)
    assert len(layers) == 3 and all(isinstance(found.get_submodule(name), nn.Linear) for one in layers for name in one)


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("t5", {"d_model": 16, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2, "d_ff": 8, "d_kv": 8}),
        ("bart", {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 60000}),
        ("bert", TEXT | {"is_decoder": True, "add_cross_attention": True}),
    ],
)
def test_attention_to_another_sequence_is_left_out(architecture, config):
    found = model(architecture, **config)
    assert len(all_attention_projections(found)) == (3 if architecture == "bert" else 4)


@pytest.mark.parametrize("layer", [0, 4, -4])
def test_a_layer_that_is_not_there_is_refused(layer):
    with pytest.raises(UserError, match="layers 1 to 3"):
        attention_projections(model("bert", **TEXT), layer)


def test_a_model_that_makes_all_three_at_once_is_refused():
    with pytest.raises(UserError, match="GPT2Model has no separate maps"):
        attention_projections(model("gpt2", n_embd=16, n_layer=1, n_head=2), 1)
