"""RocketQAv2: a dense retriever and a re-ranker that are trained together.

**Paper**: Ren, Qu, Liu, Zhao, She, Wu, Wang and Wen 2021, "RocketQAv2: A Joint Training Method for Dense Passage
Retrieval and Passage Re-ranking" (EMNLP 2021, arXiv 2110.07367).

**Idea**: The retriever learns the distribution that the re-ranker gives over a list of candidates, while the re-ranker
itself is still learning from labels on the same lists: a teacher that changes as training goes on.

**Objective**: for a query with N candidates, the relevant one first, retriever scores s [B, N] (inner products) and
re-ranker scores r [B, N] (a cross-encoder's logits),

    loss = mean over queries of  -log softmax(r)_1  +  KL(softmax(r) || softmax(s)).

Labels reach the re-ranker alone: the retriever learns nothing but the distribution. Lists of different lengths are
padded, and padded places are outside both softmaxes.

**Kept and changed**: The paper sends the KL's gradient to both models; in the authors' code the op that computes it has
none for its target, so the re-ranker learns from labels only. That is the default here; ``teacher_grad`` is the paper's
formula. The code also averages over all elements of the B x N matrix, which weakens the KL by the length of the list:
``mode="elementwise"``. The lists of the paper are made by `stillroom.synthesis.candidate_lists`: random negatives from
what the retriever finds, and lists "denoised" by a strong re-ranker (above 0.9 relevant, below 0.1 not), mixed half
and half. The re-ranker trains in training mode, so its dropout is on in what it teaches, as in the code. The published
settings: both models warmed up apart; lists of 128 (MS MARCO) or 32 (Natural Questions), AdamW 1e-5, weight decay 0.01,
no warm-up, 2 epochs, queries of 32 and pairs of 128 tokens. The re-ranker is saved beside the student, as ``teacher``.

**Use it when**: both a retriever and a re-ranker are wanted, there are labels, and no strong re-ranker exists yet.
Where one does and need not change, `listwise_kl` with cached scores costs a fraction.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from stillroom.method import Objective, Step
from stillroom.objectives.contrastive import softmax_contrast
from stillroom.objectives.ranking import listwise_kl
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit

__all__ = ["RocketQAv2"]


class RocketQAv2(Objective):
    """The re-ranker learns from labels, and the retriever from the re-ranker as it is at each step.

    Args:
        mode: ``batchmean`` averages the KL over lists, ``elementwise`` also over the candidates of each.
        teacher_grad: whether the KL's gradient reaches the re-ranker too.
        distil: weight of the KL beside the re-ranker's label loss, >= 0.

    Raises:
        ValueError: a value outside its range.
    """

    needs = Needs(student=("scores",), teacher=("scores",))
    units: ClassVar[dict[str, Unit]] = {"reranker": "row", "retriever": "row"}
    kind: ClassVar[str] = "bi-encoder"
    trains_teacher: bool = True

    def __init__(
        self,
        *,
        mode: Literal["batchmean", "elementwise"] = "batchmean",
        teacher_grad: bool = False,
        distil: float = 1.0,
    ) -> None:
        super().__init__()
        if mode not in ("batchmean", "elementwise"):
            raise ValueError(f"mode must be batchmean or elementwise; it is {mode!r}")
        if distil < 0:
            raise ValueError(f"distil, the weight of the KL, must be >= 0; it is {distil}")
        self.mode, self.teacher_grad = mode, teacher_grad
        self.weights = {"reranker": 1.0, "retriever": distil}

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``reranker``, the cross-entropy of the relevant candidate; ``retriever``, the KL. Both over lists."""
        assert student.scores is not None and teacher is not None and teacher.scores is not None
        real = batch.columns["candidates"] & batch.mask.unsqueeze(1)
        relevant = real.clone()
        relevant[:, 1:] = False
        labels = softmax_contrast(teacher.scores, relevant, batch.mask, allowed=real)
        theirs = teacher.scores if self.teacher_grad else teacher.scores.detach()
        weight = None if self.mode == "batchmean" else 1 / real.sum(-1).clamp(min=1)
        return {"reranker": labels, "retriever": listwise_kl(student.scores, theirs, real, weight=weight)}
