"""Prototypes of classes: the mean of a class's unit vectors, kept in the model's configuration.

There they are saved with the model, loaded with it, and mean nothing to anybody else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

KEY = "class_prototypes"


def class_prototypes(vectors: Iterable[tuple[Tensor, Tensor]], classes: Iterable[int]) -> dict[int, Tensor]:
    """The mean unit vector of each class that occurs.

    Args:
        vectors: batches of [N, H], and the class of each, [N].
        classes: that are looked for.
    """
    sums: dict[int, Tensor] = {}
    counts: dict[int, int] = {}
    wanted = list(classes)
    for rows, labels in vectors:
        unit = F.normalize(rows.detach().double(), dim=-1)
        for kind in wanted:
            own = unit[labels == kind]
            if len(own):
                sums[kind] = sums[kind] + own.sum(0) if kind in sums else own.sum(0)
                counts[kind] = counts.get(kind, 0) + len(own)
    return {kind: total / counts[kind] for kind, total in sums.items()}


def remember(model: Any, prototypes: dict[int, Tensor]) -> None:
    """Put prototypes beside those that a model has; these stay as they are."""
    kept = dict(getattr(model.config, KEY, None) or {})
    for kind, vector in prototypes.items():
        kept.setdefault(str(kind), [round(number, 7) for number in vector.tolist()])
    setattr(model.config, KEY, kept)


def remembered(model: Any) -> dict[int, Tensor]:
    """A model's prototypes, by class."""
    kept = getattr(model.config, KEY, None) or {}
    return {int(kind): torch.tensor(vector) for kind, vector in kept.items()}
