"""Cut heads, feed-forward units, hidden dimensions, blocks and layers out of an encoder, for good.

What is cut is said by masks of factors: 0 goes, anything else stays and is multiplied into the weights. The pruned
model gives what the masked one gave (`stillroom.blocks.masked`), is smaller, and loads with plain transformers.

A transformers model has layers of one width. So every layer keeps room for as many heads and units as the one that
keeps most; what a layer lacks is zeros. A layer goes as a whole when both of its blocks are gone. In a BERT the width
of a head is the width of the model over its heads, so heads may be widened with zeros to fill it.

Shapes: ``L`` layers, ``A`` heads, ``I`` units of a feed-forward block, ``H`` hidden width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn

from stillroom.students.sites import Sites, find_sites, norms


@dataclass(frozen=True)
class Masks:
    """Factors on an encoder's parts; 0 means gone.

    hidden [H]; head [L, A]; intermediate [L, I]; head_layer [L] and mlp [L], the whole attention or feed-forward block.
    """

    hidden: Tensor
    head: Tensor
    intermediate: Tensor
    head_layer: Tensor
    mlp: Tensor

    @classmethod
    def whole(cls, sites: Sites, like: Tensor | None = None) -> Self:
        """Nothing is pruned: ones, of the kind of ``like``."""
        shapes = shapes_of(sites)
        return cls(
            **{name: torch.ones(shape) if like is None else like.new_ones(shape) for name, shape in shapes.items()}
        )

    def attention(self, layer: int) -> Tensor:
        """The factor on a layer's whole attention: gone, too, where its last head is."""
        return self.head_layer[layer] * (self.head[layer] != 0).any()

    def feed(self, layer: int) -> Tensor:
        """The factor on a layer's whole feed-forward block: gone, too, where its last unit is."""
        return self.mlp[layer] * (self.intermediate[layer] != 0).any()

    def stays(self, layer: int) -> bool:
        """Whether anything of a layer is left."""
        return bool((self.attention(layer) != 0) | (self.feed(layer) != 0))


def shapes_of(sites: Sites) -> dict[str, tuple[int, ...]]:
    """The shape of each mask, by name."""
    return {
        "hidden": (sites.width,),
        "head": (sites.depth, sites.heads),
        "intermediate": (sites.depth, sites.inner),
        "head_layer": (sites.depth,),
        "mlp": (sites.depth,),
    }


@torch.no_grad()
def prune(model: Any, masks: Masks) -> None:
    """Cut a model by masks, in place: its parts, and what its configuration says, are smaller afterwards.

    Args:
        model: a transformers model with BERT's or EuroBERT's layers.
        masks: of the shapes that this model asks for.

    Raises:
        ValueError: the shapes differ, no layer is left, or the widths that are left make no such model.
    """
    sites = find_sites(model)
    for item in fields(masks):
        wanted, got = shapes_of(sites)[item.name], tuple(getattr(masks, item.name).shape)
        if wanted != got:
            raise ValueError(f"the mask {item.name!r} has the shape {got}, and this model needs {wanted}")
    cut = _Cut(model, sites, masks)
    fresh = type(model)(cut.config).to(next(model.parameters()))
    fresh.load_state_dict(dict(cut.state()))
    fresh.train(model.training)
    model._modules.clear()
    model._modules.update(fresh._modules)
    model.config = fresh.config
    model.tie_weights()


