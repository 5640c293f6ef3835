"""Divergences of a student's logits from a teacher's, over the masked rows and nothing else.

`divergence_loss` needs both models' logits; `divergence_topk` needs of the teacher only what a cache or a server keeps,
the likeliest ids and the mass of the rest. Each has a form that returns one number a row, for weights per token or
means per sequence; a row that was not selected is an exact 0 there.

The log-softmax is taken over the selected rows alone, in float32 whatever comes in. Where logits were not made yet
(`stillroom.head.Unprojected`), it is taken of a few rows at a time, and no tensor of rows x vocabulary is made; see
`stillroom.objectives.chunks`.

Shapes: ``...`` is ``B, T`` for token models, ``B`` for classifiers; ``V`` vocabulary or classes; ``K`` kept ids; ``N``
rows inside the mask.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from stillroom.objectives.chunks import Logits, Other, Values, chosen, log_probs_of, row_losses, summed_loss
from stillroom.objectives.divergence import LOG_ZERO, Divergence, forward_kl
from stillroom.objectives.gradients import FORMS
from stillroom.objectives.rows import need_shape, select, spread
from stillroom.signals import Drawn, Reduced, Signals, TopK


def masked_log_probs(
    logits: Logits, mask: Tensor, *, temperature: float = 1.0, shared_vocabulary: int | None = None
) -> Tensor:
    """The log-softmax of logits / temperature, of the rows inside the mask.

    Args:
        logits: [..., V].
        mask: [...], true where a row counts.
        temperature: above 0; larger is flatter.
        shared_vocabulary: keep only the first so many ids, where the rest is padding of the embedding table.

    Returns:
        [N, V or shared_vocabulary], in at least float32.

    Raises:
        ValueError: the shapes disagree, the temperature is not positive, or there are fewer ids than are to be shared.
    """
    rows = rows_inside(logits, mask, temperature=temperature, shared_vocabulary=shared_vocabulary)
    return log_probs_of(rows, temperature)(slice(None))


def rows_inside(
    logits: Logits, mask: Tensor, *, temperature: float = 1.0, shared_vocabulary: int | None = None
) -> Logits:
    """The rows inside the mask before any softmax, of the ids that are shared; args and errors as above."""
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, not {temperature}")
    need_shape(mask, logits.shape[:-1])
    if shared_vocabulary is not None:
        if not 0 < shared_vocabulary <= logits.shape[-1]:
            raise ValueError(f"can't share {shared_vocabulary} ids: these logits have {logits.shape[-1]}")
        logits = logits[..., :shared_vocabulary] if isinstance(logits, Tensor) else logits.first(shared_vocabulary)
    return chosen(logits, mask)


def divergence_rows(
    student_logits: Logits,
    teacher_logits: Logits,
    mask: Tensor,
    *,
    divergence: Divergence = forward_kl,
    temperature: float = 1.0,
    shared_vocabulary: int | None = None,
) -> Tensor:
    """`divergence_loss` before it is summed: [...], 0 outside the mask.

    A divergence that was made with a tensor, one parameter a row, takes those of the rows inside the mask: [N].
    """
    ours, others = _compared(student_logits, teacher_logits, mask, temperature, shared_vocabulary)
    return spread(row_losses(divergence, ours, others, temperature=temperature), mask)


def divergence_loss(
    student_logits: Logits,
    teacher_logits: Logits,
    mask: Tensor,
    *,
    divergence: Divergence = forward_kl,
    temperature: float = 1.0,
    scale_by_t2: bool = False,
    shared_vocabulary: int | None = None,
) -> Reduced:
    """A divergence of the student's distribution from the teacher's, summed over the masked rows.

    Args:
        student_logits: [B, T, V] or [B, C].
        teacher_logits: the same shape, up to the width of the vocabulary.
        mask: [B, T] or [B], true where a row counts.
        divergence: any row function of `stillroom.objectives.divergence`.
        temperature: divides both models' logits.
        scale_by_t2: multiply by temperature^2, which keeps the size of the gradient (Hinton et al., 2015).
        shared_vocabulary: compare the first so many ids only. Needed where one embedding table is padded further than
            the other; the ids cut off are those that no tokenizer emits.

    Returns:
        The sum over rows, and their number.

    Raises:
        ValueError: shapes that disagree, a temperature that is not positive.
    """
    ours, others = _compared(student_logits, teacher_logits, mask, temperature, shared_vocabulary)
    total = summed_loss(divergence, ours, others, temperature=temperature)
    return Reduced(total * (temperature**2 if scale_by_t2 else 1.0), mask.bool().sum())


def _compared(
    student: Logits, teacher: Logits, mask: Tensor, temperature: float, shared_vocabulary: int | None
) -> tuple[Logits, list[Other]]:
    """The student's rows inside the mask, and the teacher's log-probs of any of them."""
    if shared_vocabulary is None and student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"the student has {student.shape[-1]} logits and the teacher {teacher.shape[-1]}; if one "
            "table is only padded, pass the number of ids that both share as shared_vocabulary"
        )
    settings: dict[str, Any] = {"temperature": temperature, "shared_vocabulary": shared_vocabulary}
    ours, theirs = rows_inside(student, mask, **settings), rows_inside(teacher, mask, **settings)
    return ours, [log_probs_of(theirs, temperature)]


def divergence_topk_rows(
    student_logits: Logits,
    teacher: TopK,
    mask: Tensor,
    *,
    divergence: Divergence = forward_kl,
    temperature: float = 1.0,
    shared_vocabulary: int | None = None,
) -> Tensor:
    """`divergence_topk` before it is summed: [...], 0 outside the mask."""
    ours, others = _kept(student_logits, teacher, mask, temperature, shared_vocabulary)
    return spread(row_losses(partial(_on_kept, divergence=divergence), ours, others, temperature=temperature), mask)


def divergence_topk(
    student_logits: Logits,
    teacher: TopK,
    mask: Tensor,
    *,
    divergence: Divergence = forward_kl,
    temperature: float = 1.0,
    scale_by_t2: bool = False,
    shared_vocabulary: int | None = None,
) -> Reduced:
    """A divergence on K + 1 classes: the ids that the teacher kept, and everything else lumped together.

    By the data-processing inequality it is at most the divergence on the whole vocabulary (for all but soft
    cross-entropy and alpha-beta), and equals it where all ids are kept.

    Args:
        student_logits: [B, T, V].
        teacher: ids and log-probs [B, T, K], tail [B, T]. A log-prob of -inf marks an empty slot, so that rows may keep
            fewer than K ids; its id is ignored, and must still be one of the vocabulary.
        mask: [B, T], true where a row counts.
        divergence: any row function of `stillroom.objectives.divergence`.
        temperature: divides the student's logits. The teacher's log-probs were taken at it already.
        scale_by_t2: multiply by temperature^2.
        shared_vocabulary: cut the student to the first so many ids, which hold all that the teacher could emit.

    Returns:
        The sum over rows, and their number.

    Raises:
        ValueError: shapes that disagree, an id that the student lacks, a temperature that is not positive.
    """
    ours, others = _kept(student_logits, teacher, mask, temperature, shared_vocabulary)
    total = summed_loss(partial(_on_kept, divergence=divergence), ours, others, temperature=temperature)
    return Reduced(total * (temperature**2 if scale_by_t2 else 1.0), mask.bool().sum())


def _kept(
    student: Logits, teacher: TopK, mask: Tensor, temperature: float, shared_vocabulary: int | None
) -> tuple[Logits, list[Other]]:
    """The student's rows inside the mask, and the teacher's ids, log-probs and log-tail for any of them."""
    ours = rows_inside(student, mask, temperature=temperature, shared_vocabulary=shared_vocabulary)
    ids, kept, tail = (select(part, mask) for part in teacher)
    _need_ids(ids, ours)
    log_tail = tail.clamp(min=torch.finfo(torch.float32).tiny).log().unsqueeze(-1)
    return ours, [Values(ids), Values(torch.cat([kept, log_tail], -1))]


def cross_entropy_drawn(
    student_logits: Logits,
    teacher: Drawn,
    mask: Tensor,
    *,
    temperature: float = 1.0,
    scale_by_t2: bool = False,
    shared_vocabulary: int | None = None,
) -> Reduced:
    """-sum_v w_v log q_v with the weights w of drawn ids: without bias the teacher's cross-entropy.

    Averaged over draws it is -sum_v p_v log q_v, so its gradient is that of forward KL, which differs by the teacher's
    entropy alone (Anshumann et al., 2025). No other divergence can be had from draws in this way.

    Args:
        student_logits: [B, T, V].
        teacher: ids and weights [B, T, K]; a weight of 0 marks an empty slot, whose id must still be one of the
            vocabulary.
        mask: [B, T], true where a row counts.
        temperature: divides the student's logits. The teacher's ids were drawn at it already.
        scale_by_t2: multiply by temperature^2.
        shared_vocabulary: cut the student to the first so many ids.

    Returns:
        The sum over rows, and their number.

    Raises:
        ValueError: shapes that disagree, an id that the student lacks, a temperature that is not positive.
    """
    ours = rows_inside(student_logits, mask, temperature=temperature, shared_vocabulary=shared_vocabulary)
    ids, weights = (select(part, mask) for part in teacher)
    _need_ids(ids, ours)
    total = summed_loss(_on_drawn, ours, [Values(ids), Values(weights)], temperature=temperature)
    return Reduced(total * (temperature**2 if scale_by_t2 else 1.0), mask.bool().sum())


def _on_drawn(log_probs: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """The cross-entropy of drawn ids: log-probs [n, V], ids and weights [n, K]."""
    return -(weights * log_probs.gather(-1, ids).masked_fill(weights == 0, 0.0)).sum(-1)


def _on_drawn_with_gradient(log_q: Tensor, q: Tensor, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The same, and the gradient of its sum for the logits: q sum_k w_k, less the weights on their ids."""
    values = _on_drawn(log_q, ids, weights)
    return values, q.mul_(weights.sum(-1, keepdim=True)).scatter_add_(-1, ids, -weights)


