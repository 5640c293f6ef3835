"""A view: how one kind of model reads a row, and what it emits.

Teacher and student each have a view of their own, so each can have its own tokenizer, template and preprocessing; the
records are the same. A view turns a row into an encoded row (once, before training), encoded rows into model inputs
(each step), and a forward pass into `Signals`.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from stillroom.blocks.alignment import same_places
from stillroom.signals import Batch, Signals, record

log = logging.getLogger(__name__)

Row = Mapping[str, Any]
LONG = 200  # numbers in a list that is rather hashed than written out


@dataclass(kw_only=True)
class Inputs:
    """Encoded rows, collated for one model: what a view contributes to a `Batch` (see there for the fields).

    ``read`` [B, T]: how much of its answer a row has read at each place, where rows tell it (see
    `stillroom.blocks.alignment`).
    """

    ids: list[str]
    arguments: dict[str, Tensor]
    mask: Tensor
    labels: Tensor | None = None
    read: Tensor | None = None
    columns: dict[str, Any] = field(default_factory=dict)


class View(ABC):
    """How one kind of model reads rows and what it emits.

    Attributes:
        formats: the row formats it accepts, as `stillroom.data.rows` names them.
        tokenizer: of views that read text.
        primary: the evaluation metric that says which checkpoint is best, and whether more of it is better.
    """

    formats: ClassVar[tuple[str, ...]] = ()
    tokenizer: Any = None
    primary: ClassVar[tuple[str, bool]] = ("loss", False)

    def check(self, rows: Any, name: str) -> None:  # noqa: B027 - most views have nothing to check
        """See that the rows fit what the view knows beside them (a graph's size, a sampling rate), before any is read.

        Args:
            rows: of a format that the view reads, a `datasets.Dataset`.
            name: of the rows, for messages.

        Raises:
            UserError: one does not fit; the message names the row.
        """

    @abstractmethod
    def encode(self, row: Row) -> dict[str, Any]:
        """One row as lists of numbers; always with ``id`` (str) and ``length`` (int, its cost in tokens or pixels).

        A row that can't be trained on has ``dropped``, the reason; one that was changed to fit has ``shortened``, true.
        """

    @abstractmethod
    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """Encoded rows as padded tensors, with the mask made from lengths and roles."""

    @abstractmethod
    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """Run the model and give what was asked for."""

    def unprojected(self, model: nn.Module, arguments: dict[str, Tensor]) -> View:
        """The view that gives `stillroom.head.Unprojected` in place of this model's logits; this one where none does.

        Args:
            model: whose logits they are.
            arguments: of a forward pass, to try it on.
        """
        return self

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, **options: Any) -> Self:
        """The view of the model in this folder, from its tokenizer or processor alone."""

    @classmethod
    @abstractmethod
    def open(cls, folder: Path, dtype: torch.dtype, attention: str | None, **options: Any) -> tuple[nn.Module, Self]:
        """The model in this folder, and its view."""

    def settle(self, model: nn.Module) -> None:  # noqa: B027 - most kinds of model have nothing to fold
        """Once it is trained, turn the model into the one that is kept: fold in, in place, what only training needs."""

    @abstractmethod
    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the model and its processor so that it loads without stillroom."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of all that decides how a row is read: tokenizer, template, lengths."""


class TransformersView(View):
    """A view of models that a transformers ``Auto`` class opens, with a tokenizer.

    Attributes:
        auto: the name of that class.
    """

    auto: ClassVar[str]

    @classmethod
    def read(cls, folder: Path, **options: Any) -> Self:
        """The view, from the tokenizer alone."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(folder), **options)  # type: ignore[call-arg]

    @classmethod
    def open(cls, folder: Path, dtype: torch.dtype, attention: str | None, **options: Any) -> tuple[nn.Module, Self]:
        """The model (from safetensors only) and its view; what the files lack is said, since it starts at random."""
        import transformers

        settings = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
        settings |= {"attn_implementation": attention} if attention else {}
        model, told = getattr(transformers, cls.auto).from_pretrained(folder, **settings)
        if missing := sorted(told["missing_keys"]):
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            log.warning("%s has no weights for %s%s: they start at random", folder, ", ".join(missing[:3]), more)
        return model, cls.read(folder, **options)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Model and tokenizer, as the ``Auto`` class reads them."""
        from stillroom.export.transformers import save_clean

        save_clean(model, folder, self.tokenizer)


class LibraryView(View):
    """A view of models that another library than transformers makes, kept with a ``config.json`` of its own."""

    @classmethod
    @abstractmethod
    def config(cls, architecture: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The configuration of a new model, as it is kept.

        Raises:
            UserError: an unknown architecture, or arguments that it does not take.
        """

    @classmethod
    @abstractmethod
    def built(cls, config: dict[str, Any]) -> nn.Module:
        """An untrained model of this configuration.

        Raises:
            UserError: there can be none.
        """

    @classmethod
    @abstractmethod
    def new(cls, architecture: str, arguments: dict[str, Any], folder: Path) -> None:
        """Write an untrained model into a folder.

        Raises:
            UserError: as `config` and `built`.
        """


def make_batch(view: View, teacher_view: View | None, rows: Sequence[Mapping[str, Any]]) -> Batch:
    """Collate encoded rows for the student, and for the teacher where its view differs.

    Args:
        view: the student's view.
        teacher_view: the teacher's, or None where it reads the rows just as the student does.
        rows: as written by `stillroom.engine.encoding`: ``student`` and, if there is a teacher view, ``teacher``.
            Further columns that were kept are in the batch's, one value an id.

    Raises:
        ValueError: the two views disagree on which rows there are.
    """
    own = view.collate([row["student"] for row in rows])
    kept = [name for name in (rows[0] if rows else ()) if name not in ("student", "teacher", "length")]
    columns = {name: [row[name] for row in rows for _ in row["student"].get("ids") or [row]] for name in kept}
    batch = Batch(ids=own.ids, student=own.arguments, mask=own.mask, labels=own.labels, columns=columns | own.columns)
    if teacher_view is not None:
        other = teacher_view.collate([row["teacher"] for row in rows])
        if other.ids != own.ids:
            raise ValueError(f"the teacher's view has rows {other.ids[:3]}..., the student's {own.ids[:3]}...")
        batch.teacher, batch.teacher_mask = other.arguments, other.mask
        if own.read is not None and other.read is not None:
            batch.shared, batch.teacher_mask = same_places(own.read, own.mask, other.read, other.mask)
    return batch


def run(
    model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...], **settings: bool | int
) -> tuple[Any, Signals]:
    """Call a transformers model once and collect hidden states, attentions and taps; the rest is the view's.

    ``settings`` go to the model's forward as they are.

    Returns:
        The model's own output, and `Signals` with ``hidden``, ``attentions`` and ``taps`` set as asked.
    """
    layers = {
        kind: [need.partition(":")[2] for need in needs if need.startswith(kind + ":")]
        for kind in ("hidden", "attentions")
    }
    extra = {f"output_{'hidden_states' if kind == 'hidden' else kind}": True for kind, asked in layers.items() if asked}
    with record(model, tuple(need.removeprefix("tap:") for need in needs if need.startswith("tap:"))) as taps:
        output = model(**arguments, **extra, **settings)
    return output, Signals(
        taps=taps,
        hidden=_pick(getattr(output, "hidden_states", None), layers["hidden"], "hidden states"),
        attentions=_pick(getattr(output, "attentions", None), layers["attentions"], "attentions"),
    )


def _pick(states: Sequence[Tensor] | None, asked: list[str], what: str) -> dict[int, Tensor]:
    if not asked:
        return {}
    if not states or states[0] is None:
        raise ValueError(f"this model gives no {what}; load it with attn_implementation='eager' or ask for a tap")
    found = {number: states[number] for number in range(len(states))}
    if "all" in asked:
        return found
    numbers = [int(number) % len(states) if int(number) < 0 else int(number) for number in asked]
    if beyond := [number for number in numbers if number not in found]:
        raise ValueError(f"the model has {what} 0 to {len(states) - 1}; there is no {beyond[0]}")
    return {number: found[number] for number in numbers}


def pad(rows: Sequence[Sequence[int]], value: int = 0, multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Lists as one [B, T] int64 tensor, padded on the right, and the [B, T] bool mask of the real places."""
    lengths = torch.tensor([len(row) for row in rows])
    width = max(-(-int(lengths.max()) // multiple) * multiple, 1) if len(rows) else 1
    out = torch.full((len(rows), width), value, dtype=torch.long)
    for number, row in enumerate(rows):
        out[number, : len(row)] = torch.as_tensor(row, dtype=torch.long)
    return out, torch.arange(width) < lengths.unsqueeze(1)


def row_key(row: Row) -> str:
    """The name of a row in every cache: its own id, if it has one, and always a hash of its content.

    An id alone is not enough, since another file may use it for another row.
    """
    content = digest(*(f"{name}={_shown(row[name])}" for name in sorted(row) if name != "id" and row[name] is not None))
    return content if row.get("id") is None else f"{row['id']}#{content}"


def _shown(value: Any) -> str:
    """A value's whole content as text; what `repr` shortens (arrays) or names by an address (pictures) is hashed."""
    if isinstance(value, np.generic):  # a number or a text of a row that was read as arrays
        value = value.item()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name!r}: {_shown(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list) and len(value) >= LONG and isinstance(value[0], float):
        return _shown(np.asarray(value, dtype=np.float32))  # a sound; the same, whether it came as a list or an array
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    if hasattr(value, "__array_interface__") or isinstance(value, torch.Tensor):  # NumPy, Pillow, torch
        array, colours = np.ascontiguousarray(value), getattr(value, "getpalette", lambda: None)()
        return f"{array.dtype}{array.shape}{colours}{hashlib.sha256(array.tobytes()).hexdigest()}"
    return repr(value)


def tokenizer_hash(tokenizer: Any) -> str:
    """16 hex digits over the vocabulary, the merges, the added tokens and the chat template.

    How long texts may be and how they are padded stand in a fast tokenizer's state as well, but they are those of its
    last call and say nothing of what ids mean.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        state = str(sorted(tokenizer.get_vocab().items()))
    else:
        truncation, padding = backend.truncation, backend.padding
        backend.no_truncation()
        backend.no_padding()
        state = backend.to_str()
        if truncation is not None:
            backend.enable_truncation(**truncation)
        if padding is not None:
            backend.enable_padding(**padding)
    return hashlib.sha256((state + str(getattr(tokenizer, "chat_template", ""))).encode()).hexdigest()[:16]


def digest(*parts: Any) -> str:
    """16 hex digits over the text of all parts."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()[:16]
