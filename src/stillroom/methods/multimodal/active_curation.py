"""ACID and ACED: active data curation, alone or with explicit distillation.

**Paper**: Udandarao, Parthasarathy, Naeem, Evans, Albanie, Tombari, Xian, Tonioni and Henaff 2025, "Active Data
Curation Effectively Distills Large-Scale Multimodal Models" (CVPR 2025, arXiv 2411.18674), with the sampler of Evans,
Parthasarathy, Merzic and Henaff 2024, "Data curation via joint example selection further accelerates multimodal
learning" (JEST, arXiv 2406.17711).

**Idea**: A large frozen model, the reference, chooses from a super-batch the pairs that a small one trains on: those
that the reference finds easy and the learner still finds hard. Such a choice is a distillation itself (ACID); with a
loss that copies the reference's similarities on the chosen pairs it is ACED.

**Objective**: for image vectors u and text vectors w of length 1, a model's loss of a pair is
l_ij = softplus(-y_ij (s u_i . w_j + beta)), y = 1 for i = j and -1 elsewhere. With learner theta and reference theta*,

    scores a_ij  = l_ij(theta) - l_ij(theta*)    learnability (H-ACID);   -l_ij(theta*)   easy reference (I-ACID)
    drawing      b of B rows in n chunks: the first at random; then, given the rows K chosen so far, b / n new ones
                 without replacement, i with probability ~ exp(a_ii + sum over k in K of (a_ki + a_ik))
    loss         = mean over the b rows i of sum_j l_ij(theta)
                   + lambda mean over directions of CE(softmax(s* U* W*^T), softmax(s U W^T)), row by row

lambda = 0 is ACID. Easy-reference sampling of single pairs minimises (1/Z) sum_x p*(x) y(x) CE: distillation to the
product of the reference's prediction and the label; learnability adds the factor 1 / p(x) of the learner's.

**Kept and changed**: There is no official code; the sampler is that of the JEST paper's appendix. lambda is not given,
and is 1 here. Scores are sigmoid losses, also where the reference was trained by softmax contrast: such a model has no
bias, so one is fitted to the first training rows (the pairs that it expects become as many as there are). A student
without a bias of its own has one in training that is not exported, as it moves all similarities alike.
``distil_on="random"`` is the paper's IIDistill, where the copied similarities are those of as many random rows. The
softmax variant of the scores is left out. Each process chooses from its own rows.

**Use it when**: rows are plentiful and of mixed quality, and a reference that knows good ones is there. The learner
reads the whole super-batch without gradient, which is more work than training on the chosen fifth; what is saved is
counted in trained pairs. A recipe's ``train.batch_size`` is the super-batch. The reference's vectors can be cached. In
a loop of one's own, `choose` is all it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from stillroom.blocks.scale import hold_back
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.contrastive import contrast_divergence, mean_of_both, sigmoid_pair_losses, sigmoid_pairs
from stillroom.objectives.divergence import soft_cross_entropy
from stillroom.objectives.rows import products, select
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View

__all__ = ["ActiveCuration", "choose", "joint_sample", "pair_scores"]

LOOKED_AT = 8  # batches that a reference's bias is fitted to


class ActiveCuration(Objective):
    """Train on the part of every super-batch that a reference model chooses, and copy its similarities there.

    Args:
        filter: share of the super-batch that is left out, in (0, 1).
        chunks: steps in which the rest is drawn; they divide the number of rows that stay.
        score: ``learnability``, ``easy`` (the reference's loss alone), ``hard`` (the learner's alone), or ``uniform``
            for the first rows as they come, which are in random order.
        distillation: lambda, weight of the copied similarities, >= 0; 0 is ACID.
        distil_on: whether they are those of the ``chosen`` rows or of ``random`` ones.
        initial_bias: where the bias of a student without one starts.

    Raises:
        ValueError: a value outside its range, or random rows to distil on without distillation.
    """

    units: ClassVar[dict[str, Unit]] = {"sigmoid": "batch", "kd": "batch"}
    reads = ("image-text",)
    needs = Needs(
        student=("tower:image", "tower:text", "scale", "bias"),
        teacher=("tower:image", "tower:text", "scale", "bias"),
    )
    across_rows: ClassVar[bool] = True

    reference_bias: Tensor

    def __init__(
        self,
        *,
        filter: float = 0.8,
        chunks: int = 16,
        score: Literal["learnability", "easy", "hard", "uniform"] = "learnability",
        distillation: float = 1.0,
        distil_on: Literal["chosen", "random"] = "chosen",
        initial_bias: float = -10.0,
    ) -> None:
        super().__init__()
        if not 0 < filter < 1 or chunks < 1 or distillation < 0:
            raise ValueError(
                "filter must lie in (0, 1), chunks be at least 1 and distillation at least 0; "
                f"they are {filter}, {chunks} and {distillation}"
            )
        if score not in ("learnability", "easy", "hard", "uniform") or distil_on not in ("chosen", "random"):
            raise ValueError(
                "score must be learnability, easy, hard or uniform, and distil_on chosen or random; "
                f"they are {score!r} and {distil_on!r}"
            )
        if distil_on == "random" and not distillation:
            raise ValueError("distil_on='random' says where to distil, and distillation is 0; give it a weight")
        self.filter, self.chunks, self.score, self.distil_on = filter, chunks, score, distil_on
        self.initial_bias = initial_bias
        self.weights = {"sigmoid": 1.0} | ({"kd": distillation} if distillation else {})
        self.asks = score in ("learnability", "easy")
        if not self.asks and not distillation:
            self.needs = Needs(student=self.needs.student)
        self.register_buffer("reference_bias", torch.zeros(()))
        self._chosen: dict[str, float] = {}

    @classmethod
    def example(cls) -> ActiveCuration:
        """For super-batches of a few rows."""
        return cls(filter=0.5, chunks=2)

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Give the student's pairs a bias, where the model has none that is trained."""
        own = view.emit(student, sample.student, ("bias",)).bias
        assert own is not None
        self.bias = None if own.requires_grad else nn.Parameter(torch.tensor(float(self.initial_bias)))

    def look(self, labelled: Iterator[tuple[Batch, Signals]]) -> None:
        """Fit the bias of a reference that was not trained by sigmoids."""
        logits = []
        for batch, signals in islice(labelled, LOOKED_AT):
            assert signals.scale is not None and signals.bias is not None
            if bool(signals.bias != 0):
                return
            pictures, texts = (_unit(signals.towers[side], batch.mask) for side in ("image", "text"))
            logits.append(signals.scale * products(pictures, texts))
        if logits:
            self.reference_bias.copy_(fitted_bias(logits))

    @torch.no_grad()
    def prepare(self, batch: Batch, step: Step, student: Any, view: View) -> Batch:
        """Choose the rows to train on. In evaluation all rows stay.

        Raises:
            UserError: the super-batch does not leave a multiple of ``chunks``.
        """
        hold_back(student.logit_scale, minimum=1.0)
        if not self.training:
            return batch
        rows = batch.mask.nonzero()[:, 0]
        count = round((1 - self.filter) * len(rows))
        if count < self.chunks or count % self.chunks:
            raise UserError(
                f"of {len(rows)} rows the filter {self.filter:g} leaves {count}, which {self.chunks} chunks do not "
                "divide; change train.batch_size (or train.micro_batch), method.filter or method.chunks"
            )
        if self.asks:
            assert self.ask is not None
            batch = replace(batch, emitted=self.ask(batch))
        chosen = rows[:count]
        if self.score != "uniform":
            chosen = rows[self._choose(batch, count, student, view)]
        if self.distil_on == "chosen":
            return batch.take(chosen)
        others = rows[torch.randperm(len(rows), device=rows.device)[:count]]
        mark = torch.arange(2 * count, device=rows.device) < count
        return replace(batch.take(torch.cat([chosen, others])), columns={"chosen": mark})

    def _choose(self, batch: Batch, count: int, student: Any, view: View) -> Tensor:
        """Places among the rows that count."""
        training = student.training
        student.eval()
        learner = self._losses(view.emit(student, batch.student, self.needs.student), batch.mask, self.bias)
        student.train(training)
        reference = learner
        if self.score != "hard":
            assert batch.emitted is not None
            reference = self._losses(batch.emitted, batch.mask, self.reference_bias)
        scores = pair_scores(learner, reference, self.score)
        found = joint_sample(scores, count, chunks=self.chunks)
        own = scores.diagonal()
        self._chosen = {"chosen_score": float(own[found].mean()), "mean_score": float(own.mean())}
        return found

    def _losses(self, signals: Signals, mask: Tensor, further: Tensor | None) -> Tensor:
        """Of all pairs of rows that count, [N, N]."""
        assert signals.scale is not None and signals.bias is not None
        bias = signals.bias if further is None else signals.bias + further
        pictures, texts = (select(signals.towers[side], mask) for side in ("image", "text"))
        own = torch.eye(len(pictures), dtype=torch.bool, device=mask.device)
        return sigmoid_pair_losses(pictures, texts, own, scale=signals.scale, bias=bias)

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``sigmoid`` on the chosen rows, and ``kd`` where it has a weight: one of each a batch."""
        assert student.scale is not None and student.bias is not None
        chosen = batch.mask & batch.columns.get("chosen", torch.ones_like(batch.mask))
        images, texts = student.towers["image"], student.towers["text"]
        own = torch.eye(len(chosen), dtype=torch.bool, device=chosen.device)
        bias = student.bias if self.bias is None else student.bias + self.bias
        sigmoid = sigmoid_pairs(images, texts, own, chosen, columns=chosen, scale=student.scale, bias=bias)
        parts = {"sigmoid": _one(sigmoid)}
        if "kd" in self.weights:
            assert teacher is not None and teacher.scale is not None
            rows = batch.mask & ~batch.columns["chosen"] if "chosen" in batch.columns else batch.mask
            there, back = (
                contrast_divergence(
                    student.towers[a],
                    student.towers[b],
                    teacher.towers[a].detach(),
                    teacher.towers[b].detach(),
                    rows,
                    scale=student.scale,
                    teacher_scale=teacher.scale,
                    divergence=soft_cross_entropy,
                )
                for a, b in (("image", "text"), ("text", "image"))
            )
            parts["kd"] = _one(mean_of_both(there, back))
        return parts

    def log(self) -> dict[str, float]:
        """The mean score of the chosen pairs themselves, and that of all pairs of the super-batch."""
        return self._chosen


def choose(
    learner: Tensor,
    reference: Tensor,
    count: int,
    *,
    chunks: int = 16,
    score: Literal["learnability", "easy", "hard"] = "learnability",
    generator: torch.Generator | None = None,
) -> Tensor:
    """The rows of a super-batch to train on.

    Args:
        learner: [N, N] losses of all its pairs, as `stillroom.objectives.sigmoid_pair_losses` gives them, in evaluation
            mode and without gradient.
        reference: [N, N] of the reference model.
        count: rows to choose, a multiple of ``chunks``.
        chunks: as in `joint_sample`.
        score: what makes a pair likely: ``learnability``, ``easy`` or ``hard``.
        generator: of the draw; torch's own by default.

    Returns:
        [count] numbers of rows, in the order of the draw.

    Raises:
        ValueError: as in `pair_scores` and `joint_sample`.
    """
    return joint_sample(pair_scores(learner, reference, score), count, chunks=chunks, generator=generator)


def pair_scores(learner: Tensor, reference: Tensor, score: str = "learnability") -> Tensor:
    """What makes a pair worth training on, [N, N], from both models' losses of it.

    Raises:
        ValueError: an unknown score.
    """
    if score == "learnability":
        return learner - reference
    if score in ("easy", "hard"):
        return learner if score == "hard" else -reference
    raise ValueError(f"score must be learnability, easy or hard; it is {score!r}")


def joint_sample(scores: Tensor, count: int, *, chunks: int = 16, generator: torch.Generator | None = None) -> Tensor:
    """Draw rows whose pairs score well together, chunk by chunk without replacement.

    Args:
        scores: [N, N], of row i's anchor with row j's target.
        count: rows to draw, from 1 to N, a multiple of ``chunks``.
        chunks: draws; the first is uniform, each other given all before it.
        generator: of the draw; torch's own by default.

    Returns:
        [count] numbers of rows, in the order of the draw.

    Raises:
        ValueError: scores that are not finite or not square, or a count that does not fit.
    """
    size = len(scores)
    if scores.shape != (size, size) or not bool(scores.isfinite().all()):
        raise ValueError(f"scores must be a square matrix of finite numbers; their shape is {tuple(scores.shape)}")
    if chunks < 1 or not 1 <= count <= size or count % chunks:
        raise ValueError(f"of {size} rows, {count} can't be drawn in {chunks} equal chunks")
    logits, taken = torch.zeros_like(scores[0]), torch.zeros(size, dtype=torch.bool, device=scores.device)
    together = scores.diagonal().clone()
    drawn = []
    for _ in range(chunks):
        # Noise of the Gumbel distribution: the largest of logits + noise are a draw without replacement from softmax.
        noise = torch.empty_like(logits).exponential_(generator=generator).log().neg()
        new = (logits + noise).masked_fill(taken, -torch.inf).topk(count // chunks).indices
        drawn.append(new)
        taken[new] = True
        together = together + scores[new].sum(0) + scores[:, new].sum(1)
        logits = together
    return torch.cat(drawn)


def fitted_bias(logits: list[Tensor]) -> Tensor:
    """The bias b with which a model expects as many pairs as there are: sum of sigmoid(logits + b) = number of rows.

    That is where the sigmoid loss, as a function of the bias alone, has its minimum.

    Args:
        logits: square matrices [N, N], scaled similarities of batches of pairs.
    """
    flat = torch.cat([part.flatten() for part in logits]).double()
    wanted = sum(len(part) for part in logits)
    low, high = -flat.max() - 50.0, -flat.min() + 50.0
    for _ in range(60):
        middle = (low + high) / 2
        too_many = bool((flat + middle).sigmoid().sum() > wanted)
        low, high = (low, middle) if too_many else (middle, high)
    return (low + high) / 2


def _unit(vectors: Tensor, mask: Tensor) -> Tensor:
    return nn.functional.normalize(select(vectors, mask), dim=-1)


def _one(part: Reduced) -> Reduced:
    """A mean over the rows of a batch, as one value of a batch."""
    return Reduced(part.mean, torch.ones_like(part.count))
