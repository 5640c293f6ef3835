"""The shapes of a method that no library has: an `Objective` that is trained with, and a `Pipeline` over data.

Others take the shape that their ecosystem has. What is fitted to arrays, a transform or a probe, is an estimator of
scikit-learn: ``fit`` and ``transform``, or ``predict`` and ``score``, with the classes of `sklearn.base`. A decoding
rule is a logits processor of transformers, an architecture a module.

A method's file holds what is new in its paper and nothing else. The loop, the data, the teacher and the clock belong to
the engine; a method does no input or output, prints nothing, moves nothing between devices and talks to no other
process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import nn

from stillroom.signals import Batch, Needs, Reduced, Signals, Unit

if TYPE_CHECKING:
    from datasets import Dataset

    from stillroom.views.base import View


@dataclass(frozen=True)
class Writing:
    """How a teacher writes the answers that a method learns from (its need ``text``).

    Attributes:
        beams: width of a search for the likeliest answer, summed log-probabilities without a bonus for length; 1 leaves
            it to the recipe's teacher (greedy, or drawn at its temperature).
        nearest: of all that the search ends with, take the answer nearest to the data's own, by sentence BLEU; False
            takes the likeliest.
    """

    beams: int = 1
    nearest: bool = False


@dataclass(frozen=True)
class Step:
    """Where training stands.

    ``number`` counts optimiser steps from 0; ``total`` is how many there will be; ``seed`` is that of the run, for what
    is drawn for a row and not for a batch.
    """

    number: int
    total: int
    seed: int = 0

    @property
    def progress(self) -> float:
        """In [0, 1]: 0 at the first step, 1 at the last."""
        return self.number / max(self.total - 1, 1)


class Objective(nn.Module):
    """A method that trains a student. Every hook but `parts` is optional.

    Attributes:
        needs: the signals to compute. May be set anew in `setup`, when it depends on the models' depth.
        units: part name -> what its count counts: ``token``, ``row`` and ``pair`` are those of the batch, known before
            the forward pass (`Batch.counts`); ``batch`` is for a loss defined on a whole batch; ``own`` for a count
            that is known only afterwards (then gradients can't be accumulated over micro-batches, and the loop says
            so).
        rowwise: of logits, student's or teacher's, nothing is done but that they are handed to row losses of
            `stillroom.objectives` (divergences, log-probs of labels), which can be computed without making them whole;
            they may then come as `stillroom.head.Unprojected`.
        across_rows: the value of one row's loss depends on the other rows of its batch (contrastive and relational
            losses), so that splitting a batch changes it by design.
        weights: part name -> factor in the total; a part that is not named counts once.
        reads: the row formats that it can learn from; empty for all that the kind of model reads. Rows of other
            formats are left out, and said.
        same_tokenizer: teacher and student must share token ids.
        aligns: how the answers of a teacher with another tokenizer are set beside the student's: ``index``, the n-th
            token of an answer beside the n-th; ``bytes``, places where as many bytes of it were read. Rows then tell
            where tokens end, and `Batch.shared` where both speak. None: the tokens of answers are the same.
        writing: how the teacher writes, where its texts are needed.
        changes_student: `setup` gives the student other parts (a projection layer that is exported with it, fewer
            layers).
        needs_prepare: `parts` works only on batches that `prepare` has seen; what `prepare` draws belongs to each row,
            so that it does not depend on how a batch was split.
        ask: set by the loop: the teacher's signals on any batch, for methods that ask about what `prepare` makes. What
            is put into ``batch.emitted`` is not asked for again.
        writes: at most so many tokens the student writes an answer, where it is trained on no others; None where the
            data's are trained on too.
        live_teacher: the teacher must be asked as training goes on (about answers just written, or for whole logits);
            no cache will do.
        takes_draws: its gradient is linear in the teacher's probabilities and it reads `Signals.drawn`, so ids drawn
            from the teacher serve it as well as the distribution, on average.
        trains_teacher: the teacher learns beside the student. A copy of the recipe's own is made for this method, which
            is what `setup` sees; its parameters join the optimiser and the checkpoint, its signals carry gradient (the
            method detaches what shall not reach it), and it is saved beside the student. The recipe's own stays as it
            is.
        rates: prefix of the names of some of the method's own parameters -> their learning rate, at which they stay
            whatever `train.schedule` says (masks, multipliers); they are not decayed.
    """

    needs: Needs = Needs()
    aligns: Literal["index", "bytes"] | None = None
    writing: Writing = Writing()
    units: ClassVar[dict[str, Unit]] = {}
    rowwise: ClassVar[bool] = False
    across_rows: ClassVar[bool] = False
    reads: tuple[str, ...] = ()
    same_tokenizer: bool = False
    writes: int | None = None
    live_teacher: bool = False
    takes_draws: bool = False
    trains_teacher: bool = False
    rates: Mapping[str, float] = {}
    changes_student: ClassVar[bool] = False
    needs_prepare: ClassVar[bool] = False
    ask: Callable[[Batch], Signals] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.weights: dict[str, float] = {}

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Make what depends on the models: projectors, masks, surgery. Called once, before the optimiser exists.

        Parameters made here are trained and checkpointed, and absent from the exported student. ``sample`` is a small
        batch of real rows, for shapes (``sample.emitted`` is what the teacher emits on it); ``view`` runs a model on
        it (``view.emit(model, inputs, needs)``).
        """

    def look(self, labelled: Iterator[tuple[Batch, Signals]]) -> None:
        """See the teacher's signals on the training rows before training, to fit what depends on them.

        Called after `setup` where a method overrides it. Take as many batches as are needed; they come in the order of
        the rows, of all processes alike. What is fitted belongs into buffers.
        """

    def prepare(self, batch: Batch, step: Step, student: nn.Module, view: View) -> Batch:
        """Change the batch before anything is computed on it: rollouts, corruption, selection. Without gradient."""
        return batch

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """The loss, part by part, each as (sum, count)."""
        raise NotImplementedError

    def after_step(self, step: Step, losses: dict[str, float]) -> None:
        """After the optimiser step: moving averages, schedules. ``losses`` are the means of the step's parts."""

    def eligible(self, step: Step) -> bool:
        """Whether the student may be kept as it is after this many steps, if an evaluation finds it the best so far.

        A method that changes the student as it goes (prunes it, say) says no until there is what it is to make.
        """
        return True

    def finish(self, student: nn.Module) -> None:
        """After training: merge, prune for good, remove."""

    def also(self, student: nn.Module) -> dict[str, nn.Module]:
        """Further models that came of the training, by name, of the student's kind; called after `finish`.

        Each is measured and saved beside the student.
        """
        return {}

    def log(self) -> dict[str, float]:
        """Numbers worth a curve beside the losses (an adaptive weight, a temperature)."""
        return {}


class Pipeline:
    """A method that makes data, from `Dataset` to `Dataset`. Every dropped row is counted with its reason."""

    def run(self, dataset: Dataset) -> Dataset:
        """The new data set."""
        raise NotImplementedError
