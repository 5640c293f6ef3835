"""Asking the teacher once and keeping its signals in a store.

A row's key is its content, so rows that two runs share are labelled once. Rows are taken by length, which saves
padding and is the same order every time; so a killed labelling goes on where it was and ends in the same bytes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from accelerate import PartialState
from tqdm.auto import tqdm

from stillroom.data.cache import cache_folder
from stillroom.engine.encoding import encode
from stillroom.engine.loop import read
from stillroom.engine.precision import resolve
from stillroom.errors import UserError
from stillroom.store import Header, Signal, Store
from stillroom.store.batches import rows_of
from stillroom.store.shards import Rows as Encoded
from stillroom.store.shards import encode as encode_rows
from stillroom.store.writer import Writer
from stillroom.teachers import Teacher
from stillroom.views.base import View, digest, make_batch, tokenizer_hash
from stillroom.views.load import Opened

if TYPE_CHECKING:
    from torch import nn

    from stillroom.recipe import Recipe
    from stillroom.recipe import Teacher as Source

log = logging.getLogger(__name__)

CACHEABLE = ("embedding", "tower:image", "tower:text", "scale", "bias", "logits", "scores")
FLUSH_SECONDS = 20.0


@dataclass(frozen=True)
class Labeller:
    """From encoded rows to what a store keeps of them: what one worker does, whichever engine calls it.

    Attributes:
        teacher: asked.
        view: its view of the rows.
        device: where it computes.
        needs: what it is asked for.
        header: of the store.
    """

    teacher: Teacher
    view: View
    device: Any
    needs: tuple[str, ...]
    header: Header

    def __call__(self, rows: Sequence[dict[str, Any]], wanted: Container[str]) -> Encoded:
        """The rows of a batch that are wanted, each once though it may occur twice."""
        batch = make_batch(self.view, None, rows).to(self.device)
        emitted = self.teacher(batch, self.needs).map(lambda tensor: tensor.cpu())
        batch = batch.to("cpu")
        first = {name: place for place, name in reversed(list(enumerate(batch.ids)))}
        places = [place for place, name in enumerate(batch.ids) if name in wanted and first[name] == place]
        kept = {name: _take(values, places) for name, values in rows_of(self.header, batch, emitted).items()}
        return encode_rows(self.header, [batch.ids[place] for place in places], kept)


class Task(NamedTuple):
    """A batch to label: the places of its rows in their source, and the ids that are kept of it."""

    places: list[int]
    wanted: list[str]


Engine = Callable[[Labeller, Any, Sequence[Task]], Iterator[Encoded]]


def in_process(labeller: Labeller, source: Any, tasks: Sequence[Task]) -> Iterator[Encoded]:
    """The engine that works in this process."""
    for task in tasks:
        yield labeller(read(source, task.places), task.wanted)


def keep_signals(
    recipe: Recipe,
    name: str,
    teacher: Teacher,
    opened: Opened,
    needs: tuple[str, ...],
    rows: Sequence[Any],
    *,
    temperature: float = 1.0,
    engine: Engine = in_process,
) -> Path:
    """The folder of a store that holds the teacher's signals on all of these rows; only missing ones are computed.

    Args:
        recipe: for the size of batches, top-k and the device.
        name: of the teacher, as the store's header keeps it.
        teacher: asked for rows that the store lacks.
        opened: its model and view.
        needs: what the method asks of the teacher.
        rows: raw rows, train and validation.
        temperature: that distributions are kept at.
        engine: who works through the batches; what it gives comes in their order.

    Raises:
        UserError: a signal that can't be kept.
    """
    if outside := [need for need in needs if need not in CACHEABLE]:
        raise UserError(
            f"{outside[0]} is too large to keep for every row; set teacher.cache=false and run the teacher live"
        )
    encoded = [encode(source, opened.view)[0] for source in rows]
    signals = {kept_as(recipe.teacher, need): _kept(recipe, teacher, opened, encoded[0], need) for need in needs}
    precision = resolve(recipe.train.precision, recipe.train.device)
    header = header_of(name, opened, signals, temperature=temperature, precision=precision)
    size = recipe.train.micro_batch or min(recipe.train.batch_size, 64)
    labeller = Labeller(teacher, opened.view, _device(opened.model), needs, header)
    folder = kept_at("signals", name, header.model_dump_json())

    def fill() -> None:
        with Store.resume(folder, header) as writer:
            for source in encoded:
                _fill(writer, engine, labeller, source, size)

    by_the_first(fill)
    return folder


def kept_as(teacher: Source | None, need: str) -> str:
    """The name in a store of what answers a need."""
    if need != "logits":
        return need
    return "drawn" if teacher is not None and teacher.sampled is not None else "topk"


def by_the_first(fill: Callable[[], None]) -> None:
    """Let the first process do it while the others wait, since a store has one writer at a time."""
    here = PartialState()
    if here.is_main_process:
        fill()
    here.wait_for_everyone()


def _fill(writer: Writer, engine: Engine, labeller: Labeller, source: Any, size: int) -> None:
    """Append what the store lacks of a source; flushed now and then."""
    tasks = _tasks(writer, source, size)
    total, flushed = sum(len(task.places) for task in tasks), time.monotonic()
    bar = tqdm(total=total, unit="row", desc="label", disable=None, dynamic_ncols=True, leave=False)
    for task, rows in zip(tasks, engine(labeller, source, tasks), strict=True):
        writer.append_encoded(rows)
        bar.update(len(task.places))
        if time.monotonic() - flushed > FLUSH_SECONDS:
            writer.flush()
            flushed = time.monotonic()
    bar.close()


def _tasks(writer: Writer, source: Any, size: int) -> list[Task]:
    """The batches of a source that the store lacks something of, longest rows first.

    A text that two rows share is left to the first of them. So what is still to do after a kill is the rest of what was
    to do, in the same batches: a model's numbers may differ in their last bits from one batch to another.
    """
    keys = [row.get("ids") or [row["id"]] for row in source["student"]]
    lengths = source["length"][:]
    absent, known = dict[int, list[str]](), set[str]()
    for place in sorted(range(len(keys)), key=lambda place: (-lengths[place], place)):
        missing = [keys[place][number] for number in writer.missing(keys[place])]
        if new := [name for name in dict.fromkeys(missing) if name not in known]:
            absent[place] = new
            known.update(new)
    places = list(absent)
    chunks = [places[start : start + size] for start in range(0, len(places), size)]
    return [Task(chunk, [name for place in chunk for name in absent[place]]) for chunk in chunks]


def _take(values: Any, places: list[int]) -> Any:
    if isinstance(values, list):
        return [values[place] for place in places]
    if isinstance(values, tuple):
        return type(values)(*(part[places] for part in values))
    return values[places]


def _kept(recipe: Recipe, teacher: Teacher, opened: Opened, encoded: Any, need: str) -> Signal:
    """How a signal is kept: found out by asking the teacher for one row."""
    assert recipe.teacher is not None
    batch = make_batch(opened.view, None, read(encoded, [0])).to(_device(opened.model))
    emitted = teacher(batch, (need,))
    if need == "embedding" or need.startswith("tower:"):
        vectors = emitted.embedding if need == "embedding" else emitted.towers[need.partition(":")[2]]
        assert vectors is not None
        return Signal(codec="float16", shape=(vectors.shape[-1],))
    if need in ("scale", "bias"):
        return Signal(codec="float32", shape=())
    if need == "scores":
        return Signal(codec="float32", shape=(None,))
    assert emitted.logits is not None
    return of_distributions(recipe.teacher, emitted.logits.shape[-1], tokens=batch.mask.dim() == 2)


def of_distributions(teacher: Source, width: int, *, tokens: bool) -> Signal:
    """How next-token or class distributions are kept, as the recipe's teacher says.

    Args:
        teacher: the recipe's.
        width: how many ids or classes there are.
        tokens: whether a row has a distribution at each token, and not one alone.

    Raises:
        UserError: a setting that is for tokens, with one distribution a row.
    """
    if not tokens and (
        wrong := next((name for name in ("nucleus", "epsilon_cutoff", "sampled") if getattr(teacher, name)), None)
    ):
        raise UserError(f"teacher.{wrong} is for tokens, and these rows have one distribution each; leave it out")
    if not tokens and teacher.codec in ("packed", "packed-coarse"):
        raise UserError(
            f"{teacher.codec} keeps the tokens of a row together; use teacher.codec=topk8 for one distribution a row"
        )
    if teacher.sampled is not None:
        return Signal(codec="drawn", shape=(None,), k=teacher.sampled, vocabulary=width)
    cut = {"nucleus": teacher.nucleus, "epsilon_cutoff": teacher.epsilon_cutoff}
    codec = teacher.codec or ("packed" if any(cut.values()) else "topk16")
    k = min(teacher.top_k, width)
    return Signal(codec=codec, shape=(None,) if tokens else (), k=k, vocabulary=width, **cut)


def header_of(
    name: str, opened: Opened, signals: dict[str, Signal], *, temperature: float = 1.0, **rules: Any
) -> Header:
    """The header of a store of this teacher's signals; ``rules`` are what else they depend on."""
    tokenizer = getattr(opened.view, "tokenizer", None)
    return Header(
        signals=signals,
        teacher=name,
        revision=weights_hash(opened.model),
        tokenizer=tokenizer_hash(tokenizer) if tokenizer is not None else None,
        template=digest(opened.view.fingerprint, *(f"{key}={value}" for key, value in rules.items())),
        temperature=temperature,
    )


def kept_at(what: str, name: str, *decides: str) -> Path:
    """Where in the cache folder a teacher's words of one kind are kept; ``decides`` is all that they depend on."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in name)[-40:].strip("-")
    return cache_folder() / what / f"{plain}-{digest(*decides)}"


def weights_hash(model: nn.Module) -> str:
    """16 hex digits over 64 numbers of every weight tensor, and its shape: quick, and any training changes it."""
    parts = []
    for name, tensor in model.state_dict().items():
        flat = tensor.detach().flatten()
        step = max(flat.numel() // 64, 1)
        parts.append(f"{name}{tuple(tensor.shape)}{flat[::step][:64].float().cpu().numpy().tobytes().hex()}")
    return digest(*parts)


def _device(model: nn.Module) -> Any:
    return next(model.parameters()).device
