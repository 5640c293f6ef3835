"""Distances between distributions that need no common vocabulary, by optimal transport in closed form.

Where moving mass costs the same between any two ids, only how much lies on each counts, not which id it is: the
cheapest pairing of ids is that of the two sorted vectors (Wasserstein-1 on the line, of the probabilities as values).

Shapes: ``...`` is ``B, T``; ``V`` and ``W`` the two vocabularies; ``N`` rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from stillroom.objectives.rows import in_float32, need_shape, spread

CHUNK = 256
"""Places whose sorted probabilities are held at a time."""


def sorted_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """The L1 distance between two probability vectors once each is sorted, and the shorter filled up with zeros.

    Args:
        student: probabilities, [..., V].
        teacher: probabilities, [..., W], of another vocabulary.

    Returns:
        [...], in [0, 2]; 0 where the two are permutations of each other. Boizard et al. 2024, equation 6.
    """
    ours, theirs = (values.sort(dim=-1, descending=True).values for values in (student, teacher))
    shared = min(ours.shape[-1], theirs.shape[-1])
    rest = ours[..., shared:].sum(-1) + theirs[..., shared:].sum(-1)  # one of the two is empty; against zeros
    return (ours[..., :shared] - theirs[..., :shared]).abs().sum(-1) + rest


def sorted_l1_rows(
    student_logits: Tensor,
    teacher_logits: Tensor,
    mask: Tensor,
    *,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
) -> Tensor:
    """`sorted_l1` of the two softmaxes at the places inside the mask, 0 elsewhere.

    The places are taken in chunks that are computed again for the backward pass: of what a softmax, a sort and a
    difference leave behind, no more than a chunk is held beside the logits of these places.

    Args:
        student_logits: [..., V].
        teacher_logits: [..., W], at the student's places.
        mask: [...], true where a place counts.
        student_temperature: divides the student's logits, > 0.
        teacher_temperature: divides the teacher's, > 0.

    Returns:
        [...], with gradient in both.

    Raises:
        ValueError: the shapes disagree, or a temperature is not positive.
    """
    if not (student_temperature > 0 and teacher_temperature > 0):
        raise ValueError(f"temperatures must be above 0; they are {student_temperature} and {teacher_temperature}")
    need_shape(mask, student_logits.shape[:-1])
    need_shape(mask, teacher_logits.shape[:-1])

    def distances(ours: Tensor, theirs: Tensor) -> Tensor:
        student = F.softmax(in_float32(ours) / student_temperature, -1)
        return sorted_l1(student, F.softmax(in_float32(theirs) / teacher_temperature, -1))

    pairs = zip(student_logits[mask.bool()].split(CHUNK), teacher_logits[mask.bool()].split(CHUNK), strict=True)
    return spread(torch.cat([checkpoint(distances, *pair, use_reentrant=False) for pair in pairs]), mask)
