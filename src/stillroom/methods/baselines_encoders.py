"""Plain training of text encoders."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from stillroom.blocks.masking import hide
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.sequence import cross_entropy
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View


class MaskedTokens(Objective):
    """Masked language modelling (BERT, Devlin et al. 2019): say what the hidden tokens were. No teacher.

    Args:
        rate: the chance of each token to be hidden, in (0, 1].
        only: train nothing but the parameters whose names hold this (``adapter_modules.sw``, a language's adapter).
    """

    kind: ClassVar[str] = "masked-lm"
    needs = Needs(student=("logits",))
    units: ClassVar[dict[str, Unit]] = {"mlm": "token"}

    def __init__(self, *, rate: float = 0.15, only: str | None = None) -> None:
        super().__init__()
        if not 0 < rate <= 1:
            raise ValueError(f"rate must be in (0, 1]; it is {rate}")
        self.rate, self.only = rate, only
        self._still: list[nn.Parameter] = []

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Freeze what is not to be trained.

        Raises:
            UserError: nothing would be left.
        """
        if self.only is None:
            return
        named = dict(student.named_parameters())
        self._still = [parameter for name, parameter in named.items() if self.only not in name]
        if len(self._still) == len(named):
            raise UserError(
                f"the model has no parameter whose name holds {self.only!r}; its names are as {next(iter(named))}"
            )
        for parameter in self._still:
            parameter.requires_grad_(False)

    def finish(self, student: nn.Module) -> None:
        """Leave nothing frozen."""
        for parameter in self._still:
            parameter.requires_grad_(True)

    def prepare(self, batch: Batch, step: Step, student: nn.Module, view: View) -> Batch:
        """Hide some tokens."""
        return hide(batch, view.tokenizer, self.rate)

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``mlm``, over hidden tokens."""
        assert student.logits is not None and batch.labels is not None
        return {"mlm": cross_entropy(student.logits, batch.labels, batch.mask)}
