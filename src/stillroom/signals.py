"""What a model emits on a batch, what a method needs of it, and how a loss is handed back.

A method never sees a model. It declares what it ``Needs``, is given one `Signals` of the student and one of the
teacher, and returns `Reduced` parts. Whether the teacher's signals come from a live model, a cache on disk, several
teachers or a remote endpoint cannot be told from here.

Shapes: ``B`` rows, ``T`` tokens, ``V`` vocabulary, ``K`` kept ids, ``H`` width, ``D`` embedding width, ``N``
candidates, ``C`` classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from stillroom.head import Unprojected

Unit = Literal["token", "row", "pair", "batch", "own"]


class Reduced(NamedTuple):
    """A loss before division: the sum over all that counted, and how many that were.

    Only the training loop divides, by the count of the whole optimiser step over all micro-batches and processes, so
    that no loss can depend on how a batch was split. ``sum`` is a scalar with gradient, ``count`` a scalar without.
    """

    sum: Tensor
    count: Tensor  # type: ignore[assignment]  # the field's word, though tuples have a method of that name

    @property
    def mean(self) -> Tensor:
        """Sum over count, and an exact differentiable 0 where nothing counted."""
        return self.sum / self.count.clamp(min=1)


def masked_sum(values: Tensor, mask: Tensor) -> Reduced:
    """Sum ``values`` where ``mask`` is true; nothing outside the mask, not even a NaN, reaches value or gradient.

    Values that were computed from masked input should be made harmless *before* the exp or log that made them; this is
    the last guard, not the first.
    """
    if values.shape != mask.shape:
        raise ValueError(f"values have shape {tuple(values.shape)} and the mask {tuple(mask.shape)}; they must agree")
    mask = mask.bool()
    return Reduced(values.masked_fill(~mask, 0.0).sum(), mask.sum())


class TopK(NamedTuple):
    """The kept part of a next-token distribution.

    ids [B, T, K] int64; log_probs [B, T, K], of the *whole* distribution (not renormalised); tail [B, T], the
    probability mass of all ids that were not kept, in [0, 1].
    """

    ids: Tensor
    log_probs: Tensor
    tail: Tensor


class Drawn(NamedTuple):
    """Ids drawn from a next-token distribution: right on average over draws, and in no single one.

    ids [B, T, K] int64; weights [B, T, K], the share of the draws that gave an id, which sum to 1 over K; 0 marks an
    empty slot. The expectation of an id's weight is its probability. So whatever is linear in the probabilities is
    estimated without bias, such as cross-entropy and the gradient of forward KL; no other divergence is.
    """

    ids: Tensor
    weights: Tensor


@dataclass(kw_only=True)
class Signals:
    """What one model emitted on one batch. Only what was asked for is set; the rest is None or empty.

    logits: [B, T, V] for token models, [B, C] for classifiers; for methods that are ``rowwise`` perhaps the
        `Unprojected` that stands for them.
    topk: the kept part of the next-token distribution, where the teacher gives no full logits.
    drawn: ids drawn from the next-token distribution, where a cache keeps these in place of the likeliest.
    hidden: layer number -> [B, T, H]; 0 is the output of the embeddings.
    attentions: layer number -> [B, heads, T, T].
    embedding: [B, D], as the model's user gets it (after pooling and normalisation).
    towers: what a tower reads (``image``, ``text``) -> [B, D], one vector a row in the space that all towers share, not
        normalised.
    scale, bias: scalars of a model with towers, which says of two vectors ``scale * cosine + bias``; the bias is 0
        where the model has none.
    scores: [B, N], one number per candidate.
    clean: [B, C, height, width], a denoiser's estimate of the picture without its noise.
    crossed: [B, B, N], the score of each row's query with every row's candidates: ``crossed[i, i]`` is ``scores[i]``.
    text: one string per row.
    taps: name of a submodule -> its output.
    mask: [B, T] bool, real tokens (not padding) of the view that this model saw; None for images.
    others: of further passes over the same rows (`Batch.others`), in order.
    """

    logits: Tensor | None = None
    topk: TopK | None = None
    drawn: Drawn | None = None
    hidden: dict[int, Tensor] = field(default_factory=dict)
    attentions: dict[int, Tensor] = field(default_factory=dict)
    embedding: Tensor | None = None
    towers: dict[str, Tensor] = field(default_factory=dict)
    scale: Tensor | None = None
    bias: Tensor | None = None
    scores: Tensor | None = None
    clean: Tensor | None = None
    crossed: Tensor | None = None
    text: list[str] | None = None
    taps: dict[str, Tensor] = field(default_factory=dict)
    mask: Tensor | None = None
    others: list[Signals] = field(default_factory=list)

    def map(self, change: Any) -> Signals:
        """A copy with ``change`` applied to every tensor (a device move, a detach, a cast)."""

        def walk(value: Any) -> Any:
            if isinstance(value, Tensor):
                return change(value)
            if isinstance(value, Unprojected):
                return value.map(change)
            if isinstance(value, TopK | Drawn):
                return type(value)(*(change(part) for part in value))
            if isinstance(value, dict):
                return {name: walk(part) for name, part in value.items()}
            if isinstance(value, list):
                return [walk(part) for part in value]
            return value.map(change) if isinstance(value, Signals) else value

        return Signals(**{item.name: walk(getattr(self, item.name)) for item in fields(self)})


@dataclass(frozen=True)
class Needs:
    """The signals that a method asks for, by name; only these are computed.

    Names: ``logits``, ``embedding``, ``scores``, ``crossed``, ``clean``, ``text``, ``hidden:N`` and ``attentions:N``
    (layer N; negative counts from the last; ``hidden:all``), ``tower:NAME`` (the vectors of the tower that reads
    NAME), ``scale``, ``bias``, ``tap:NAME`` (the output of the submodule called NAME).
    """

    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()

    @property
    def asked(self) -> tuple[str, ...]:
        """What the teacher is asked for as training goes on: all but its texts, which it wrote before."""
        return tuple(need for need in self.teacher if need != "text")

    def __post_init__(self) -> None:
        plain = {"logits", "embedding", "scores", "crossed", "clean", "text", "scale", "bias"}
        for need in (*self.student, *self.teacher):
            kind, _, argument = need.partition(":")
            if need in plain or (kind in ("tap", "tower") and argument):
                continue
            if kind in ("hidden", "attentions") and (argument == "all" or argument.lstrip("-").isdigit()):
                continue
            raise ValueError(
                f"unknown need {need!r}; use one of {', '.join(sorted(plain))}, hidden:N, attentions:N, tower:NAME, "
                "tap:NAME"
            )


@dataclass(kw_only=True)
class Batch:
    """Some rows, ready for a model.

    ids: one stable name per row, the key of every cache.
    student: keyword arguments of the student's forward.
    teacher: those of the teacher's, where its view of the rows differs; None where it is the same.
    teacher_mask: `mask` in the teacher's positions, where its view differs. The n-th true place of a row in one mask is
        the n-th in the other: the same token seen after another prompt.
    shared: where teacher and student cut the answers into different tokens, the places of `mask` [B, T] at which the
        teacher speaks too; `teacher_mask` then holds their counterparts, again the n-th for the n-th. None where these
        are all of `mask`.
    mask: what is trained. [B, T] bool for token tasks, aligned with the logits (True at t where the token *predicted*
        at t is trained); [B] bool, real rows, for everything else. Made from lengths and roles, never from token ids.
    labels: token tasks [B, T], already shifted: ``labels[b, t]`` is the token that ``logits[b, t]`` predicts. Others
        [B].
    columns: whatever else the rows carried, one list or tensor a column.
    emitted: what the teacher emits on these rows, where it was asked already: on the sample that a method's `setup`
        sees, and on batches that a method's `prepare` has asked about (`Objective.ask`).
    others: keyword arguments of further forward passes of the student over the same rows, where a method makes several
        views of a row (crops of an image); what comes of them is in `Signals.others`.
    """

    ids: list[str]
    student: dict[str, Tensor]
    mask: Tensor
    teacher: dict[str, Tensor] | None = None
    teacher_mask: Tensor | None = None
    shared: Tensor | None = None
    labels: Tensor | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    others: list[dict[str, Any]] = field(default_factory=list)
    emitted: Signals | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def counts(self) -> dict[str, Tensor]:
        """How many tokens, rows, pairs and batches this is: what losses are divided by, known before any forward pass.

        Pairs are those of an anchor and its positive (``columns["pairs"]``), or of the relevant candidate and another
        one (``columns["candidates"]``); there are none in other batches.
        """
        rows = self.mask.reshape(len(self), -1).any(-1) if len(self) else self.mask.new_zeros(0)
        pairs = torch.zeros_like(rows.sum())
        if "pairs" in self.columns:
            pairs = rows[self.columns["pairs"]].all(-1).sum()
        elif "candidates" in self.columns:
            candidates = self.columns["candidates"]
            pairs = (candidates[:, 1:] & candidates[:, :1] & rows[:, None]).sum()
        return {"token": self.mask.sum(), "row": rows.sum(), "pair": pairs, "batch": torch.ones_like(rows.sum())}

    def take(self, rows: Tensor) -> Batch:
        """The part of a batch that holds only ``rows`` (int64 places), without the other columns."""

        def pick(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value[rows] if value.dim() else value
            if isinstance(value, dict):
                return {name: pick(part) for name, part in value.items()}
            if isinstance(value, Signals):
                texts = None if value.text is None else [value.text[place] for place in rows.tolist()]
                return replace(value.map(pick), text=texts)
            return value

        return Batch(
            ids=[self.ids[place] for place in rows.tolist()],
            student=pick(self.student),
            teacher=pick(self.teacher),
            teacher_mask=pick(self.teacher_mask),
            shared=pick(self.shared),
            mask=pick(self.mask),
            labels=pick(self.labels),
            emitted=pick(self.emitted),
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""

        def move(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=True)
            if isinstance(value, Mapping):
                return {name: move(part) for name, part in value.items()}
            if isinstance(value, list):
                return [move(part) for part in value]
            return value.map(move) if isinstance(value, Signals) else value

        return replace(self, **{item.name: move(getattr(self, item.name)) for item in fields(self)})


@contextmanager
def record(model: nn.Module, names: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of the named submodules during one forward pass.

    Names are those of ``model.named_modules()``; a wrapper's ``module.`` prefix is ignored on both sides, so the same
    name works before and after a model is wrapped for several processes. A name that does not exist is refused with
    the nearest one that does. A submodule that returns a tuple gives its first tensor.
    """
    taps: dict[str, Tensor] = {}
    modules = {name.removeprefix("module."): module for name, module in model.named_modules()}
    handles = []

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            taps[name] = output[0] if isinstance(output, tuple) else output

        return hook

    try:
        for name in names:
            module = modules.get(name.removeprefix("module."))
            if module is None:
                from difflib import get_close_matches

                near = get_close_matches(name, modules, n=1, cutoff=0.0)
                raise ValueError(f"the model has no part called {name!r}; the nearest is {near[0] if near else None!r}")
            handles.append(module.register_forward_hook(keep(name)))
        yield taps
    finally:
        for handle in handles:
            handle.remove()
