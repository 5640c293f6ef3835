"""Losses of rows, from logits or from hidden states and a head: a few rows at a time, value and gradient in one pass.

A row loss is any function ``(student_log_probs [n, V], *others [n, ...]) -> [n]``. From logits it is called once. From
`Unprojected` states it is called on chunks of rows: their logits are made, in float32 from there on, the loss and its
gradient for them are taken at once, and the gradient goes on to states and head; then the chunk is gone. No tensor of
rows x vocabulary is made, and what is computed is the same. That a loss summed over rows can be differentiated while
its value is computed is what makes one pass do (Liger-Kernel, Hsu et al., 2024, section 3).

Shapes: ``N`` rows, ``n`` rows of a chunk, ``V`` ids, ``H`` width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stillroom.head import Head, Unprojected
from stillroom.objectives.gradients import by_autograd, written_out
from stillroom.objectives.rows import in_float32, select

Logits = Tensor | Unprojected
RowLoss = Callable[..., Tensor]

CHUNK_BYTES = 64 * 2**20  # that a chunk may take
BUFFERS = 4  # tensors of a chunk's rows x vocabulary that are alive at once


class Room:
    """Memory that every chunk uses again: what is allocated anew each time is also cleared by the system each time."""

    def __init__(self) -> None:
        self.held: dict[str, Tensor] = {}

    def take(self, name: str, like: Tensor, width: int) -> Tensor:
        """Uninitialised [n, width] in the type and place of ``like`` [n, ...]; never twice at once under one name."""
        held = self.held.get(name)
        if held is None or len(held) < len(like) or held.dtype != like.dtype:
            held = self.held[name] = like.new_empty(len(like), width)
        return held[: len(like)]


@dataclass(frozen=True)
class Values:
    """Numbers that a row loss is given beside the student's log-probs: values [N, ...]."""

    values: Tensor

    def __call__(self, rows: slice) -> Tensor:
        """Those of some rows."""
        return self.values[rows]

    def beside(self, rows: slice, room: Room) -> tuple[Tensor, ...]:
        """The same, as a form in `stillroom.objectives.gradients` is given them."""
        return (self.values[rows],)


@dataclass(frozen=True)
class LogProbs:
    """A distribution that a row loss is given: of logits [N, V], which are constants where they are not projected."""

    logits: Logits
    temperature: float

    def __call__(self, rows: slice) -> Tensor:
        """The log-probs of some rows."""
        if isinstance(self.logits, Tensor):
            return _log_probs(self.logits[rows], self.temperature)
        return _log_probs(in_float32(self.logits.head(self.logits.states[rows])), self.temperature)

    def beside(self, rows: slice, room: Room) -> tuple[Tensor, ...]:
        """Log-probs and probabilities of some rows, in the room, to be overwritten."""
        if isinstance(self.logits, Tensor):
            some = self.logits[rows]
            logits = room.take("theirs", some, some.shape[-1]).copy_(some)
        else:
            unprojected = self.logits.map(lambda states: states[rows])
            logits = _projected(unprojected.head, _pieces(unprojected), slice(None), room, "theirs")
        return distribution(logits, self.temperature, room, "their probabilities")


Other = Values | LogProbs


def chosen(logits: Logits, mask: Tensor) -> Logits:
    """The rows inside the mask, [N, V] or, not projected, [N, H]; logits in at least float32."""
    return select(logits, mask) if isinstance(logits, Tensor) else logits.map(lambda states: states[mask.bool()])


def log_probs_of(logits: Logits, temperature: float = 1.0) -> LogProbs:
    """Log-probs of some rows of logits [N, V].

    Raises:
        ValueError: they are not projected yet, and states or head need a gradient.
    """
    if isinstance(logits, Unprojected) and torch.is_grad_enabled() and logits.learns:
        raise ValueError("a teacher that learns must give whole logits; call dense() on what it emits")
    return LogProbs(logits, temperature)


def _log_probs(logits: Tensor, temperature: float) -> Tensor:
    return (logits if temperature == 1 else logits / temperature).log_softmax(-1)


