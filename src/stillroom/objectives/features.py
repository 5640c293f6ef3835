"""Matching a student's vectors to a teacher's, row by row.

Each distance comes twice: ``mse_rows(student, teacher)`` gives one number a row, for weights and selections;
``mse(student, teacher, mask)`` sums the masked ones. Both models' vectors must be of one width: a narrower student
first goes through a `stillroom.blocks.projector`. The teacher is not detached here.

Shapes: ``...`` any leading sizes, ``H`` width.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from stillroom.objectives.rows import in_float32, need_shape, select
from stillroom.signals import Reduced


def mse_rows(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean over the width of the squared difference, [..., H] -> [...]."""
    student, teacher = _same_width(student, teacher)
    return (student - teacher).square().mean(-1)


def mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Reduced:
    """Mean squared error of each row [..., H], summed over the mask [...] (FitNets, Romero et al., 2015)."""
    return _masked(mse_rows, student, teacher, mask)


def normalised_mse_rows(student: Tensor, teacher: Tensor) -> Tensor:
    """`mse_rows` of the two vectors scaled to length 1: 2/H of their cosine distance, [..., H] -> [...]."""
    student, teacher = _same_width(student, teacher)
    return mse_rows(F.normalize(student, dim=-1), F.normalize(teacher, dim=-1))


def normalised_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Reduced:
    """`mse` of vectors scaled to length 1, which ignores their size (patient KD, Sun et al., 2019)."""
    return _masked(normalised_mse_rows, student, teacher, mask)


def cosine_distance_rows(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos(student, teacher), in [0, 2], [..., H] -> [...]."""
    student, teacher = _same_width(student, teacher)
    return 1 - F.cosine_similarity(student, teacher, dim=-1)


def cosine_distance(student: Tensor, teacher: Tensor, mask: Tensor) -> Reduced:
    """1 - cosine of each row [..., H], summed over the mask [...]."""
    return _masked(cosine_distance_rows, student, teacher, mask)


def smooth_l1_rows(student: Tensor, teacher: Tensor, *, beta: float = 1.0) -> Tensor:
    """The mean over the width of the smooth L1 difference, [..., H] -> [...].

    Squared below ``beta`` and linear above (Girshick, 2015); ``beta=0`` is the plain absolute difference.
    """
    student, teacher = _same_width(student, teacher)
    return F.smooth_l1_loss(student, teacher, beta=beta, reduction="none").mean(-1)


def smooth_l1(student: Tensor, teacher: Tensor, mask: Tensor, *, beta: float = 1.0) -> Reduced:
    """Smooth L1 of each row [..., H], summed over the mask [...]; see `smooth_l1_rows`."""
    return _masked(lambda a, b: smooth_l1_rows(a, b, beta=beta), student, teacher, mask)


def _masked(rows: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor, mask: Tensor) -> Reduced:
    for vectors in (student, teacher):
        need_shape(mask, vectors.shape[:-1])
    return Reduced(rows(select(student, mask), select(teacher, mask)).sum(), mask.bool().sum())


def _same_width(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student's rows have shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}; "
            "bring the student to the teacher's width with a projector (stillroom.blocks.projector)"
        )
    return in_float32(student), in_float32(teacher)
