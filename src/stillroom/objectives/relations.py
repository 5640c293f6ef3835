"""Matching how examples relate to each other, rather than the examples themselves; the two widths may differ.

These losses are defined on a whole set of rows: one call gives one value. They return it with count 1 (or the rows, as
`neighbour_relation` does), or an exact 0 with count 0 where too few rows are left to relate. Pass any subset (a batch,
the instances of an image, the rows of a class) by its mask.

Shapes: ``n`` rows inside the mask of ``N``, ``H`` the student's width, ``H'`` the teacher's.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from stillroom.objectives.divergence import forward_kl
from stillroom.objectives.rows import in_float32, products, select
from stillroom.signals import Reduced

Normalise = Literal["vectors", "rows", "none"]


def distance_relation(student: Tensor, teacher: Tensor, mask: Tensor) -> Reduced:
    """Relational distillation of distances (RKD-D, Park et al., 2019).

    The n x n Euclidean distances of each model, divided by their mean over i != j, are compared by smooth L1; the mean
    is over all n^2 entries, the zero diagonal among them. The student's mean carries gradient.

    Args:
        student: [N, H], not normalised: the loss is free of scale already.
        teacher: [N, H'].
        mask: [N]; needs two rows.
    """
    student, teacher = select(student, mask), select(teacher, mask)
    if len(student) < 2:
        return _nothing(student)
    error = F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher), reduction="sum")
    return _one(2 * error / len(student) ** 2)  # every pair stands twice in the matrix


def _relative_distances(rows: Tensor) -> Tensor:
    """Each pair's distance over the mean distance, [n (n - 1) / 2]; zeros where all rows are the same."""
    distances = F.pdist(rows)
    return distances / distances.mean().clamp(min=1e-12)


def angle_relation(student: Tensor, teacher: Tensor, mask: Tensor, *, chunk: int = 16) -> Reduced:
    """Relational distillation of angles (RKD-A, Park et al., 2019).

    The cosine of the angle at i between j and k, compared by smooth L1, averaged over all n^3 triples; those in which
    two coincide have cosine 0 in both models.

    Args:
        student: [N, H].
        teacher: [N, H'].
        mask: [N]; needs three rows.
        chunk: how many vertices are worked on at once. Memory is chunk x n x (n + H); the backward pass computes each
            chunk anew.
    """
    student, teacher = select(student, mask), select(teacher, mask)
    if len(student) < 3:
        return _nothing(student)
    error = student.new_zeros(())
    for start in range(0, len(student), chunk):
        error = error + checkpoint(
            _angle_error, student, teacher, start, start + chunk, use_reentrant=False, preserve_rng_state=False
        )
    return _one(error / len(student) ** 3)


def _angle_error(student: Tensor, teacher: Tensor, start: int, stop: int) -> Tensor:
    return F.smooth_l1_loss(_cosines(student, start, stop), _cosines(teacher, start, stop), reduction="sum")


def _cosines(rows: Tensor, start: int, stop: int) -> Tensor:
    """The cosine of the angle j-i-k for the vertices i in [start, stop), [vertices, n, n]."""
    sides = rows.unsqueeze(0) - rows[start:stop].unsqueeze(1)
    squared = sides.square().sum(-1, keepdim=True)
    # Rows that coincide span no angle: a direction of 0 without gradient, instead of one of length 1 / eps.
    apart = squared > 1e-12
    directions = sides * squared.where(apart, torch.ones_like(squared)).rsqrt() * apart
    return products(directions, directions)


def gram_relation(student: Tensor, teacher: Tensor, mask: Tensor, *, normalise: Normalise = "vectors") -> Reduced:
    """Mean squared difference of the two n x n matrices of inner products.

    Args:
        student: [N, H].
        teacher: [N, H'].
        mask: [N]; needs one row.
        normalise: ``vectors``: cosines. ``rows``: each row of the matrix is scaled to length 1 (similarity-preserving
            KD, Tung and Mori, 2019). ``none``: the inner products as they are.

    Raises:
        ValueError: an unknown ``normalise``.
    """
    student, teacher = select(student, mask), select(teacher, mask)
    if len(student) < 1:
        return _nothing(student)
    return _one(F.mse_loss(_gram(student, normalise), _gram(teacher, normalise)))


def _gram(rows: Tensor, normalise: Normalise) -> Tensor:
    if normalise == "vectors":
        rows = F.normalize(rows, dim=-1)
        return products(rows, rows)
    if normalise == "rows":
        return F.normalize(products(rows, rows), dim=-1)
    if normalise == "none":
        return products(rows, rows)
    raise ValueError(f"normalise is 'vectors', 'rows' or 'none', not {normalise!r}")


def neighbour_relation(student: Tensor, teacher: Tensor, mask: Tensor, *, temperature: float) -> Reduced:
    """How far the two models are apart on which other rows a row is like, and how much more than the rest.

    Each model's cosines of row i with all j != i, over the temperature, become a distribution; the loss is the KL
    divergence from the teacher's to the student's (CompRess, Koohpayegani et al., 2020, with the batch in place of a
    memory bank). What is most alike weighs most, where `gram_relation` weighs all pairs equally.

    Args:
        student: [N, H].
        teacher: [N, H'].
        mask: [N]; needs two rows.
        temperature: of both, > 0.

    Returns:
        The sum over rows, and, unlike the other relations, the number of rows.

    Raises:
        ValueError: a temperature of 0 or below.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0; it is {temperature}")
    student, teacher = select(student, mask), select(teacher, mask)
    if len(student) < 2:
        return _nothing(student)
    ours, theirs = (_off_diagonal(_gram(rows, "vectors") / temperature).log_softmax(-1) for rows in (student, teacher))
    return Reduced(forward_kl(ours, theirs).sum(), mask.bool().sum())


def _off_diagonal(square: Tensor) -> Tensor:
    """[n, n] -> [n, n - 1], each row without its own place."""
    count = len(square)
    return square.flatten()[1:].view(count - 1, count + 1)[:, :-1].reshape(count, count - 1)


def linear_cka(first: Tensor, second: Tensor) -> Tensor:
    """Linear centred kernel alignment of [n, H] and [n, H'], in [0, 1] (Kornblith et al., 2019).

    Blind to rotation and scale of either side. 0 where one side does not vary.
    """
    first, second = (rows - rows.mean(0) for rows in (in_float32(first), in_float32(second)))
    first, second = products(first, first), products(second, second)
    sizes = first.norm() * second.norm()
    return (first * second).sum() / sizes.where(sizes > 0, torch.ones_like(sizes))


def cka_relation(student: Tensor, teacher: Tensor, mask: Tensor) -> Reduced:
    """1 - `linear_cka` of the masked rows, [N, H] and [N, H']; needs two rows."""
    student, teacher = select(student, mask), select(teacher, mask)
    return _nothing(student) if len(student) < 2 else _one(1 - linear_cka(student, teacher))


def _one(value: Tensor) -> Reduced:
    return Reduced(value, torch.ones((), dtype=torch.long, device=value.device))


def _nothing(rows: Tensor) -> Reduced:
    """A sum of 0 that still hangs on ``rows``, so that a loss made of it alone can be differentiated."""
    return Reduced(rows[:0].sum(), torch.zeros((), dtype=torch.long, device=rows.device))
