"""NAME: the method's name in one line.

Copy this file to ``methods/<family>/<slug>.py`` and write your own. It passes the contract tests as it stands.

**Paper**: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531).

**Idea**: One or two sentences that a practitioner understands: here, learn the whole distribution that the teacher
gives, softened so that its small probabilities can be seen, beside the right answer.

**Objective**: the equation, its symbols and shapes. With student logits zS and teacher logits zT [N, V] at the N
trained tokens and temperature T,

    loss = (1 - w) CE(softmax(zS), label) + w T^2 KL(softmax(zT / T) || softmax(zS / T)), averaged over tokens.

**Kept and changed**: against paper and authors' code, honestly: what is left out, what is decided where they differ.
Here, the paper distils classifiers; this is the same objective on every token.

**Use it when**: which access to the teacher, which data, and when something simpler does as well.
"""

from __future__ import annotations

from typing import ClassVar

from stillroom.method import Objective, Step
from stillroom.objectives.logits import divergence_loss
from stillroom.objectives.sequence import cross_entropy
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit

__all__ = ["Template"]  # the first name is the method


class Template(Objective):
    """What is trained, in one sentence.

    Args:
        temperature: softens both distributions, > 0.
        weight: of the teacher beside the data's own labels, in [0, 1].

    Raises:
        ValueError: a value outside its range.
    """

    needs = Needs(student=("logits",), teacher=("logits",))
    units: ClassVar[dict[str, Unit]] = {"kd": "token", "ce": "token"}
    same_tokenizer: bool = True
    live_teacher: bool = True

    def __init__(self, *, temperature: float = 2.0, weight: float = 0.5) -> None:
        super().__init__()
        if temperature <= 0 or not 0 <= weight <= 1:
            raise ValueError(f"temperature must be > 0 and weight in [0, 1]; they are {temperature} and {weight}")
        self.temperature = temperature
        self.weights = {"kd": weight, "ce": 1 - weight}

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``kd`` and ``ce``, each as a sum over trained tokens and their number; the training loop divides."""
        assert student.logits is not None and teacher is not None and teacher.logits is not None
        assert batch.labels is not None
        kd = divergence_loss(student.logits, teacher.logits, batch.mask, temperature=self.temperature, scale_by_t2=True)
        return {"kd": kd, "ce": cross_entropy(student.logits, batch.labels, batch.mask)}
