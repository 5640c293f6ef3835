"""Pruning for good: the same outputs as under masks, smaller, loaded by plain transformers; what can't be is refused.

pytest tests/students/test_students_prune.py
"""

from dataclasses import replace

import pytest
import torch
import transformers

from stillroom.blocks.masked import Masked
from stillroom.students.prune import Masks, prune, shapes_of
from stillroom.students.sites import find_sites

PLAIN = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "num_labels": 5,
    "pad_token_id": 0,
}
OWN = {"eurobert": {"classifier_pooling": "mean", "bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 3}}
IDS = torch.randint(4, 97, (3, 9), generator=torch.Generator().manual_seed(0))
REAL = torch.ones(3, 9, dtype=torch.long)
REAL[1, 5:] = 0


def model_of(kind, **settings):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **(PLAIN | OWN.get(kind, {}) | settings))
    model = transformers.AutoModelForSequenceClassification.from_config(config).double().eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def some_masks(model):
    """Layer 0 keeps two heads, layer 1 no attention, layer 2 nothing; 20 of 32 dimensions; factors of all sizes."""
    generator = torch.Generator().manual_seed(1)

    def factors(shape, rate):
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64) * 0.8 + 0.2
        return drawn * (torch.rand(shape, generator=generator) >= rate)

    found = {
        name: factors(shape, 0.4 if name == "intermediate" else 0.0)
        for name, shape in shapes_of(find_sites(model)).items()
    }
    found["head"][0, 1:3] = 0
    found["head_layer"][1:] = 0
    found["mlp"][2] = 0
    found["hidden"][20:] = 0
    return Masks(**found)


@torch.no_grad()
def logits(model):
    return model(input_ids=IDS, attention_mask=REAL).logits


@pytest.mark.parametrize("kind", ["bert", "eurobert"])
def test_the_pruned_model_is_the_masked_one(kind, tmp_path):
    model = model_of(kind)
    masks = some_masks(model)
    plain = logits(model)
    hooks = Masked(model, find_sites(model), lambda: masks)
    masked = logits(model)
    hooks.release()
    assert torch.equal(logits(model), plain) and not torch.allclose(masked, plain, atol=1e-2)
    before = sum(parameter.numel() for parameter in model.parameters())
    prune(model, masks)
    torch.testing.assert_close(logits(model), masked, atol=1e-6, rtol=1e-6)
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float64).eval()
    torch.testing.assert_close(logits(loaded), masked, atol=1e-6, rtol=1e-6)
    assert sum(parameter.numel() for parameter in loaded.parameters()) < 0.6 * before
    config = loaded.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (2, 20, 2)


def test_whole_masks_change_nothing():
    model = model_of("bert")
    plain = logits(model)
    hooks = Masked(model, find_sites(model), lambda: Masks.whole(find_sites(model), model.classifier.weight))
    torch.testing.assert_close(logits(model), plain, atol=1e-9, rtol=1e-9)
    hooks.release()


def test_norms_see_the_dimensions_that_are_left():
    """A norm over half of the dimensions has mean 0 and variance 1 over these, by hand."""
    model = model_of("bert")
    masks = Masks.whole(find_sites(model), model.classifier.weight)
    hidden = masks.hidden.clone()
    hidden[16:] = 0
    hooks = Masked(model, find_sites(model), lambda: replace(masks, hidden=hidden))
    norm = model.bert.embeddings.LayerNorm
    norm.weight.data.fill_(1.0)
    norm.bias.data.fill_(0.0)
    with torch.no_grad():
        out = model(input_ids=IDS, attention_mask=REAL, output_hidden_states=True).hidden_states[0]
    hooks.release()
    assert bool((out[..., 16:] == 0).all())
    assert float(out[..., :16].mean(-1).abs().max()) < 1e-9
    torch.testing.assert_close(out[..., :16].var(-1, unbiased=False), torch.ones(3, 9).double(), atol=1e-6, rtol=0)


def test_widths_that_no_such_model_has_are_refused():
    model = model_of("bert")
    masks = Masks.whole(find_sites(model), model.classifier.weight)
    hidden = masks.hidden.clone()
    hidden[-1] = 0
    with pytest.raises(ValueError, match=r"31 hidden dimensions can't hold 4 heads .* keep 32"):
        prune(model, replace(masks, hidden=hidden))
    gone = replace(masks, head_layer=0 * masks.head_layer, mlp=0 * masks.mlp)
    with pytest.raises(ValueError, match="leave no layer"):
        prune(model, gone)
    with pytest.raises(ValueError, match="this model needs"):
        prune(model, replace(masks, mlp=masks.mlp[:1]))


def test_an_architecture_that_is_not_known():
    config = transformers.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4)
    with pytest.raises(ValueError, match="pruning does not know"):
        find_sites(transformers.GPT2Model(config))
