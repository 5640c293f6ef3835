"""Plain training of speech recognisers."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from stillroom.method import Objective, Step
from stillroom.objectives.ctc import ctc_loss
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View
from stillroom.views.speech import CTC


class Transcripts(Objective):
    """CTC on the transcripts; maybe also on a layer in the middle, by the same output head (Lee and Watanabe 2021).

    Args:
        inter: weight of the loss in the middle, in [0, 1); the last layer's has the rest.
        layer: the layer in the middle, from 1; half of the depth by default.
    """

    kind: ClassVar[str] = "ctc"
    needs = Needs(student=("logits",))
    units: ClassVar[dict[str, Unit]] = {"ctc": "row", "inter_ctc": "row"}

    def __init__(self, *, inter: float = 0.0, layer: int | None = None) -> None:
        super().__init__()
        if not 0 <= inter < 1:
            raise ValueError(f"inter must be in [0, 1); it is {inter}")
        self.inter, self.layer = inter, layer
        self.weights = {"ctc": 1 - inter} | ({"inter_ctc": inter} if inter else {})

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Find the layer in the middle."""
        assert isinstance(view, CTC)
        self.blank = view.blank
        config: Any = student.config
        self.head = f"head:{self.layer or config.num_hidden_layers // 2}"
        self.needs = Needs(student=("logits", f"tap:{self.head}") if self.inter else ("logits",))

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``ctc``, and ``inter_ctc`` where it has a weight, over rows."""
        assert student.logits is not None and student.mask is not None and batch.labels is not None
        heads = {"ctc": student.logits} | ({"inter_ctc": student.taps[self.head]} if self.inter else {})
        return {
            name: ctc_loss(logits, student.mask, batch.labels, batch.mask, blank=self.blank)
            for name, logits in heads.items()
        }
