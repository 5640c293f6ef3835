"""Teachers that run here, on their own view of the rows: one that is never changed, and one that learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.head import Unprojected
from stillroom.signals import Batch, Signals
from stillroom.views.base import View


class LocalTeacher:
    """A model that is asked and never changed.

    Args:
        model: the teacher; it is put in eval mode and its parameters are frozen.
        view: how it reads rows.
        precision: of its arithmetic: no (float32, or whatever its weights have), bf16 or fp16.
    """

    def __init__(self, model: nn.Module, view: View, precision: str = "no") -> None:
        self.model = model.eval().requires_grad_(False)
        self.view, self.precision = view, precision

    def unproject(self, sample: Batch) -> None:
        """From now on give hidden states beside the head in place of logits, where this model's allow it.

        Args:
            sample: on which it is tried.
        """
        self.view = self.view.unprojected(self.model, sample.student if sample.teacher is None else sample.teacher)

    @torch.no_grad()
    def __call__(self, batch: Batch, needs: tuple[str, ...]) -> Signals:
        """The teacher's signals, moved to the student's positions where the two views differ."""
        self.model.eval()
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        with torch.autocast(batch.mask.device.type, half, enabled=half is not None):
            return emitted(self.model, self.view, batch, needs)


class LearningTeacher(nn.Module):
    """A teacher that is trained beside the student: its signals carry gradient.

    Args:
        model: the teacher, which will be changed.
        view: how it reads rows.
    """

    def __init__(self, model: nn.Module, view: View) -> None:
        super().__init__()
        self.model, self.view = model.requires_grad_(True), view

    def forward(self, batch: Batch, needs: tuple[str, ...]) -> Signals:
        """The teacher's signals, in the student's positions; in training or eval mode, as this module is."""
        return emitted(self.model, self.view, batch, needs)


def emitted(model: nn.Module, view: View, batch: Batch, needs: tuple[str, ...]) -> Signals:
    """A teacher's signals on a batch, moved to the student's positions where the two views differ."""
    signals = view.emit(model, batch.student if batch.teacher is None else batch.teacher, needs)
    if signals.logits is not None and batch.teacher_mask is not None and batch.mask.dim() == 2:
        places = batch.mask if batch.shared is None else batch.shared
        signals = replace(signals, logits=realigned(signals.logits, batch.teacher_mask, places))
    return signals


def realigned(logits: Any, source: Tensor, target: Tensor) -> Any:
    """`realign` of logits, or of the states that they are to be made of."""
    if isinstance(logits, Unprojected):
        return logits.map(lambda states: realign(states, source, target))
    return realign(logits, source, target)


def realign(values: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Move values [B, S, V] from the true places of ``source`` [B, S] to those of ``target`` [B, T], in order.

    The n-th trained token of a row is the same token in both views; only what stands before it differs. Places outside
    the target are 0.

    Raises:
        ValueError: a row has different numbers of trained tokens in the two views.
    """
    if not torch.equal(source.sum(-1), target.sum(-1)):
        row = int((source.sum(-1) != target.sum(-1)).nonzero()[0])
        ours, theirs = int(target[row].sum()), int(source[row].sum())
        raise ValueError(
            f"row {row} has {theirs} trained tokens in the teacher's view and {ours} in the student's; the "
            "answer's tokens must be the same (raise max_length, or use the same tokenizer)"
        )
    moved = values.new_zeros(*target.shape, values.shape[-1])
    moved[target] = values[source]
    return moved
