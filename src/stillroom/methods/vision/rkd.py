"""RKD: relational knowledge distillation.

**Paper**: Park, Kim, Lu and Cho 2019, "Relational Knowledge Distillation" (CVPR 2019, arXiv 1904.05068).

**Idea**: Don't copy where the teacher puts each example; copy how the examples lie towards one another. Distances and
angles within a batch can be compared between spaces of any two widths, and the student is free to turn and scale its
own.

**Objective**: with vectors t_i of the teacher and s_i of the student for the n rows of a batch, h the smooth L1
distance,

    L_D = mean over i, j of     h(d(s_i, s_j) / mu_s, d(t_i, t_j) / mu_t)
    L_A = mean over i, j, k of  h(cos of the angle s_j s_i s_k, cos of the angle t_j t_i t_k)

    loss = task + lambda_D L_D + lambda_A L_A,

with d the Euclidean distance and mu its mean over i != j, each model's own.

Metric learning: lambda 1 and 2, no task loss, and a student that is not normalised. Classification: lambda 25 and 50
beside the cross-entropy of the labels, on the vector that the classifier reads.

The paper's baseline is here as well. HardDarkRank (Chen et al. 2018) asks for the order of the teacher's nearest
neighbours: with scores -alpha d^beta, the negative log-likelihood of the teacher's nearest four, nearest first, drawn
from these four by the student's scores (Plackett-Luce), averaged over rows.

**Kept and changed**: As in the authors' code, entries where two indices coincide are in the means, the student's mean
distance carries gradient, and the teacher's vectors have length 1. The paper's triplet loss samples negatives by
distance; here all triplets of the batch that break the margin count, on the student's vectors as they are. A loss is
of a whole batch: so is each micro-batch's, and with several processes each one's. The paper's batches are
``train.per_class: 5``.

**Use it when**: vectors are searched by distance and the student's are much shorter than the teacher's. Teacher
vectors are all it asks for, so they can be cached. Batches must be large and mixed enough to have relations worth
copying; memory grows with the square of the batch and time with its cube.
"""

from __future__ import annotations

import warnings
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.metric import euclidean, triplet
from stillroom.objectives.preference import plackett_luce
from stillroom.objectives.relations import angle_relation, distance_relation
from stillroom.objectives.rows import select
from stillroom.objectives.sequence import cross_entropy
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View
from stillroom.views.image import ImageClassifier

__all__ = ["RKD", "hard_dark_rank"]

NEIGHBOURS = 4  # that HardDarkRank puts in order
LEAST_ROWS = {"distance": 2, "angle": 3, "dark_rank": NEIGHBOURS + 1}


