"""An encoder that runs as if parts of it were gone: masks of factors on heads, units, hidden dimensions and blocks.

The model itself stays as it is, weights and keys; hooks multiply. `stillroom.students.prune` makes of it the smaller
model that gives the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from stillroom.students.prune import Masks, writes
from stillroom.students.sites import Sites, norms


class Masked:
    """Puts masks on a model until it is released.

    What writes hidden states is multiplied by ``hidden``; so are, in models like BERT, the outputs of normalisations.
    Normalisations see the dimensions that are left, and no others. Where both blocks of a layer are gone, the layer
    passes on what came in.

    Args:
        model: the encoder, with whatever head it has.
        sites: of the model.
        masks: called once a forward pass of the model; None puts no masks on it.
    """

    def __init__(self, model: Any, sites: Sites, masks: Callable[[], Masks | None]) -> None:
        self.sites, self.ask = sites, masks
        self.masks: Masks | None = None
        style = sites.style
        self.handles: list[RemovableHandle] = [model.register_forward_pre_hook(self._begin)]
        self.handles.append(model.register_forward_hook(self._end))
        inside = sites.layers + "."
        for name, module in model.named_modules():
            if not name.startswith(inside) and writes(module, sites):
                self.handles.append(module.register_forward_hook(self._written))
        for layer in range(sites.depth):
            for part, read, written in (
                (style.attended, self._heads(layer), self._attention(layer)),
                (style.fed, self._units(layer), self._feed(layer)),
            ):
                module = model.get_submodule(sites.part(layer, part))
                self.handles += [module.register_forward_pre_hook(read), module.register_forward_hook(written)]
        for name, module in norms(model, sites.width).items():
            number = name.removeprefix(inside).partition(".")[0] if name.startswith(inside) else None
            layer_of = None if number is None else int(number)
            self.handles.append(
                module.register_forward_hook(self._normed(layer_of, root=not isinstance(module, nn.LayerNorm)))
            )

    def release(self) -> None:
        """Take the masks off."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def _begin(self, *_: Any) -> None:
        self.masks = self.ask()

    def _end(self, *_: Any) -> None:
        self.masks = None

    def _written(self, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return output if self.masks is None else output * self.masks.hidden

    def _heads(self, layer: int) -> Callable[..., Any]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            if self.masks is None:
                return inputs
            factors = self.masks.head[layer].repeat_interleave(self.sites.head_width)
            return (inputs[0] * factors, *inputs[1:])

        return hook

    def _units(self, layer: int) -> Callable[..., Any]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return inputs if self.masks is None else (inputs[0] * self.masks.intermediate[layer], *inputs[1:])

        return hook

    def _attention(self, layer: int) -> Callable[..., Any]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            return output if self.masks is None else output * self.masks.attention(layer) * self.masks.hidden

        return hook

    def _feed(self, layer: int) -> Callable[..., Any]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            return output if self.masks is None else output * self.masks.feed(layer) * self.masks.hidden

        return hook

    def _normed(self, layer: int | None, *, root: bool) -> Callable[..., Any]:
        after = self.sites.style.after

        def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if self.masks is None:
                return output
            if after and layer is not None and not self.masks.stays(layer):
                return inputs[0]
            found = _norm(module, inputs[0], self.masks.hidden != 0, root=root)
            return found * self.masks.hidden if after else found

        return hook


def _norm(module: Any, values: Tensor, left: Tensor, *, root: bool) -> Tensor:
    """A LayerNorm, or the root-mean-square one, over the dimensions that are left; 0 in the others.

    Args:
        module: with ``weight`` and, if it is a LayerNorm, ``bias``.
        values: [..., H].
        left: [H] bool.
        root: whether it is by root mean squares.
    """
    wide = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
    kept, count = wide * left, left.sum().clamp(min=1)
    if not root:
        kept = (wide - kept.sum(-1, keepdim=True) / count) * left
    eps = module.variance_epsilon if root else module.eps
    scaled = kept * torch.rsqrt(kept.square().sum(-1, keepdim=True) / count + eps)
    scaled = scaled.to(values.dtype) * module.weight * left
    return scaled if root else scaled + module.bias * left
