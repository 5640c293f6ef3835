"""Weights rounded to a few bits and kept as numbers: what a quantised model computes, without what it saves."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


def round_weights(weight: Tensor, *, bits: int = 4, group: int = 64) -> Tensor:
    """Each group's weights, moved to the nearest of 2^bits evenly spaced values from its smallest to its largest.

    Args:
        weight: [rows, columns].
        bits: of a weight, 2 to 8.
        group: columns of a row that share their values, at least 2; the last group of a row may be smaller.

    Returns:
        The same shape. No weight moves by more than half a step, (largest - smallest) / (2^bits - 1) / 2.

    Raises:
        ValueError: bits or group outside their range.
    """
    if not 2 <= bits <= 8 or group < 2:
        raise ValueError(f"bits must be 2 to 8 and group at least 2; they are {bits} and {group}")
    rounded = []
    for part in weight.split(group, dim=-1):
        low, high = part.aminmax(dim=-1, keepdim=True)
        step = (high - low) / (2**bits - 1)
        rounded.append(((part - low) / step.clamp(min=torch.finfo(part.dtype).tiny)).round() * step + low)
    return torch.cat(rounded, dim=-1)


def rounded_copy(model: Any, *, bits: int = 4, group: int = 64) -> Any:
    """A copy of a transformers model whose linear maps have rounded weights; embeddings and output head keep theirs.

    Args:
        model: is not changed.
        bits: of a weight, 2 to 8.
        group: columns that share their values, at least 2.
    """
    made = copy.deepcopy(model)
    head = made.get_output_embeddings()
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.Linear) and module is not head:
                module.weight.copy_(round_weights(module.weight, bits=bits, group=group))
    return made
