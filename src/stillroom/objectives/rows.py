"""The rows that count: picked before any softmax, in float32, and put back where they came from.

Every objective works on the rows inside its mask and on nothing else. So no work is spent outside, and a NaN or an
infinity there reaches neither value nor gradient.

Shapes: ``...`` any leading sizes (``B`` rows, ``B, T`` tokens), ``N`` rows inside the mask, ``H`` width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def in_float32(values: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def need_shape(mask: Tensor, shape: torch.Size) -> None:
    """Refuse a mask that is not of the shape of what it masks.

    Raises:
        ValueError: the two differ.
    """
    if mask.shape != shape:
        raise ValueError(f"the mask has shape {tuple(mask.shape)} and what it masks {tuple(shape)}; they must agree")


def select(values: Tensor, mask: Tensor) -> Tensor:
    """The rows of ``values`` inside the mask, in order.

    Args:
        values: [..., *], one entry for each place of the mask, of any size.
        mask: [...], true where a row counts.

    Returns:
        [N, *], in at least float32 where ``values`` are floating.

    Raises:
        ValueError: the leading sizes of the two differ.
    """
    need_shape(mask, values.shape[: mask.dim()])
    return in_float32(values[mask.bool()])


def spread(rows: Tensor, mask: Tensor) -> Tensor:
    """The inverse of `select` for one number a row: [N] back to the mask's shape, 0 outside."""
    return rows.new_zeros(mask.shape).masked_scatter(mask.bool(), rows)


def products(first: Tensor, second: Tensor) -> Tensor:
    """All inner products, [..., N, H] and [..., M, H] -> [..., N, M], never in half precision.

    Autocast would round the inputs of a matrix product to half precision whatever their type is.
    """
    with torch.autocast(first.device.type, enabled=False):
        return in_float32(first) @ in_float32(second).transpose(-1, -2)
