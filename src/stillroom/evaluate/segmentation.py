"""How well pixels are told apart: intersection over union and accuracy, counted as batches come in."""

from __future__ import annotations

import torch
from torch import Tensor


class Confusion:
    """The counts of (true class, chosen class), from which the field's measures are made."""

    def __init__(self) -> None:
        self.counts = torch.zeros(0, 0, dtype=torch.long)

    def add(self, truth: Tensor, chosen: Tensor, classes: int) -> None:
        """Count some pixels.

        Args:
            truth: [N], the true classes.
            chosen: [N], the chosen ones.
            classes: how many there are; the same in every call.

        Raises:
            ValueError: a class is not below ``classes``.
        """
        if truth.numel() and int(torch.stack([truth.max(), chosen.max()]).max()) >= classes:
            raise ValueError(f"there are classes 0 to {classes - 1}; a pixel has {int(max(truth.max(), chosen.max()))}")
        found = torch.bincount(truth * classes + chosen, minlength=classes**2).reshape(classes, classes).cpu()
        self.counts = found if not len(self.counts) else self.counts + found

    @property
    def iou(self) -> Tensor:
        """Intersection over union of each class, [C]; NaN for a class that is neither true nor chosen anywhere."""
        hit = self.counts.diagonal().double()
        union = self.counts.sum(0) + self.counts.sum(1) - self.counts.diagonal()
        return hit / union

    @property
    def mean_iou(self) -> float:
        """The mean over the classes that are true somewhere, as the field's benchmarks have it."""
        there = self.counts.sum(1) > 0
        return float(self.iou[there].mean()) if there.any() else float("nan")

    @property
    def accuracy(self) -> float:
        """The share of pixels whose class is chosen."""
        return int(self.counts.diagonal().sum()) / max(int(self.counts.sum()), 1)