def distribution(logits: Tensor, temperature: float, room: Room, name: str) -> tuple[Tensor, Tensor]:
    """Log-probs, in place of the logits [n, V], and probabilities, in the room under ``name``: one exponential each.

    The logarithm of the softmax's denominator is the largest logit less the log of its probability, which is at least
    1 / V and so has all its digits.
    """
    if temperature != 1:
        logits.div_(temperature)
    probs = torch.softmax(logits, -1, out=room.take(name, logits, logits.shape[-1]))
    return logits.sub_(logits.amax(-1, keepdim=True) - probs.amax(-1, keepdim=True).log_()), probs


def _projected(head: Head, pieces: Sequence[Tensor], rows: slice, room: Room, name: str) -> Tensor:
    """What `Head` gives for some rows [n, V], in place, without autograd, and in the room where no type changes."""
    ids, states, weight = head.ids, pieces[0][rows], pieces[1][: head.ids]
    plain = not torch.is_autocast_enabled(states.device.type) and in_float32(states).dtype == states.dtype
    own = room.take(name, states, ids) if plain else None
    found = in_float32(torch.mm(states, weight.T, out=own))
    for more, table in zip(pieces[2::2], pieces[3::2], strict=True):
        found += more[rows] @ table[:ids].T
    if head.bias is not None:
        found += head.bias[:ids]
    if head.scale != 1:
        found *= head.scale
    if head.softcap is not None:
        found.div_(head.softcap).tanh_().mul_(head.softcap)
    return found


def row_losses(loss: RowLoss, student: Logits, others: Sequence[Other] = (), *, temperature: float = 1.0) -> Tensor:
    """A loss of each row, [N]; its gradient computes the chunks' logits once more.

    Args:
        loss: called on the student's log-probs and on the others; rows must not influence each other. Parameters that
            `functools.partial` has bound to it and that have one entry a row are cut with the rows.
        student: [N, V], the selected rows.
        others: what else the loss is given.
        temperature: divides the student's logits.
    """
    if isinstance(student, Tensor):
        return loss(_log_probs(student, temperature), *(other(slice(None)) for other in others))
    return _chunked(loss, student, others, temperature, total=False)


def summed_loss(loss: RowLoss, student: Logits, others: Sequence[Other] = (), *, temperature: float = 1.0) -> Tensor:
    """The sum of `row_losses`, a scalar: value and gradient in one pass."""
    if isinstance(student, Tensor):
        return row_losses(loss, student, others, temperature=temperature).sum()
    return _chunked(loss, student, others, temperature, total=True)


def _chunked(
    loss: RowLoss, student: Unprojected, others: Sequence[Other], temperature: float, *, total: bool
) -> Tensor:
    kind = student.states.device.type
    half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    job = _Job(loss, tuple(others), student.head, temperature, total, torch.is_grad_enabled(), half)
    return _Chunks.apply(job, student.head.bias, *_pieces(student))


def _pieces(logits: Unprojected) -> list[Tensor]:
    """Logits as sums of products: states and weight, and again for an adapter, whose first half is made here."""
    head = logits.head
    if head.down is None or head.up is None:
        return [logits.states, head.weight]
    return [logits.states, head.weight, head.factor * (logits.states @ head.down.T), head.up]


