"""Margin-MSE: cross-architecture distillation of margins.

**Paper**: Hofstätter, Althammer, Schröder, Sertkan and Hanbury 2020, "Improving Efficient Neural Ranking Models with
Cross-Architecture Knowledge Distillation" (arXiv 2010.02666).

**Idea**: Scores of different architectures live on different scales; only how far the relevant passage lies above
another one can be compared. So the student's margin is regressed on the teacher's.

**Objective**: with scores of query q for its relevant passage p+ and another one p-, student s and teacher t,

    loss = mean over pairs of [(s(q, p+) - s(q, p-)) - (t(q, p+) - t(q, p-))]^2   (equation 6).

Raw logits on both sides: no sigmoid, no temperature, no clipping, no labels. Gradients reach both of the student's
scores.

**Kept and changed**: A row may have several other passages; each makes a pair with the relevant one, and all pairs
weigh alike (the paper's triples have one). Pairs that the teacher ranks the other way round are kept, as in the paper;
its disagreement is information. ``agreeing_only`` leaves them out. The paper's second teacher, the mean score of an
ensemble, is a group of teachers with equal ``mix``. Students are whatever gives scores: dual encoders with inner
products here; their vectors must not be normalised, since cosines can't reach a cross-encoder's margins.

**Use it when**: a cross-encoder scores well and is too slow, and its scores for triples can be computed once
(``teacher.cache``). It asks for nothing but two scores a pair, so the student may be of any architecture.
"""

from __future__ import annotations

from typing import ClassVar

from stillroom.method import Objective, Step
from stillroom.objectives.ranking import margin_mse
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit

__all__ = ["MarginMSE"]


class MarginMSE(Objective):
    """Squared differences between the student's and the teacher's margins.

    Args:
        agreeing_only: leave out pairs where the teacher scores the other passage above the relevant one.
    """

    needs = Needs(student=("scores",), teacher=("scores",))
    kind: ClassVar[str] = "bi-encoder"

    def __init__(self, *, agreeing_only: bool = False) -> None:
        super().__init__()
        self.agreeing_only = agreeing_only

    @property
    def units(self) -> dict[str, Unit]:  # type: ignore[override]  # a class's own where it depends on nothing
        """Pairs; how many agree is known only once the teacher has scored them."""
        return {"margin_mse": "own" if self.agreeing_only else "pair"}

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``margin_mse``, over pairs."""
        assert student.scores is not None and teacher is not None and teacher.scores is not None
        theirs = teacher.scores.detach()
        mask = batch.columns["candidates"] & batch.mask.unsqueeze(1)
        if self.agreeing_only:
            mask = mask & (theirs <= theirs[:, :1])
        return {"margin_mse": margin_mse(student.scores, theirs, mask)}