FORMS[_on_drawn] = _on_drawn_with_gradient


def _need_ids(ids: Tensor, student: Logits) -> None:
    if ids.numel() and int(ids.max()) >= student.shape[-1]:
        raise ValueError(f"the teacher kept id {int(ids.max())}, but the student has {student.shape[-1]} ids")


def divergence_from(
    student_logits: Logits, teacher: Signals, mask: Tensor, *, temperature: float = 1.0, scale_by_t2: bool = False
) -> Reduced:
    """Forward KL from what a teacher emitted: its logits, or the part of its distribution that a cache kept.

    From ids that were drawn it is the cross-entropy, which has the same gradient on average.
    """
    settings: dict[str, Any] = {"temperature": temperature, "scale_by_t2": scale_by_t2}
    if teacher.drawn is not None:
        return cross_entropy_drawn(student_logits, teacher.drawn, mask, **settings)
    if teacher.topk is not None:
        return divergence_topk(student_logits, teacher.topk, mask, **settings)
    assert teacher.logits is not None
    return divergence_loss(student_logits, teacher.logits, mask, **settings)


def _on_kept(log_probs: Tensor, ids: Tensor, kept: Tensor, *, divergence: Divergence) -> Tensor:
    """A divergence on the kept ids and, last, all others together: log-probs [n, V], ids [n, K], kept [n, K + 1]."""
    return divergence(_with_tail(log_probs, ids, kept[..., :-1]), kept)


