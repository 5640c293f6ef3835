"""Data laundering: how a benchmark's answers reach a student that never saw the benchmark. A warning, not a recipe.

**Paper**: Mansurov, Sakip and Aji 2024, "Data Laundering: Artificially Boosting Benchmark Results through Knowledge
Distillation" (arXiv 2412.15255).

**Idea**: Train a teacher on a benchmark's test items (placement), distil it on other, legitimate items (layering), and
measure the student on the benchmark (integration). No item of the benchmark is in the student's training data, and yet
its score is high: knowledge of answers travels in the teacher's scores. Whoever wants to believe a score must ask where
the teacher's came from; `stillroom.evaluate.leakage` holds the two detectors that this file is here to try.

**Objective**: for a multiple-choice item with student and teacher scores s, t [N] over its N choices,

    loss = alpha * distil(s, t) + (1 - alpha) * CE(softmax(s), right choice),

distil = mean_n (s_n - t_n)^2 by default (``mse``), or T^2 KL(softmax(t / T) || softmax(s / T)) (``kl``), averaged over
items. At alpha = 1 no label is used at all; at 0 the student learns from labels alone, without its teacher.

**Kept and changed**: A choice is scored by a cross-encoder that reads question and choice, as a multiple-choice head
does; rows are a question with the right choice first, which the model cannot see, since each is read by itself. The
authors keep the checkpoint with the best accuracy on the benchmark, which leaks by itself; here the last weights are
kept. Their iterations are runs one after another, each with the last student for a teacher.

**Use it when**: a benchmark, a leaderboard or a pipeline is to be tested for its defences. `stillroom evaluate` refuses
rows that stand in the training data of a student, or of the teachers that it comes from, as far as their folders tell.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from stillroom.method import Objective, Step
from stillroom.objectives.ranking import listwise_kl
from stillroom.objectives.sequence import cross_entropy, sequence_mean
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit

__all__ = ["DataLaundering"]


class DataLaundering(Objective):
    """Match a teacher's scores of the choices, and the labels of legitimate items.

    Args:
        alpha: of the teacher beside the labels, in [0, 1]; at 0 it is not asked.
        loss: ``mse`` of the scores, or ``kl`` of their softmax.
        temperature: divides both models' scores in ``kl``, > 0.

    Raises:
        ValueError: a value outside its range.
    """

    needs = Needs(student=("scores",), teacher=("scores",))
    units: ClassVar[dict[str, Unit]] = {"distil": "row", "labels": "row"}
    kind: ClassVar[str] = "cross-encoder"

    def __init__(self, *, alpha: float = 1.0, loss: Literal["mse", "kl"] = "mse", temperature: float = 2.0) -> None:
        super().__init__()
        if not 0 <= alpha <= 1 or temperature <= 0:
            raise ValueError(f"alpha must be in [0, 1] and temperature > 0; they are {alpha} and {temperature}")
        if loss not in ("mse", "kl"):
            raise ValueError(f"loss must be mse or kl; it is {loss!r}")
        self.alpha, self.loss, self.temperature = alpha, loss, temperature
        self.weights = {"distil": alpha, "labels": 1 - alpha}
        if alpha == 0:
            self.needs = Needs(student=("scores",))

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``distil`` and ``labels``, over items; a part without weight is left out."""
        assert student.scores is not None
        real = batch.columns["candidates"] & batch.mask.unsqueeze(1)
        parts = {}
        if self.alpha > 0:
            assert teacher is not None and teacher.scores is not None
            parts["distil"] = self._distil(student.scores, teacher.scores.detach(), real)
        if self.alpha < 1:
            right = torch.zeros_like(batch.mask, dtype=torch.long)
            scores = student.scores.masked_fill(~batch.columns["candidates"], torch.finfo(student.scores.dtype).min)
            parts["labels"] = cross_entropy(scores, right, batch.mask)
        return parts

    def _distil(self, ours: Tensor, theirs: Tensor, real: Tensor) -> Reduced:
        if self.loss == "kl":
            heat = self.temperature
            found = listwise_kl(ours, theirs, real, student_temperature=heat, teacher_temperature=heat)
            return Reduced(heat**2 * found.sum, found.count)
        squares = (ours.masked_fill(~real, 0.0) - theirs.masked_fill(~real, 0.0)).square()
        return sequence_mean(squares, real)
