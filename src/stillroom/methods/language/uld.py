"""ULD: Universal Logit Distillation, between models whose tokenizers differ.

**Paper**: Boizard, El Haddad, Hudelot and Colombo 2025, "Towards Cross-Tokenizer Distillation: the Universal Logit
Distillation Loss for LLMs" (TMLR 2025, arXiv 2402.12030).

**Idea**: Two vocabularies can't be compared id by id, but how a model spreads its mass can: sort both next-token
distributions and compare the largest probability with the largest, the second with the second, and so on. Where moving
mass costs the same between any two ids, this is the Wasserstein distance between the two.

**Objective**: with teacher and student reading the same answers, each cut into tokens by its own tokenizer, student
probabilities q = softmax(zS / tau_S) [V] and teacher probabilities p = softmax(zT / tau_T) [W] at places that belong
together, q_(v) and p_(v) the v-th largest (0 beyond the end of a vocabulary),

    W(t) = sum_v |q_(v) - p_(v)|, v = 1 ... max(V, W)
    loss = CE + lambda mean_rows mean_t W(t)

CE is the cross-entropy of the student's own tokens, averaged over all trained tokens. The n-th token of an answer is
set beside the n-th; the tail of the longer cut is left out.

**Kept and changed**: The gradient flows through the sorted probabilities, as theirs. ``parity="code"`` leaves out the
last trained place of the student (its end of sequence), as the configuration that the authors released does; the
released model class can leave out the teacher's as well, which changes nothing where the student's is not the longer
cut, and is not built; nor is its variant by dynamic time warping, which the paper does not report. The paper trains on
answers of the teacher, as ``texts`` does; by default they are the data's. Answers are found by roles, and of a chat
each turn is aligned by itself. ``alignment="bytes"`` is ours: only places at which both models
have read just as many bytes of the answer are compared, so that both predict what follows the same text; by number,
the two drift apart after the first word that they cut differently. lambda is 1.5, as in the released configuration.

**Use it when**: the best teacher at hand has another tokenizer, and its logits are there. It says how sure the student
should be, not of what: beside the teacher's own texts as data it helps, without CE it teaches nothing. With the same
tokenizer take a divergence, which knows the ids. Sorting costs V log V a place.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from stillroom.method import Objective, Step
from stillroom.objectives.sequence import cross_entropy, sequence_mean
from stillroom.objectives.transport import sorted_l1_rows
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit

__all__ = ["ULD"]


class ULD(Objective):
    """Cross-entropy, and the distance between the sorted distributions of student and teacher.

    Args:
        weight: lambda, of the distance beside the cross-entropy, > 0.
        student_temperature: divides the student's logits in the distance, > 0.
        teacher_temperature: divides the teacher's, > 0.
        alignment: ``index`` sets the n-th token of an answer beside the n-th, as the paper does; ``bytes`` compares
            where both have read just as much of its text.
        parity: ``paper`` compares to the end of an answer, ``code`` without the student's last place.
        texts: train on the teacher's own answers, written once before, and not on the data's.

    Raises:
        ValueError: a value outside its range.
    """

    needs = Needs(student=("logits",), teacher=("logits",))
    units: ClassVar[dict[str, Unit]] = {"ce": "token", "uld": "row"}
    live_teacher: bool = True

    def __init__(
        self,
        *,
        weight: float = 1.5,
        student_temperature: float = 1.0,
        teacher_temperature: float = 1.0,
        alignment: Literal["index", "bytes"] = "index",
        parity: Literal["paper", "code"] = "paper",
        texts: bool = False,
    ) -> None:
        super().__init__()
        if weight <= 0 or student_temperature <= 0 or teacher_temperature <= 0:
            raise ValueError(
                "weight and both temperatures must be > 0; "
                f"they are {weight}, {student_temperature} and {teacher_temperature}"
            )
        if alignment not in ("index", "bytes") or parity not in ("paper", "code"):
            raise ValueError(
                f"alignment is 'index' or 'bytes' and parity 'paper' or 'code'; they are {alignment!r} and {parity!r}"
            )
        if texts:
            self.needs = Needs(student=("logits",), teacher=("text", "logits"))
        self.aligns = alignment
        self.temperatures = student_temperature, teacher_temperature
        self.parity = parity
        self.weights = {"ce": 1.0, "uld": weight}

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``ce`` over trained tokens; ``uld`` over rows, each a mean over the places that both models have."""
        assert student.logits is not None and teacher is not None and teacher.logits is not None
        assert batch.labels is not None
        places = batch.mask if batch.shared is None else batch.shared & batch.mask
        if self.parity == "code":
            places = places & ~_last(batch.mask)
        ours, theirs = self.temperatures
        distances = sorted_l1_rows(
            student.logits, teacher.logits, places, student_temperature=ours, teacher_temperature=theirs
        )
        return {
            "ce": cross_entropy(student.logits, batch.labels, batch.mask),
            # A row whose cuts share no place counts as well, with 0: what is divided by must be known beforehand.
            "uld": Reduced(sequence_mean(distances, places).sum, batch.mask.any(-1).sum()),
        }


def _last(mask: Tensor) -> Tensor:
    """The last true place of each row, [B, T]."""
    return mask & (mask.flip(-1).cumsum(-1).flip(-1) == 1)
