"""Plain training of text encoders."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from stillroom.blocks.masking import hide
from stillroom.method import Objective, Step
from stillroom.objectives.sequence import cross_entropy
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View


class MaskedTokens(Objective):
    """Masked language modelling (BERT, Devlin et al. 2019): say what the hidden tokens were. No teacher.

    Args:
        rate: the chance of each token to be hidden, in (0, 1].
    """

    kind: ClassVar[str] = "masked-lm"
    needs = Needs(student=("logits",))
    units: ClassVar[dict[str, Unit]] = {"mlm": "token"}

    def __init__(self, *, rate: float = 0.15) -> None:
        super().__init__()
        if not 0 < rate <= 1:
            raise ValueError(f"rate must be in (0, 1]; it is {rate}")
        self.rate = rate

    def prepare(self, batch: Batch, step: Step, student: nn.Module, view: View) -> Batch:
        """Hide some tokens."""
        return hide(batch, view.tokenizer, self.rate)

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``mlm``, over hidden tokens."""
        assert student.logits is not None and batch.labels is not None
        return {"mlm": cross_entropy(student.logits, batch.labels, batch.mask)}