class _Cut:
    """What stays, and every tensor of the smaller model."""

    def __init__(self, model: Any, sites: Sites, masks: Masks) -> None:
        self.model, self.sites, self.masks = model, sites, masks
        self.hidden = masks.hidden.nonzero()[:, 0]
        self.layers = [number for number in range(sites.depth) if masks.stays(number)]
        if not self.layers or not len(self.hidden):
            raise ValueError("the masks leave no layer or no hidden dimension; prune less")
        self.heads = {n: self._kept(masks.head[n], masks.attention(n)) for n in self.layers}
        self.units = {n: self._kept(masks.intermediate[n], masks.feed(n)) for n in self.layers}
        most = max(len(kept) for kept in self.heads.values())
        width = len(self.hidden)
        count = sites.heads_for(width, most)
        if count is None:
            raise ValueError(
                f"{width} hidden dimensions can't hold {most} heads of width {sites.head_width} in a model of this "
                f"kind; keep {sites.width_for(width, most)}"
            )
        self.count, self.inner = count, max(max(len(kept) for kept in self.units.values()), 1)
        self.head_width = sites.head_width if sites.style.free_heads else width // count
        if not sites.style.after and model.config.tie_word_embeddings and model.get_output_embeddings() is not None:
            raise ValueError(
                "a table that is read as well as written can't take the factors of hidden dimensions; untie it"
            )
        if sites.width in (getattr(model.config, "num_labels", 0), model.config.vocab_size):
            raise ValueError(
                f"the model's width, {sites.width}, is also its number of labels or tokens; they can't be told apart"
            )
        self.config = self._config(width)

    @staticmethod
    def _kept(mask: Tensor, writes: Tensor) -> Tensor:
        return mask.nonzero()[:, 0] if bool(writes) else mask.new_zeros(0, dtype=torch.long)

    def _config(self, width: int) -> Any:
        config = copy.deepcopy(self.model.config)
        config.hidden_size, config.num_hidden_layers = width, len(self.layers)
        config.num_attention_heads, config.intermediate_size = self.count, self.inner
        if self.sites.style.free_heads:
            config.num_key_value_heads, config.head_dim = self.count, self.head_width
        return config

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Name -> tensor of the smaller model."""
        style, prefix = self.sites.style, self.sites.layers + "."
        normed = norms(self.model, self.sites.width)
        writers = {name for name, module in self.model.named_modules() if writes(module, self.sites)}
        for name, tensor in self.model.state_dict().items():
            owner, _, kind = name.rpartition(".")
            if not name.startswith(prefix):
                scaled = owner in writers or (owner in normed and style.after)
                yield name, self._outside(tensor, scaled, isinstance(self.model.get_submodule(owner), nn.Embedding))
                continue
            number, _, part = owner.removeprefix(prefix).partition(".")
            if int(number) in self.layers:
                place = self.layers.index(int(number))
                yield f"{prefix}{place}.{part}.{kind}", self._inside(int(number), part, kind, tensor)

    def _outside(self, tensor: Tensor, scaled: bool, table: bool) -> Tensor:
        """A tensor outside the layers: every axis of the model's width is one of hidden dimensions."""
        axes = [axis for axis, size in enumerate(tensor.shape) if size == self.sites.width]
        for axis in axes:
            tensor = tensor.index_select(axis, self.hidden)
        if scaled and axes:
            axis = axes[-1] if table else axes[0]
            tensor = tensor * self._along(self.masks.hidden[self.hidden], axis, tensor.dim())
        return tensor

    def _inside(self, layer: int, part: str, kind: str, tensor: Tensor) -> Tensor:
        style, masks, hidden = self.sites.style, self.masks, self.hidden
        factor = masks.hidden[hidden]
        if part in style.reads:
            rows = self._by_head(tensor, layer)
            if part != style.reads[2]:  # what is divided by the root of the wider heads' width is multiplied before
                rows = rows * (self.head_width / self.sites.head_width) ** 0.25
            return rows if kind == "bias" else rows[:, hidden]
        if part in style.feeds:
            kept = self._padded(tensor[self.units[layer]], self.inner)
            return kept if kind == "bias" else kept[:, hidden]
        if part in (style.attended, style.fed):
            block = masks.attention(layer) if part == style.attended else masks.feed(layer)
            written = tensor[hidden] * self._along(factor * block, 0, tensor.dim())
            if kind == "bias":
                return written
            if part == style.attended:
                scaled = written * masks.head[layer].repeat_interleave(self.sites.head_width)
                return self._by_head(scaled.T, layer).T.contiguous()
            units = self.units[layer]
            return self._padded((written[:, units] * masks.intermediate[layer, units]).T, self.inner).T.contiguous()
        if part in style.norms:
            return tensor[hidden] * (factor if style.after else 1.0)
        raise ValueError(f"{part!r} of a layer is a part that pruning does not know")

    def _by_head(self, tensor: Tensor, layer: int) -> Tensor:
        """Rows [A x head width, ...] to those of the heads kept, widened with zeros and filled up with zero heads."""
        old = tensor.reshape(self.sites.heads, self.sites.head_width, *tensor.shape[1:])[self.heads[layer]]
        new = tensor.new_zeros(self.count, self.head_width, *tensor.shape[1:])
        new[: len(old), : self.sites.head_width] = old
        return new.reshape(self.count * self.head_width, *tensor.shape[1:])

    @staticmethod
    def _padded(tensor: Tensor, rows: int) -> Tensor:
        return torch.cat([tensor, tensor.new_zeros(rows - len(tensor), *tensor.shape[1:])])

    @staticmethod
    def _along(vector: Tensor, axis: int, dims: int) -> Tensor:
        return vector.reshape([-1 if place == axis else 1 for place in range(dims)])


def writes(module: nn.Module, sites: Sites) -> bool:
    """Whether a part outside the layers writes hidden states; where norms come after, those of a table are normed."""
    if isinstance(module, nn.Linear):
        return module.out_features == sites.width
    return isinstance(module, nn.Embedding) and module.embedding_dim == sites.width and not sites.style.after