class RKD(Objective):
    """The teacher's distances and angles among the rows of a batch.

    Args:
        distance: weight of L_D, >= 0.
        angle: weight of L_A, >= 0.
        dark_rank: weight of HardDarkRank, >= 0.
        task: what is learnt from labels, with weight 1: nothing, a triplet loss, or a classifier's cross-entropy.
        margin: of the triplet loss, > 0.
        normalise_teacher: bring the teacher's vectors to length 1 first.

    Raises:
        ValueError: a weight below 0, a margin not above 0, or nothing to learn from the teacher.
    """

    kind: ClassVar[str] = "image-encoder"
    units: ClassVar[dict[str, Unit]] = {
        "distance": "batch",
        "angle": "batch",
        "dark_rank": "row",
        "triplet": "own",
        "cross_entropy": "row",
    }
    across_rows: ClassVar[bool] = True

    def __init__(
        self,
        *,
        distance: float = 1.0,
        angle: float = 2.0,
        dark_rank: float = 0.0,
        task: Literal["none", "triplet", "cross-entropy"] = "none",
        margin: float = 0.2,
        normalise_teacher: bool = True,
    ) -> None:
        super().__init__()
        relations = {"distance": distance, "angle": angle, "dark_rank": dark_rank}
        if min(relations.values()) < 0 or not any(relations.values()):
            raise ValueError(f"distance, angle and dark_rank are weights >= 0, and not all 0; they are {relations}")
        if margin <= 0:
            raise ValueError(f"margin must be > 0; it is {margin}")
        self.weights = {name: weight for name, weight in relations.items() if weight}
        self.least_rows = max(LEAST_ROWS[name] for name in self.weights)
        self.task, self.margin, self.normalise_teacher = task, margin, normalise_teacher
        logits = ("logits",) if task == "cross-entropy" else ()
        self.needs = Needs(student=("embedding", *logits), teacher=("embedding",))
        self.reads = () if task == "none" else ("labelled-image", "labelled-text")  # a task needs labels

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Nothing is made.

        Raises:
            UserError: the student is a classifier and no part of the loss would reach its head.
        """
        if type(view) is ImageClassifier and self.task != "cross-entropy":
            raise UserError(
                "relations alone leave the classifier of an image model untrained; set method.task to cross-entropy "
                "(distance 25, angle 50 in the paper), or the recipe's task to image-encoder"
            )

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``distance`` and ``angle``, one of each a batch; ``dark_rank`` over rows; the task's loss.

        Raises:
            UserError: the batch is too small for a relation.
        """
        assert student.embedding is not None and teacher is not None and teacher.embedding is not None
        ours, theirs, mask = student.embedding, teacher.embedding.detach(), batch.mask
        if self.normalise_teacher:
            theirs = F.normalize(theirs, dim=-1)
        self._check(ours, theirs, mask)
        relations = {"distance": distance_relation, "angle": angle_relation, "dark_rank": hard_dark_rank}
        parts = {name: relations[name](ours, theirs, mask) for name in self.weights}
        if self.task == "triplet":
            assert batch.labels is not None
            parts["triplet"] = triplet(ours, batch.labels, mask, margin=self.margin)
        if self.task == "cross-entropy":
            assert student.logits is not None and batch.labels is not None
            parts["cross_entropy"] = cross_entropy(student.logits, batch.labels, mask)
        return parts

    def _check(self, ours: Tensor, theirs: Tensor, mask: Tensor) -> None:
        rows = int(mask.sum())
        if 0 < rows < self.least_rows:
            raise UserError(
                f"the relations of {' and '.join(self.weights)} need {self.least_rows} rows in a batch, and one has "
                f"{rows}; raise train.batch_size, or train.micro_batch"
            )
        for whose, vectors in (("student", ours), ("teacher", theirs)):
            kept = vectors.detach()[mask]
            if rows and bool((kept == kept[0]).all()):
                warnings.warn(f"the {whose}'s vectors of a batch are all the same: no relation is left", stacklevel=3)


def hard_dark_rank(
    student: Tensor, teacher: Tensor, mask: Tensor, *, alpha: float = 3.0, beta: float = 3.0, length: int = NEIGHBOURS
) -> Reduced:
    """-log chance of the teacher's order of neighbours under the student's distances (DarkRank, Chen et al., 2018).

    Args:
        student: [N, H].
        teacher: [N, H']; its order alone is used.
        mask: [N].
        alpha: how far the chances are from equal, > 0.
        beta: the exponent of the distance, > 0.
        length: how many neighbours are put in order, below the number of rows.

    Returns:
        The sum over rows, and their number.
    """
    student, teacher = select(student, mask), select(teacher, mask)
    if not len(student):
        return Reduced(student.sum(), mask.sum())
    itself = torch.eye(len(student), dtype=torch.bool, device=student.device)
    near = euclidean(teacher).masked_fill(itself, torch.inf).topk(length, largest=False).indices
    scores = -alpha * euclidean(student).gather(1, near) ** beta
    order = torch.arange(length, device=scores.device).expand(scores.shape)
    return plackett_luce(scores, order, torch.ones_like(scores, dtype=torch.bool))
