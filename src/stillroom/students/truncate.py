"""Keep some layers of a transformer: the simplest student that starts with what its teacher knows.

Works on any transformers model whose blocks stand in one list (BERT, ELECTRA, Llama, Qwen, GPT-2, ViT, ...). The list
is found by its length, which the configuration states, so no architecture is named here.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

_ONE_A_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type", "no_rope_layers")
"""Configuration keys that hold one entry a layer."""
_LAYER_NUMBERS = ("mlp_only_layers",)
"""Configuration keys that hold numbers of layers."""


def find_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The model's list of blocks and its name.

    Raises:
        ValueError: there is no list of as many modules as the configuration has layers, or more than one.
    """
    depth = model.config.get_text_config().num_hidden_layers
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(outer + ".") for outer in found)
        if isinstance(module, nn.ModuleList) and len(module) == depth and not inside:
            found[name] = module
    if len(found) != 1:
        names = ", ".join(found) or "none"
        raise ValueError(f"expected one list of {depth} layers in {type(model).__name__} and found {names}")
    return next(iter(found.items()))


def keep_layers(model: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """A copy of ``model`` with only the layers named, in the order given; the model itself stays as it is.

    Args:
        model: any transformers model with one list of layers.
        layers: numbers of layers to keep, from 0; negative ones count from the last. [0, -1] keeps first and last.

    Raises:
        ValueError: no layer is named, a layer does not exist, or one is named twice.
    """
    name, blocks = find_layers(model)
    kept = _checked(layers, len(blocks))
    already: dict[int, object] = {}  # deepcopy finds the shortened list here and so never copies the layers that go
    already[id(blocks)] = nn.ModuleList([copy.deepcopy(blocks[number], already) for number in kept])
    student = copy.deepcopy(model, already)
    chosen: Any = student.get_submodule(name)
    for position, block in enumerate(chosen):
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = position  # the place of this layer's keys and values in a cache
    _shorten(student.config.get_text_config(), kept)
    _must_reload(student, name)
    return student


def _checked(layers: Sequence[int], depth: int) -> list[int]:
    if not layers:
        raise ValueError("name at least one layer to keep")
    if outside := [number for number in layers if not -depth <= number < depth]:
        raise ValueError(f"layer {outside[0]} does not exist: the model has layers 0 to {depth - 1}")
    kept = [number % depth for number in layers]
    if len(set(kept)) < len(kept):
        raise ValueError(f"layers {list(layers)} name the same layer twice")
    return kept


def _shorten(config: PreTrainedConfig, kept: Sequence[int]) -> None:
    """Set the depth, and cut what the configuration says layer by layer to the layers kept."""
    for key in _ONE_A_LAYER:
        if getattr(config, key, None):
            setattr(config, key, [getattr(config, key)[number] for number in kept])
    for key in _LAYER_NUMBERS:
        if getattr(config, key, None):
            setattr(config, key, [kept.index(number) for number in getattr(config, key) if number in kept])
    config.num_hidden_layers = len(kept)


def _must_reload(student: PreTrainedModel, name: str) -> None:
    """Refuse a student whose layers are not the ones that its configuration describes: it could not be loaded again."""
    with torch.device("meta"):
        fresh = type(student)(copy.deepcopy(student.config)).get_submodule(name)
    kept = student.get_submodule(name)
    described, there = ({key: value.shape for key, value in blocks.state_dict().items()} for blocks in (fresh, kept))
    if wrong := sorted(key for key in described.keys() | there.keys() if described.get(key) != there.get(key)):
        raise ValueError(
            f"{type(student).__name__} builds its layers by their number, in a way that is not known here: cut like "
            f"this, it would not load again ({name}.{wrong[0]} differs)"
        )
