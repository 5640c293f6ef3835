"""What methods of retrieval are measured against: labels alone, and the plain forms of a teacher's scores.

Rows are lists of candidates whose first is the relevant one; students score them, as bi-encoders or as rerankers.
"""

from __future__ import annotations

from typing import ClassVar

from stillroom.method import Objective, Step
from stillroom.objectives.contrastive import softmax_contrast
from stillroom.objectives.ranking import listwise_kl, pairwise_logistic, score_mse
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit


class RankNet(Objective):
    """The relevant candidate above each other one, by labels alone: RankNet (Burges et al. 2005). No teacher."""

    needs = Needs(student=("scores",))
    units: ClassVar[dict[str, Unit]] = {"ranknet": "pair"}
    kind: ClassVar[str] = "bi-encoder"

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``ranknet``, over pairs of the relevant candidate and another."""
        assert student.scores is not None
        scores, real = student.scores, batch.columns["candidates"] & batch.mask.unsqueeze(1)
        pairs = real[:, :1] & real[:, 1:]
        return {"ranknet": pairwise_logistic(scores[:, :1].expand(pairs.shape), scores[:, 1:], pairs)}


class ListwiseCE(Objective):
    """The relevant candidate picked out of its list by labels: softmax cross-entropy over the list. No teacher."""

    needs = Needs(student=("scores",))
    units: ClassVar[dict[str, Unit]] = {"listwise_ce": "row"}
    kind: ClassVar[str] = "bi-encoder"

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``listwise_ce``, over lists."""
        assert student.scores is not None
        real = batch.columns["candidates"] & batch.mask.unsqueeze(1)
        relevant = real.clone()
        relevant[:, 1:] = False
        return {"listwise_ce": softmax_contrast(student.scores, relevant, batch.mask, allowed=real)}


class ScoreMSE(Objective):
    """The teacher's scores as they are, by squared error; asks the student for the teacher's scale and level."""

    needs = Needs(student=("scores",), teacher=("scores",))
    units: ClassVar[dict[str, Unit]] = {"score_mse": "own"}
    kind: ClassVar[str] = "bi-encoder"

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``score_mse``, over candidates."""
        assert student.scores is not None and teacher is not None and teacher.scores is not None
        real = batch.columns["candidates"] & batch.mask.unsqueeze(1)
        return {"score_mse": score_mse(student.scores, teacher.scores.detach(), real)}


class ListwiseKL(Objective):
    """KL(teacher || student) between the softmaxes over each list (ListNet, Cao et al. 2007).

    Args:
        temperature: divides both models' scores, > 0.
    """

    needs = Needs(student=("scores",), teacher=("scores",))
    units: ClassVar[dict[str, Unit]] = {"listwise_kl": "row"}
    kind: ClassVar[str] = "bi-encoder"

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0; it is {temperature}")
        self.temperature = temperature

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``listwise_kl``, over lists."""
        assert student.scores is not None and teacher is not None and teacher.scores is not None
        real = batch.columns["candidates"] & batch.mask.unsqueeze(1)
        found = listwise_kl(
            student.scores,
            teacher.scores.detach(),
            real,
            student_temperature=self.temperature,
            teacher_temperature=self.temperature,
        )
        return {"listwise_kl": found}
