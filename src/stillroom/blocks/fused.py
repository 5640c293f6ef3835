"""Losses of a language model's rows from hidden states and heads, for a training loop of your own.

The logits are made, compared and differentiated a few rows at a time, so that no tensor of tokens x vocabulary is ever
in memory. Value and gradient are those of `stillroom.objectives` on whole logits; the chunks are made in
`stillroom.objectives.chunks`. In a run stillroom does this by itself, wherever a method's loss allows it.

Shapes: ``B`` rows, ``T`` tokens, ``H`` and ``H'`` widths of student and teacher, ``V`` vocabulary, ``K`` kept ids.
"""

from __future__ import annotations

from torch import Tensor, nn

from stillroom.head import Head, Unprojected
from stillroom.objectives.divergence import Divergence, forward_kl
from stillroom.objectives.logits import divergence_loss, divergence_topk
from stillroom.objectives.sequence import cross_entropy
from stillroom.signals import Reduced, TopK

__all__ = ["Head", "linear_cross_entropy", "linear_divergence"]


def linear_divergence(
    student_states: Tensor,
    student_head: Head | nn.Module | Tensor,
    teacher: Tensor | TopK,
    teacher_head: Head | nn.Module | Tensor | None,
    mask: Tensor,
    *,
    divergence: Divergence = forward_kl,
    temperature: float = 1.0,
    scale_by_t2: bool = False,
    shared_vocabulary: int | None = None,
) -> Reduced:
    """A divergence of the student's distribution from the teacher's, summed over the masked rows.

    Args:
        student_states: [B, T, H], what the student's head reads.
        student_head: a linear layer (peft's low-rank one included), its weight [V, H], or a `Head`, which may have a
            scale and a soft cap.
        teacher: [B, T, H'], what its head reads; or, with ``teacher_head`` None, its logits [B, T, V], or the part of
            its distribution that a cache kept. It gets no gradient.
        teacher_head: as the student's.
        mask: [B, T], true where a row counts.
        divergence: any row function of `stillroom.objectives.divergence`, or one of your own.
        temperature: divides the logits of both.
        scale_by_t2: multiply by temperature^2 (Hinton et al., 2015).
        shared_vocabulary: compare the first so many ids, where one table is padded further than the other.

    Returns:
        The sum over rows, and their number.

    Raises:
        ValueError: shapes that disagree, a temperature that is not positive, a head that is not linear, or a teacher's
            head that needs a gradient.
    """
    student = Unprojected(student_states, _head(student_head))
    if isinstance(teacher, TopK):
        return divergence_topk(
            student,
            teacher,
            mask,
            divergence=divergence,
            temperature=temperature,
            scale_by_t2=scale_by_t2,
            shared_vocabulary=shared_vocabulary,
        )
    return divergence_loss(
        student,
        teacher if teacher_head is None else Unprojected(teacher, _head(teacher_head)),
        mask,
        divergence=divergence,
        temperature=temperature,
        scale_by_t2=scale_by_t2,
        shared_vocabulary=shared_vocabulary,
    )


def linear_cross_entropy(
    states: Tensor, head: Head | nn.Module | Tensor, labels: Tensor, mask: Tensor, *, label_smoothing: float = 0.0
) -> Reduced:
    """-log q(label), summed over the masked rows.

    Args:
        states: [B, T, H], what the head reads.
        head: as the student's in `linear_divergence`.
        labels: [B, T], ids wherever the mask is true; ``labels[b, t]`` is what ``states[b, t]`` predicts.
        mask: [B, T].
        label_smoothing: the share of the target, in [0, 1], spread evenly over all V ids.

    Raises:
        ValueError: shapes that disagree, a label outside the vocabulary, a share outside [0, 1].
    """
    return cross_entropy(Unprojected(states, _head(head)), labels, mask, label_smoothing=label_smoothing)


def _head(given: Head | nn.Module | Tensor) -> Head:
    if isinstance(given, Head):
        return given
    found = Head(weight=given) if isinstance(given, Tensor) else Head.of(given)
    if found is None:
        raise ValueError(f"a head is a linear layer, its weight or a Head; {type(given).__name__} is none of them")
    return found
