"""A frozen copy of a model as it was before training: what preference losses hold a student to."""

from __future__ import annotations

import copy

import torch
from torch import nn

from stillroom.signals import Batch, Signals
from stillroom.views.base import View


class Reference:
    """A model's copy that is asked and never changed. It is no module: nothing of it is trained, saved or exported.

    Args:
        model: to copy. Made in a method's `setup`, it is the student's start, in a run that is resumed too.
        view: how the model reads rows.
    """

    def __init__(self, model: nn.Module, view: View) -> None:
        self.model, self.view = copy.deepcopy(model).eval().requires_grad_(False), view

    @torch.no_grad()
    def __call__(self, batch: Batch, needs: tuple[str, ...] = ("logits",)) -> Signals:
        """What the copy emits on the rows as the student reads them."""
        return self.view.emit(self.model, batch.student, needs)
