"""Handwritten digits that were moved, as tensors: the ground of the surveys that are about images.

Every picture of the data set `digits` stands on a field of 10 x 10, at each of nine places, with noise; so the test has
some 2,400 pictures, and no digit that anybody wrote is in two splits.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.data.files import load
from stillroom.objectives import cross_entropy

FIELD, DIGIT = 10, 8  # pixels
NOISE = 0.1  # of the brightness, which lies in [0, 1]


class Rows(NamedTuple):
    """Pictures [N, 10, 10] and their digits [N]."""

    images: Tensor
    labels: Tensor


@cache
def rows(part: str, smoke: bool) -> Rows:
    """A part of the data: ``train``, ``validation`` or ``test``."""
    found = load("digits", split=part, limit=100 if smoke else None)
    images, labels = torch.tensor(found["image"]), torch.tensor(found["label"])
    free = range(FIELD - DIGIT + 1)
    fields = torch.cat([_at(images, down, right) for down in free for right in free])
    noise = NOISE * torch.randn(fields.shape, generator=torch.Generator().manual_seed(0))
    return Rows(fields + noise, labels.repeat(len(free) ** 2))


def few(given: Rows) -> Tensor:
    """The places of every tenth digit, wherever it stands: what students are trained on."""
    ways = (FIELD - DIGIT + 1) ** 2
    return torch.arange(len(given.labels)).view(ways, -1)[:, ::10].flatten()


def _at(images: Tensor, down: int, right: int) -> Tensor:
    """Pictures on fields [N, 10, 10], so far down and to the right."""
    left_over = FIELD - DIGIT
    return F.pad(images, (right, left_over - right, down, left_over - down))


@torch.no_grad()
def accuracy(model: nn.Module, part: str, smoke: bool) -> float:
    """The share of a part's pictures whose digit the model knows; of several outputs the first is the logits."""
    images, labels = rows(part, smoke)
    out = model(images)
    logits = out[0] if isinstance(out, tuple) else out
    return float((logits.argmax(-1) == labels).float().mean())


def whole(labels: Tensor) -> Tensor:
    """A mask in which every row counts, [B]."""
    return torch.ones_like(labels, dtype=torch.bool)


def by_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy."""
    return cross_entropy(logits, labels, whole(labels)).mean