def _on_kept_with_gradient(
    log_q: Tensor, q: Tensor, ids: Tensor, kept: Tensor, *, divergence: Divergence
) -> tuple[Tensor, Tensor]:
    """`_on_kept`, and the gradient of its sum for the logits.

    With c_k the divergence's gradient for the student's log-prob of class k, Q the mass of its tail and s = sum_k c_k:
    c_k - s q_k on a kept id, and (c_tail / Q - s) q_v on another.
    """
    empty = kept[..., :-1].isneginf()
    # An empty slot's id may be that of a full one: it is told by the likeliest, to which it then adds nothing.
    first = kept[..., :-1].argmax(-1, keepdim=True)
    places = ids.where(~empty, ids.gather(-1, first))
    on_ids = log_q.gather(-1, places).masked_fill(empty, LOG_ZERO)
    own = q.gather(-1, places).masked_fill(empty, 0.0)
    mass = q.scatter(-1, places, 0.0).sum(-1, keepdim=True)
    log_mass = mass.clamp(min=torch.finfo(torch.float32).tiny).log()
    with torch.enable_grad():
        leaf = torch.cat([on_ids, log_mass], -1).detach().requires_grad_()
        values = divergence(leaf, kept)
        (change,) = torch.autograd.grad(values.sum(), leaf)
    for_tail = change[..., -1:] / mass.clamp(min=torch.finfo(torch.float32).tiny)
    gradient = q.mul_(for_tail - change.sum(-1, keepdim=True))
    return values.detach(), gradient.scatter_add_(
        -1, places, (change[..., :-1] - own * for_tail).masked_fill(empty, 0.0)
    )


FORMS[_on_kept] = _on_kept_with_gradient


def _with_tail(log_probs: Tensor, ids: Tensor, kept: Tensor) -> Tensor:
    """A student's log-probs [N, V] on the ids [N, K] and, last, on all others together: [N, K + 1].

    The tail is summed from its own members. As 1 - (sum of the kept) it would lose all its digits when it is small, and
    its gradient with them.
    """
    empty = kept.isneginf()
    on_ids = log_probs.gather(-1, ids).masked_fill(empty, LOG_ZERO)
    # An empty slot may repeat the id of a full one, so that "kept" must win whichever is written last.
    is_kept = torch.zeros_like(log_probs, dtype=torch.uint8).scatter_reduce(-1, ids, (~empty).byte(), "amax").bool()
    tail = log_probs.masked_fill(is_kept, LOG_ZERO).logsumexp(-1, keepdim=True)
    return torch.cat([on_ids, tail], -1)
