"""Where a model's parts are, by name: what a `tap:NAME` needs.

Architectures spell the same part differently. Here the names of the maps that make an attention's queries, keys and
values are found, in any model that has them apart: BERT, RoBERTa, ELECTRA, DistilBERT, DeBERTa, ViT, CLIP, T5, the
Llamas.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from stillroom.errors import UserError


class Projections(NamedTuple):
    """The names of one layer's maps to queries, keys and values."""

    query: str
    key: str
    value: str


SPELLINGS = (
    Projections("query", "key", "value"),
    Projections("q_proj", "k_proj", "v_proj"),
    Projections("query_proj", "key_proj", "value_proj"),
    Projections("q_lin", "k_lin", "v_lin"),
    Projections("q", "k", "v"),
)

CROSS = ("cross", "Cross", "EncDecAttention", "encoder_attn")  # in names of attention from one sequence to another


def all_attention_projections(model: nn.Module) -> list[Projections]:
    """The names in every layer, first layer first; attention to another sequence is left out.

    Raises:
        UserError: the model makes queries, keys and values in one map, or has no attention.
    """
    found = []
    for name, module in model.named_modules():
        if any(mark in name for mark in CROSS):
            continue
        children = dict(module.named_children())
        for spelling in SPELLINGS:
            if all(isinstance(children.get(part), nn.Module) for part in spelling):
                found.append(Projections(*(f"{name}.{part}".removeprefix(".") for part in spelling)))
    if not found:
        raise UserError(
            f"{type(model).__name__} has no separate maps to queries, keys and values (some models make all three at "
            "once); take a teacher and a student that have"
        )
    return found


def attention_projections(model: nn.Module, layer: int) -> Projections:
    """The names in one layer.

    Args:
        model: any with self-attention whose three maps are modules of their own.
        layer: from 1 to the depth, or from -1, the last, downwards.

    Raises:
        UserError: there is no such layer, or as `all_attention_projections`.
    """
    found = all_attention_projections(model)
    if layer == 0 or abs(layer) > len(found):
        raise UserError(f"the model has attention in layers 1 to {len(found)} (or -1 to -{len(found)}), not {layer}")
    return found[layer - 1 if layer > 0 else layer]
