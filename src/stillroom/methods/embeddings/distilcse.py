"""DistilCSE: contrastive knowledge distillation for sentence embeddings.

**Paper**: Xu, Shao, Chen and Liu 2022, "DistilCSE: Effective Knowledge Distillation For Contrastive Sentence
Embeddings" (arXiv 2112.05638).

**Idea**: Make distillation itself contrastive. For each unlabelled sentence the student's vector must pick out the
teacher's vector of the same sentence among a large queue of teacher vectors; then the student is fine-tuned
contrastively on labelled pairs.

**Objective**: with student vectors S(x) [B, d_S], teacher vectors T(x) [B, d_T], a trainable map W [d_T, d_S], and a
queue K [M, d_T] of the teacher vectors of earlier steps,

    q = normalize(W S(x)),  k = normalize(T(x)),  loss = CE(s q [k; K]^T, diagonal), mean over sentences,

where s = exp(a), and a is trained from 1. After the step k goes in front of K and the oldest rows fall out. The
student's own vector is what is kept; W is not. Stage 2: CE over 20 [cos(a_i, p_j), cos(a_i, n_j)], anchors a,
positives p and hard negatives n of the batch (SimCSE, supervised).

**Kept and changed**: The two stages are two runs: ``stage=1`` with a teacher, then ``stage=2`` on labelled pairs or
triples from the model of the first. A teacher vector that equals the sentence's own (a sentence that occurs twice) is
no negative; the authors' code counts on unique sentences. The queue is filled once an optimiser step with all its
micro-batches. The published settings are AdamW 2e-4, betas (0.9, 0.98), batch 512 and M = 65,536 for stage 1; 5e-5 and
batch 128 for stage 2.

**Use it when**: there are many unlabelled sentences and only vectors of the teacher; the student's width differs from
the teacher's. Teacher vectors are cached once. With less than a few thousand sentences, plain regression does as well.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.blocks.queue import Queue
from stillroom.method import Objective, Step
from stillroom.objectives.contrastive import info_nce
from stillroom.objectives.features import mse
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View

__all__ = ["DistilCSE"]

SAME = 1 - 1e-6  # the cosine from which a vector in the queue counts as the sentence's own


class DistilCSE(Objective):
    """Pick the teacher's vector of the same sentence out of a queue; or, as the second stage, the positive of a pair.

    Args:
        stage: 1 distils on any sentences, 2 fine-tunes on pairs without a teacher.
        queue: teacher vectors kept as negatives, >= 0.
        initial_log_scale: where the logarithm a of the scale starts.
        mse: weight of the squared error between W S(x) and T(x), not normalised, beside the contrast; >= 0.
        pair_scale: what cosines are multiplied by in stage 2, > 0.

    Raises:
        ValueError: a value outside its range.
    """

    units: ClassVar[dict[str, Unit]] = {"ckd": "row", "mse": "row", "pairs": "pair"}
    across_rows: ClassVar[bool] = True

    def __init__(
        self,
        *,
        stage: Literal[1, 2] = 1,
        queue: int = 65_536,
        initial_log_scale: float = 1.0,
        mse: float = 0.0,
        pair_scale: float = 20.0,
    ) -> None:
        super().__init__()
        if stage not in (1, 2):
            raise ValueError(f"stage must be 1 or 2; it is {stage}")
        if queue < 0 or mse < 0 or pair_scale <= 0:
            raise ValueError(f"queue and mse must be >= 0 and pair_scale > 0; they are {queue}, {mse} and {pair_scale}")
        self.stage, self.size, self.pair_scale = stage, queue, pair_scale
        self.initial_log_scale = initial_log_scale
        self.weights = {"ckd": 1.0, "mse": mse} if mse else {"ckd": 1.0}
        self.needs = Needs(student=("embedding",), teacher=("embedding",) if stage == 1 else ())
        self.reads = ("pair", "triple") if stage == 2 else ()  # stage 1 learns from any texts
        self._fresh: list[Tensor] = []

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Make W, the scale and the queue."""
        if self.stage == 2:
            return
        with torch.no_grad():
            ours = view.emit(student, sample.student, ("embedding",)).embedding
        assert ours is not None and sample.emitted is not None and sample.emitted.embedding is not None
        width = sample.emitted.embedding.shape[-1]
        self.project = nn.Linear(ours.shape[-1], width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(float(self.initial_log_scale)))
        self.queue = Queue(self.size, width)

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``ckd`` (and ``mse``) over sentences, or ``pairs`` in stage 2."""
        assert student.embedding is not None
        if self.stage == 2:
            return {"pairs": self._pairs(student.embedding, batch)}
        assert teacher is not None and teacher.embedding is not None
        real = batch.mask
        projected = self.project(student.embedding[real])
        theirs = teacher.embedding.detach()[real].to(projected)
        keys = F.normalize(theirs, dim=-1)
        if self.training:
            self._fresh.append(keys)
        past = self.queue.rows.to(keys)
        names = [name for name, counts in zip(batch.ids, real.tolist(), strict=True) if counts]
        ckd = info_nce(
            projected,
            keys,
            real[real],
            scale=self.log_scale.exp(),
            allowed=~same_names(names).to(keys.device),
            negatives=past,
            negative_mask=keys @ past.T < SAME,
        )
        return {"ckd": ckd, "mse": mse(projected, theirs, real[real])} if "mse" in self.weights else {"ckd": ckd}

    def _pairs(self, vectors: Tensor, batch: Batch) -> Reduced:
        """Stage 2: each anchor finds its positive among all positives and all hard negatives of the batch."""
        pairs, negatives = batch.columns["pairs"], batch.columns["negatives"]
        return info_nce(
            vectors[pairs[:, 0]],
            vectors[pairs[:, 1]],
            batch.mask[pairs].all(-1),
            scale=self.pair_scale,
            negatives=vectors[negatives],
            negative_mask=batch.mask[negatives],
        )

    def after_step(self, step: Step, losses: dict[str, float]) -> None:
        """Put the step's teacher vectors into the queue."""
        if self._fresh:
            self.queue.push(torch.cat(self._fresh))
            self._fresh = []

    def log(self) -> dict[str, float]:
        """The learned scale."""
        return {"scale": float(self.log_scale.detach().exp())} if self.stage == 1 else {}


def same_names(ids: list[str]) -> Tensor:
    """[B, B] bool, true where two rows are the same sentence."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(ids))}
    places = torch.tensor([numbers[name] for name in ids])
    return places.unsqueeze(0) == places.unsqueeze(1)