@dataclass(frozen=True)
class _Job:
    """What is the same for all chunks."""

    loss: RowLoss
    others: tuple[Other, ...]
    head: Head
    temperature: float
    total: bool
    gradient: bool
    half: torch.dtype | None
    room: Room = field(default_factory=Room)

    def chunks(self, rows: int) -> Iterator[slice]:
        size = max(CHUNK_BYTES // (BUFFERS * 4 * self.head.ids), 16)
        for start in range(0, rows, size):
            yield slice(start, min(start + size, rows))

    def rule(self, rows: slice, count: int) -> RowLoss:
        """The loss for some rows: parameters that have one entry a row are cut with them."""

        def cut(value: Any) -> Any:
            if isinstance(value, partial):
                return partial(value.func, *value.args, **{name: cut(part) for name, part in value.keywords.items()})
            by_row = isinstance(value, Tensor) and value.dim() and len(value) == count
            return value[rows] if by_row else value

        return cut(self.loss)

    def values(self, pieces: Sequence[Tensor], rows: slice) -> Tensor:
        """The losses of some rows [n]."""
        log_probs = _log_probs(_projected(self.head, pieces, rows, self.room, "ours"), self.temperature)
        return self.rule(rows, len(pieces[0]))(log_probs, *(other(rows) for other in self.others))

    def with_gradient(self, pieces: Sequence[Tensor], rows: slice, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """The losses of some rows [n], and the gradient of their (weighted) sum for what the head's product gave."""
        logits, cap = _projected(self.head, pieces, rows, self.room, "ours"), self.head.softcap
        slope = None if cap is None else 1 - (logits / cap).square_()
        log_q, q = distribution(logits, self.temperature, self.room, "our probabilities")
        loss = self.rule(rows, len(pieces[0]))
        if form := written_out(loss):
            beside = [one for other in self.others for one in other.beside(rows, self.room)]
            values, change = form(log_q, q, *beside)
        else:
            values, change = by_autograd(loss, log_q, q, *(other(rows) for other in self.others))
        if weight is not None:
            change *= weight.unsqueeze(-1) if weight.dim() else weight
        if slope is not None:
            change *= slope
        factor = self.head.scale / self.temperature
        return values, change if factor == 1 else change.mul_(factor)


class _Chunks(torch.autograd.Function):
    """`row_losses` and `summed_loss` of states that are not projected."""

    @staticmethod
    def forward(ctx: Any, job: _Job, bias: Tensor | None, *pieces: Tensor) -> Tensor:
        """Go through the chunks; where the sum is wanted, gradients are taken on the way."""
        ctx.job, ctx.gradients, count = job, None, len(pieces[0])
        at_once = job.total and job.gradient and any(ctx.needs_input_grad[1:])
        gradients = _Gradients(ctx, job, bias, pieces) if at_once else None
        values = [pieces[0].new_zeros(0, dtype=torch.promote_types(pieces[0].dtype, torch.float32))]
        for rows in job.chunks(count):
            if gradients is None:
                values.append(job.values(pieces, rows))
            else:
                value, change = job.with_gradient(pieces, rows, None)
                values.append(value)
                gradients.add(change, rows)
        job.room.held.clear()
        found = torch.cat(values)
        if gradients is not None:
            ctx.gradients = gradients.done()
        ctx.save_for_backward(bias, *pieces)
        return found.sum() if job.total else found

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        """Gradients of the sum, scaled; those of single losses by going through the chunks again."""
        job, (grad,) = ctx.job, outer
        if job.total and ctx.gradients is not None:
            found, ctx.gradients = ctx.gradients, None  # as large as the head; a second pass goes through the chunks
            return None, *(None if own is None else own.mul_(grad) for own in found)
        bias, *pieces = ctx.saved_tensors
        gradients, count = _Gradients(ctx, job, bias, pieces), len(pieces[0])
        with torch.autocast(grad.device.type, job.half, enabled=job.half is not None):
            for rows in job.chunks(count):
                gradients.add(job.with_gradient(pieces, rows, grad if job.total else grad[rows])[1], rows)
        job.room.held.clear()
        return None, *gradients.done()


class _Gradients:
    """Gradients for the bias and the pieces, where they are wanted; summed over chunks."""

    def __init__(self, ctx: Any, job: _Job, bias: Tensor | None, pieces: Sequence[Tensor]) -> None:
        self.job, self.pieces = job, pieces
        wanted = ctx.needs_input_grad[1:]
        inputs = (bias, *pieces)
        self.types = [None if one is None else one.dtype for one in inputs]
        # Chunks add up in float32: in half precision each sum would lose what is small beside it.
        self.found = [
            torch.zeros_like(one, dtype=torch.promote_types(one.dtype, torch.float32))
            if want and one is not None
            else None
            for one, want in zip(inputs, wanted, strict=True)
        ]

    def add(self, change: Tensor, rows: slice) -> None:
        """What a chunk adds, from the gradient [n, V] for the sum of its products and bias."""
        ids, bias = self.job.head.ids, self.found[0]
        if bias is not None:
            bias[:ids] += change.sum(0)
        for place in range(0, len(self.pieces), 2):
            states, weight = self.pieces[place : place + 2]
            for_states, for_weight = self.found[1 + place : 3 + place]
            if for_states is not None:
                for_states[rows] = change.to(weight.dtype) @ weight[:ids]
            if for_weight is not None and states.dtype == for_weight.dtype:
                for_weight[:ids].addmm_(change.T, states[rows])
            elif for_weight is not None:
                for_weight[:ids] += change.to(states.dtype).T @ states[rows]

    def done(self) -> list[Tensor | None]:
        """In the inputs' types."""
        return [None if one is None else one.to(kind) for one, kind in zip(self.found, self.types, strict=True)]
