"""How far the student behaves like its teacher, whether or not either of them is right.

Losses on a gold standard can agree while the two models err in different places; these measures look at the pairs of
outputs. Those that are means come as (sum, count), so that a corpus can be taken batch by batch (`running.Running`); a
correlation needs all of its values at once.

Shapes: ``...`` rows, or rows and tokens; ``C`` classes or vocabulary; ``N`` rows; ``D`` embedding width. Masks are
required; what lies outside, NaN included, changes nothing.

Source: label and probability loyalty are Xu et al., 2021, "Beyond Preserved Accuracy: Evaluating Loyalty and
Robustness of BERT Compression", section 3.1; regression loyalty is Avram et al., 2022, "Distilling the Knowledge of
Romanian BERTs Using Multiple Teachers".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillroom.evaluate.correlation import pearson, spearman
from stillroom.objectives.divergence import forward_kl, jsd
from stillroom.signals import Reduced, masked_sum

ROWS_AT_ONCE = 1024  # rows whose float32 log-probabilities exist together: 0.6 GB at a vocabulary of 150,000

Rows = Callable[[Tensor, Tensor], Tensor]


class ScoreLoyalty(NamedTuple):
    """Agreement of scalar outputs. Correlations are NaN where one of the models gives every row the same score."""

    pearson: float
    spearman: float
    mean_absolute_difference: float


def label_loyalty(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor) -> Reduced:
    """How often both have the same favourite: the accuracy of the student against the teacher's labels; in [0, 1].

    Of a token model this is the top-1 agreement over the masked tokens.

    Args:
        student_logits: [..., C].
        teacher_logits: [..., C], classes in the same order.
        mask: [...] bool.
    """
    return _measure({"value": _same_favourite}, student_logits, teacher_logits, mask)["value"]


def probability_loyalty(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, *, base: float = math.e
) -> Reduced:
    """Mean of 1 - sqrt(JSD(teacher, student)); 1 is the best, which equal outputs reach to 1e-4 (float32 under a root).

    Args:
        student_logits: [..., C].
        teacher_logits: [..., C], classes in the same order.
        mask: [...] bool.
        base: of the logarithm in the divergence. With e, as in the paper, the range is [1 - sqrt(ln 2), 1], that is
            from 0.167; with 2 it is [0, 1].
    """
    return _measure({"value": _loyalty(base)}, student_logits, teacher_logits, mask)["value"]


def mean_forward_kl(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor) -> Reduced:
    """KL(teacher || student) in nats, a row or token; from 0, which is the best.

    Args:
        student_logits: [..., C].
        teacher_logits: [..., C], classes in the same order.
        mask: [...] bool.
    """
    return _measure({"value": forward_kl}, student_logits, teacher_logits, mask)["value"]


def logit_agreement(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor) -> dict[str, Reduced]:
    """Label loyalty, probability loyalty (base e) and forward KL in one pass over the logits, under these names.

    Args:
        student_logits: [..., C].
        teacher_logits: [..., C], classes in the same order.
        mask: [...] bool.
    """
    rows = {"label_loyalty": _same_favourite, "probability_loyalty": _loyalty(math.e), "forward_kl": forward_kl}
    return _measure(rows, student_logits, teacher_logits, mask)


def cosine_agreement(student: Tensor, teacher: Tensor, mask: Tensor) -> Reduced:
    """Mean cosine of the two models' vectors for the same row; in [-1, 1]. A zero vector agrees with nothing: 0.

    Args:
        student: [N, D].
        teacher: [N, D], of the same width; for another width there is `pairwise_agreement`.
        mask: [N] bool.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"vectors of shape {tuple(student.shape)} and {tuple(teacher.shape)} have no cosine; use pairwise_agreement"
        )
    chosen = mask.bool()
    cosines = F.cosine_similarity(student[chosen].double(), teacher[chosen].double(), dim=-1)
    return masked_sum(cosines, torch.ones_like(cosines, dtype=torch.bool))


