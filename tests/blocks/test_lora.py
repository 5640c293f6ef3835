"""Low-rank adapters: nothing changes before training, only they learn, and merging leaves the model's own parts.

.venv/bin/python -m pytest tests/blocks/test_lora.py
"""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stillroom.blocks.lora import LowRank


def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=32,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


IDS = torch.tensor([[1, 2, 3, 4]])


def test_only_the_adapters_learn_and_merging_keeps_what_they_learnt():
    model = llama()
    names, before = list(model.state_dict()), model(IDS).logits.detach()
    weight = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    adapters = LowRank(model, rank=2, alpha=4.0)
    assert torch.allclose(model(IDS).logits, before, atol=1e-6)
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(learning) == 2 * 7 and all("lora_" in name for name in learning)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in learning.values():
            parameter.normal_(std=0.1)
    up = {name.split(".")[-3]: value for name, value in learning.items() if "up_proj" in name}
    changed = model(IDS).logits.detach()
    adapters.merge()
    assert list(model.state_dict()) == names and all(parameter.requires_grad for parameter in model.parameters())
    assert torch.allclose(model(IDS).logits, changed, atol=1e-5) and not torch.allclose(changed, before, atol=1e-3)
    expected = weight + (4.0 / 2) * up["lora_B"] @ up["lora_A"] if "lora_A" in up else None
    if expected is not None:  # W + (alpha / rank) B A
        assert torch.allclose(model.model.layers[0].mlp.up_proj.weight, expected, atol=1e-6)


def test_the_layers_can_be_named_and_wrong_values_are_refused():
    model = llama()
    LowRank(model, rank=1, targets=["q_proj"])
    assert sum(parameter.requires_grad for parameter in model.parameters()) == 2
    for wrong in ({"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match="rank is at least 1"):
            LowRank(llama(), **wrong)
    with pytest.raises(ValueError, match="nothing_like_it"):
        LowRank(llama(), targets=["nothing_like_it"])
