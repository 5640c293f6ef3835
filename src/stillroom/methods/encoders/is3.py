"""IS3: incremental sequence labelling, with a cure for each of two shifts.

**Paper**: Qiu, Zheng, Zhen, Chen, Li and Ma 2024, "Incremental Sequence Labeling: A Tale of Two Shifts" (Findings of
ACL 2024, arXiv 2402.10447); code zzz47zzz/codebase-for-incremental-learning-with-llm.

**Idea**: New classes of entities come, and in their data the old ones are labelled "nothing" (O). Then old entities
turn into O (E2O), and O and old entities into new ones (O2E). Distillation from the model before cures the first; the
second is cured by labels on new entities alone, by prototypes of the old classes, and by damped gradients.

**Objective**: the old model has classes 0 (O) to C_old - 1, the new one C. Over the tokens of a batch, E those labelled
with a new class and Omega those labelled O, with last hidden states h and class vectors W,

    L = mean over E of CE(W h)  +  2 mean over Omega of sum over k < C_old of p_k (log p_k - log s_k)
        + 0.1 mean over old classes k >= 1 of CE(W proto_k, k);

p is the old model's softmax, s the new model's *over all C classes*, and proto_k the mean unit vector of the tokens of
class k in the task that introduced it. The first part's gradient on the old classes' rows of W is multiplied by 0.6,
except on that of O. Tokens labelled O have no hard label.

**Kept and changed**: One run is one task, the teacher is the model of the task before, and the student that model with
more classes (`stillroom.students.classes.add_classes`); the first task is plain training (``sft``). Prototypes are
computed after a task by `stillroom.blocks.prototypes` and travel in the model's configuration, where the authors keep
them in memory. The classifier is one linear layer, whose rows are the authors' list of heads. The part of prototypes
counts for as much as there are tokens in E, and so not at all where there are none, as in the code; a micro-batch
counts by its share. What is damped is the gradient of W and its bias, in the same backward pass. A word's class is told
at its first token. Prototypes go through the classifier as they are, not normalised again.

**Use it when**: a tagger must learn new classes, its old training data is gone and the new data does not mark old
entities. Where all data is at hand, train on all of it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.blocks.prototypes import remembered
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.logits import masked_log_probs
from stillroom.objectives.rows import select
from stillroom.objectives.sequence import cross_entropy
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.students.classes import classifier_of
from stillroom.views.base import View

__all__ = ["IS3"]


class IS3(Objective):
    """Learn new classes of tokens beside the model that knows the old ones.

    Args:
        kd: weight of the old model's distribution on tokens labelled O, >= 0.
        prototypes: weight of the old classes' prototypes, >= 0.
        damping: factor on the gradient that new labels give the old classes' vectors, in [0, 1]; 1 leaves it.
        temperature: of the distillation, > 0; without a factor of its square.

    Raises:
        ValueError: a value outside its range.
    """

    needs = Needs(student=("logits", "hidden:-1"), teacher=("logits",))
    units: ClassVar[dict[str, Unit]] = {"ce": "own", "kd": "own", "prototypes": "own"}
    kind: ClassVar[str] = "token-classifier"
    same_tokenizer: bool = True
    live_teacher: bool = True
    damped: Tensor
    kinds: Tensor
    vectors: Tensor

    def __init__(
        self, *, kd: float = 2.0, prototypes: float = 0.1, damping: float = 0.6, temperature: float = 1.0
    ) -> None:
        super().__init__()
        if kd < 0 or prototypes < 0 or not 0 <= damping <= 1 or temperature <= 0:
            raise ValueError(
                f"kd and prototypes must be >= 0, damping in [0, 1] and temperature > 0; they are {kd}, {prototypes}, "
                f"{damping} and {temperature}"
            )
        self.damping, self.temperature = damping, temperature
        self.weights = {"ce": 1.0, "kd": kd, "prototypes": prototypes}

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Find the classifier, count the old classes, and take over their prototypes.

        Raises:
            UserError: the student has no class that the teacher lacks.
        """
        head = classifier_of(student)
        dropout = getattr(student, "dropout", None)  # what stands before the classifier, where there is something
        self._head: tuple[nn.Linear, nn.Module | None] = (head, dropout)  # a tuple: they stay the student's own
        assert sample.emitted is not None and sample.emitted.logits is not None
        self.old = sample.emitted.logits.shape[-1]
        if head.out_features <= self.old:
            raise UserError(
                f"the teacher has {self.old} classes and the student {head.out_features}; give the student those of "
                "the new task too (stillroom.students.classes.add_classes)"
            )
        damped = torch.full((head.out_features,), 1.0)
        damped[1 : self.old] = self.damping
        self.register_buffer("damped", damped)
        kept: Any = remembered(teacher)
        numbers = sorted(kind for kind in kept if 1 <= kind < self.old)
        self.register_buffer("kinds", torch.tensor(numbers, dtype=torch.long))
        empty = torch.zeros(0, head.in_features)
        self.register_buffer("vectors", torch.stack([kept[kind] for kind in numbers]) if numbers else empty)

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``ce`` over new entities' tokens, ``kd`` over those labelled O, ``prototypes`` over old classes."""
        assert student.logits is not None and batch.labels is not None
        assert teacher is not None and teacher.logits is not None
        (hidden,) = student.hidden.values()
        new, nothing = batch.mask & (batch.labels >= self.old), batch.mask & (batch.labels == 0)
        found = {"ce": self._labels(hidden, batch.labels, new)}
        theirs = masked_log_probs(teacher.logits, nothing, temperature=self.temperature)
        ours = masked_log_probs(student.logits, nothing, temperature=self.temperature)[:, : self.old]
        found["kd"] = Reduced((theirs.exp() * (theirs - ours)).sum(), nothing.sum())
        if len(self.kinds) and self.weights["prototypes"]:
            found["prototypes"] = self._prototypes(new.sum())
        return found

    def _labels(self, hidden: Tensor, labels: Tensor, new: Tensor) -> Reduced:
        """The cross-entropy of new labels, whose gradient on the old classes' rows is damped."""
        head, dropout = self._head
        rows = select(hidden, new)
        rows = rows if dropout is None else dropout(rows)
        logits = F.linear(
            rows, _damp(head.weight, self.damped), None if head.bias is None else _damp(head.bias, self.damped)
        )
        return cross_entropy(logits, labels[new], new[new])

    def _prototypes(self, count: Tensor) -> Reduced:
        head, _ = self._head
        logits = head(self.vectors.to(head.weight))
        return Reduced(F.cross_entropy(logits, self.kinds) * count, count)


def _damp(weight: Tensor, factors: Tensor) -> Tensor:
    """The same numbers; a row's gradient is multiplied by its factor."""
    factors = factors.to(weight).reshape(-1, *[1] * (weight.dim() - 1))
    return factors * weight + ((1 - factors) * weight).detach()