def pairwise_agreement(student: Tensor, teacher: Tensor, mask: Tensor, *, pairs: int = 100_000, seed: int = 0) -> float:
    """Spearman correlation of the cosines of pairs of rows: do both models find the same rows alike? In [-1, 1].

    The widths may differ. NaN where one of the models finds all pairs equally alike.

    Args:
        student: [N, D].
        teacher: [N, E].
        mask: [N] bool; at least three rows, or there is nothing to rank.
        pairs: at most so many pairs are compared, drawn at random; all of them where there are no more.
        seed: of that draw.
    """
    chosen = mask.bool()
    count = int(chosen.sum())
    if count < 3:
        raise ValueError(f"{count} rows make no ranking of pairs; at least 3 are needed")
    first, second = _pairs(count, pairs, seed)
    return spearman(*(_cosines(vectors[chosen], first, second) for vectors in (student, teacher)))


def score_loyalty(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor) -> ScoreLoyalty:
    """Agreement of regressors or rerankers: Pearson (the regression loyalty), Spearman, mean absolute difference.

    Args:
        student_scores: [...] one score a row, or a candidate.
        teacher_scores: the same shape.
        mask: the same shape, bool; at least two places.
    """
    if not student_scores.shape == teacher_scores.shape == mask.shape:
        raise ValueError(
            f"scores and mask must have one shape, not {tuple(student_scores.shape)}, {tuple(teacher_scores.shape)} "
            f"and {tuple(mask.shape)}"
        )
    chosen = mask.bool()
    student, teacher = (scores[chosen].double().cpu().numpy() for scores in (student_scores, teacher_scores))
    if len(student) < 2:
        raise ValueError(f"{len(student)} scores have no correlation; at least 2 are needed")
    return ScoreLoyalty(
        pearson=pearson(student, teacher),
        spearman=spearman(student, teacher),
        mean_absolute_difference=float(abs(student - teacher).mean()),
    )


def _same_favourite(student: Tensor, teacher: Tensor) -> Tensor:
    return student.argmax(-1) == teacher.argmax(-1)


def _loyalty(base: float) -> Rows:
    divergence = jsd(0.5)

    def rows(student: Tensor, teacher: Tensor) -> Tensor:
        # Rounding can leave the divergence of two equal rows a hair below zero, where it has no root.
        return 1 - (divergence(student, teacher).clamp(min=0) / math.log(base)).sqrt()

    return rows


@torch.no_grad()
def _measure(rows: Mapping[str, Rows], student: Tensor, teacher: Tensor, mask: Tensor) -> dict[str, Reduced]:
    """Sum each row function over the masked places, a few float32 rows at a time."""
    if student.shape != teacher.shape or mask.shape != student.shape[:-1]:
        raise ValueError(
            f"logits must have one shape [..., C] and the mask [...], not {tuple(student.shape)}, "
            f"{tuple(teacher.shape)} and {tuple(mask.shape)}"
        )
    places = mask.bool()
    chosen = (student[places].split(ROWS_AT_ONCE), teacher[places].split(ROWS_AT_ONCE))
    sums = {name: torch.zeros((), dtype=torch.float64) for name in rows}
    for student_part, teacher_part in zip(*chosen, strict=True):
        pair = (student_part.float().log_softmax(-1), teacher_part.float().log_softmax(-1))
        for name, row in rows.items():
            sums[name] += row(*pair).sum().cpu()
    return {name: Reduced(total, places.sum().cpu()) for name, total in sums.items()}


def _pairs(count: int, limit: int, seed: int) -> tuple[Tensor, Tensor]:
    """The row numbers of every pair if there are no more than ``limit``, else of so many random pairs of two rows."""
    if count * (count - 1) // 2 <= limit:
        first, second = torch.triu_indices(count, count, offset=1)
        return first, second
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(count, (limit,), generator=generator)
    second = (first + torch.randint(1, count, (limit,), generator=generator)) % count
    return first, second


def _cosines(vectors: Tensor, first: Tensor, second: Tensor) -> np.ndarray:
    """The cosine of each pair, a thousand at a time."""
    parts = zip(first.split(ROWS_AT_ONCE), second.split(ROWS_AT_ONCE), strict=True)
    return (
        torch.cat([F.cosine_similarity(vectors[i].double(), vectors[j].double(), dim=-1) for i, j in parts])
        .cpu()
        .numpy()
    )
