"""A language model's last layer, and logits that were not made yet: hidden states beside the head that makes them.

A tensor of tokens x vocabulary is the largest thing that distillation has in memory, and only the rows inside a mask
are ever needed of it, one after the other. `Unprojected` stands where logits stand, and
`stillroom.objectives.chunks` makes a few rows of them at a time.

Shapes: ``...`` is ``B, T`` or the ``N`` rows inside a mask; ``H`` width, ``V`` vocabulary, ``R`` rank of an adapter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Head:
    """logits = cap(scale (states W^T + b + factor (states A^T) B^T)), cap(z) = softcap tanh(z / softcap).

    Attributes:
        weight: W [V, H].
        bias: b [V], if there is one.
        scale: of the logits (Cohere multiplies by one, Granite divides).
        softcap: the logits stay within +-softcap (Gemma 2), above 0; None leaves them.
        down, up, factor: A [R, H], B [V, R] and their factor, of a low-rank adapter beside the weight (Hu et al.,
            2021); without one all are None and 1.
        vocabulary: only the first so many ids are made; None for all V. Others are padding of the table.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    down: Tensor | None = None
    up: Tensor | None = None
    factor: float = 1.0
    vocabulary: int | None = None

    def __post_init__(self) -> None:
        if self.softcap is not None and not self.softcap > 0:
            raise ValueError(f"a soft cap must be above 0, not {self.softcap}")
        if (self.down is None) != (self.up is None):
            raise ValueError("a low-rank adapter has both down and up")
        if self.vocabulary is not None and not 0 < self.vocabulary <= len(self.weight):
            raise ValueError(f"vocabulary must lie between 1 and the head's {len(self.weight)} ids")

    @property
    def ids(self) -> int:
        """How many logits a row has."""
        return len(self.weight) if self.vocabulary is None else self.vocabulary

    def first(self, vocabulary: int) -> Head:
        """The same for the first so many ids."""
        return replace(self, vocabulary=vocabulary)

    def __call__(self, states: Tensor) -> Tensor:
        """[..., H] -> [..., V], in the type that the product has."""
        logits = states @ self.weight[: self.ids].T
        if self.down is not None and self.up is not None:
            logits = logits + self.factor * (states @ self.down.T) @ self.up[: self.ids].T
        if self.bias is not None:
            logits = logits + self.bias[: self.ids]
        logits = logits * self.scale if self.scale != 1 else logits
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    @staticmethod
    def of(layer: nn.Module | None, *, scale: float = 1.0, softcap: float | None = None) -> Head | None:
        """The head that a model's last layer is; None where it is neither linear nor linear with one adapter."""
        settings: dict[str, Any] = {"scale": scale, "softcap": softcap}
        if type(layer) is nn.Linear:
            return Head(weight=layer.weight, bias=layer.bias, **settings)
        adapted: Any = layer  # peft's, whose parts go by the adapter's name
        plain, active = getattr(adapted, "base_layer", None), list(getattr(adapted, "active_adapters", []))
        if type(plain) is not nn.Linear or len(active) != 1 or active[0] not in getattr(adapted, "lora_A", ()):
            return None
        name = active[0]
        if adapted.merged or any(adapted.use_dora.values()) or type(adapted.lora_dropout[name]) is not nn.Identity:
            return None
        return Head(
            weight=plain.weight,
            bias=plain.bias,
            down=adapted.lora_A[name].weight,
            up=adapted.lora_B[name].weight,
            factor=adapted.scaling[name],
            **settings,
        )


@dataclass(frozen=True)
class Unprojected:
    """Logits that were not made yet.

    Attributes:
        states: [..., H], what the head reads.
        head: what makes logits of them.
    """

    states: Tensor
    head: Head

    @property
    def shape(self) -> torch.Size:
        """Of the logits: [..., V]."""
        return torch.Size((*self.states.shape[:-1], self.head.ids))

    @property
    def learns(self) -> bool:
        """Whether states or head need a gradient."""
        head = self.head
        parts = (self.states, head.weight, head.bias, head.down, head.up)
        return any(part is not None and part.requires_grad for part in parts)

    def dense(self) -> Tensor:
        """The logits, all of them."""
        return self.head(self.states)

    def first(self, vocabulary: int) -> Unprojected:
        """The same for the first so many ids."""
        return replace(self, head=self.head.first(vocabulary))

    def map(self, change: Callable[[Tensor], Tensor]) -> Unprojected:
        """A copy with ``change`` applied to the states; the head stays the model's own."""
        return replace(self, states=change(self.states))
