"""Where an encoder's blocks read, write and normalise: what pruning needs to know of an architecture.

Architectures are told apart by the names of their parts, not by their own: BERT and all that are built like it, and
those built like Llama (EuroBERT).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from stillroom.students.truncate import find_layers


@dataclass(frozen=True)
class Style:
    """The names of a layer's parts.

    Attributes:
        reads: of queries, keys and values.
        attended: what writes the heads' output.
        feeds: into the feed-forward block.
        fed: what writes its output.
        norms: of the attention block and of the feed-forward block.
        after: whether these follow the sum with what came in (BERT) or come before a block (Llama).
        free_heads: whether the width of a head is a setting of its own, or the model's width over its heads.
    """

    reads: tuple[str, str, str]
    attended: str
    feeds: tuple[str, ...]
    fed: str
    norms: tuple[str, str]
    after: bool
    free_heads: bool


STYLES = (
    Style(
        reads=("attention.self.query", "attention.self.key", "attention.self.value"),
        attended="attention.output.dense",
        feeds=("intermediate.dense",),
        fed="output.dense",
        norms=("attention.output.LayerNorm", "output.LayerNorm"),
        after=True,
        free_heads=False,
    ),
    Style(
        reads=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        attended="self_attn.o_proj",
        feeds=("mlp.gate_proj", "mlp.up_proj"),
        fed="mlp.down_proj",
        norms=("input_layernorm", "post_attention_layernorm"),
        after=False,
        free_heads=True,
    ),
)


@dataclass(frozen=True)
class Sites:
    """An encoder, as far as it can be pruned.

    Attributes:
        style: the names of its layers' parts.
        layers: the name of the list of layers.
        depth: how many there are.
        width: of hidden states.
        heads: of each layer.
        head_width: of queries, keys and values of a head.
        inner: width of the feed-forward blocks.
    """

    style: Style
    layers: str
    depth: int
    width: int
    heads: int
    head_width: int
    inner: int

    def part(self, layer: int, name: str) -> str:
        """The whole name of a layer's part."""
        return f"{self.layers}.{layer}.{name}"

    def head_parameters(self, model: nn.Module) -> int:
        """Numbers of a layer's attention, over its heads, rounded down."""
        names = [*self.style.reads, self.style.attended]
        return _count(model, [self.part(0, name) for name in names]) // self.heads

    def inner_parameters(self, model: nn.Module) -> int:
        """Numbers of a layer's feed-forward block."""
        return _count(model, [self.part(0, name) for name in (*self.style.feeds, self.style.fed)])

    def heads_for(self, hidden: int, heads: int) -> int | None:
        """How many heads a model of this width can have that must hold ``heads`` of them; None where it can't.

        Args:
            hidden: the width.
            heads: that are to be held.
        """
        heads = max(heads, 1)
        if self.style.free_heads:
            return heads if hidden % heads == 0 else None
        fitting = (count for count in range(heads, hidden // self.head_width + 1) if hidden % count == 0)
        return next(fitting, None)

    def width_for(self, hidden: int, heads: int) -> int:
        """The least width, from ``hidden``, of a model that can hold so many heads in each layer."""
        return next(width for width in range(max(hidden, 1), self.width + 1) if self.heads_for(width, heads))


def find_sites(model: Any) -> Sites:
    """The sites of a model.

    Raises:
        ValueError: it is built in a way that is not known here, or shares keys and values among heads.
    """
    name, layers = find_layers(model)
    for style in STYLES:
        parts = (*style.reads, style.attended, *style.feeds, style.fed, *style.norms)
        if all(_has(layers[0], part) for part in parts):
            break
    else:
        raise ValueError(
            f"{type(model).__name__} is built in a way that pruning does not know; take a BERT or EuroBERT"
        )
    config = model.config
    heads = config.num_attention_heads
    if getattr(config, "num_key_value_heads", None) not in (None, heads):
        raise ValueError(
            "heads that share their keys and values can't be pruned one by one; num_key_value_heads differs"
        )
    reads: Any = layers[0].get_submodule(style.reads[0])
    inner: Any = layers[0].get_submodule(style.fed)
    return Sites(style, name, len(layers), reads.in_features, heads, reads.out_features // heads, inner.in_features)


def norms(model: nn.Module, width: int) -> dict[str, nn.Module]:
    """All normalisations over the width of hidden states, by name: LayerNorm, and RMSNorm by its one vector."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm) or "RMSNorm" in type(module).__name__
        if tuple(getattr(module, "weight").shape) == (width,)  # noqa: B009 - a Module's attributes have no type
    }


def _has(module: nn.Module, name: str) -> bool:
    try:
        module.get_submodule(name)
    except AttributeError:
        return False
    return True


def _count(model: nn.Module, names: list[str]) -> int:
    return sum(parameter.numel() for name in names for parameter in model.get_submodule(name).parameters())
