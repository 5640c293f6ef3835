"""Which patches of an image are hidden from a model: blocks of them, or any.

Drawn with Python's `random`, which the training loop seeds at every step.

Shapes: ``H, W`` the patch grid.
"""

from __future__ import annotations

import math
import random
from typing import Literal

import torch
from torch import Tensor

ASPECT = 0.3  # of a block: its height over its width lies between this and one over this
TRIES = 10  # to find a place for a block, before giving up


def patch_mask(height: int, width: int, count: int, shape: Literal["block", "random"] = "block") -> Tensor:
    """A mask [H, W] with true where a patch is hidden.

    Args:
        height: H.
        width: W.
        count: how many patches to hide, in [0, H W]; blocks may hide fewer where no further one fits.
        shape: ``block``, rectangles as BEiT hides them (Bao et al., 2022); ``random``, any patches.

    Raises:
        ValueError: a count outside its range, or another shape.
    """
    if not 0 <= count <= height * width:
        raise ValueError(f"a grid of {height} x {width} patches can't hide {count}")
    if shape == "random":
        mask = torch.zeros(height * width, dtype=torch.bool)
        mask[random.sample(range(height * width), count)] = True
        return mask.reshape(height, width)
    if shape != "block":
        raise ValueError(f"patches are hidden by 'block' or 'random', not {shape!r}")
    mask = torch.zeros(height, width, dtype=torch.bool)
    left = count
    while left > 0 and (block := _block(mask, left)) is not None:
        top, bottom, start, stop = block
        mask[top:bottom, start:stop] = True
        left = count - int(mask.sum())
    return mask


def _block(mask: Tensor, most: int) -> tuple[int, int, int, int] | None:
    """A rectangle that hides at least one and at most so many more patches; None where none was found."""
    height, width = mask.shape
    least = (min(height, width) // 3) ** 2
    for _ in range(TRIES):
        area = random.uniform(min(least, most), most)
        aspect = math.exp(random.uniform(math.log(ASPECT), -math.log(ASPECT)))
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < tall < height and 0 < wide < width):
            continue
        top, start = random.randint(0, height - tall), random.randint(0, width - wide)
        new = tall * wide - int(mask[top : top + tall, start : start + wide].sum())
        if 0 < new <= most:
            return top, top + tall, start, start + wide
    return None
