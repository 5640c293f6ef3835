"""How a store describes itself: what its signals are, who emitted them on what, and which files hold them.

``header.json`` is the one place where a store's content is decided: a file that it does not list is not part of the
store. It is replaced in one step, so it always describes files that are complete.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from stillroom.errors import UserError
from stillroom.store.files import write_durably

FILE = "header.json"
_NAME = re.compile(r"embedding|tower:[^/]+|scale|bias|scores|text|logits|topk|drawn|hidden:\d+|tap:[^/]+")

_WAY_OUT = {
    "signals": "ask for what the store holds, or label again into another folder",
    "teacher": "use that teacher, or label again into another folder",
    "revision": "load that revision, or label again into another folder",
    "tokenizer": "ids mean other tokens under another tokenizer: load the one in the store, or label again",
    "template": "use the chat template in the store, or label again into another folder",
    "data": "use the data that were labelled, or label these into another folder",
    "temperature": "set that temperature, or label again into another folder",
}
_ELSE = "set it to what is in the store, or label again into another folder"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Signal(_Strict):
    """How one signal is kept.

    codec: a name from `stillroom.store.codec.CODECS`.
    shape: of one row. The first length may be None: it then differs from row to row (tokens, candidates, bytes of
        text). Embeddings ``(D,)``, hidden states ``(None, H)``; scores, text and top-k ``(None,)``.
    k: how many ids a position keeps, with ``nucleus`` at most; how often an id was drawn, with the codec drawn.
    vocabulary: how many ids there are; for the codecs that have k. It decides how wide an id is on disk.
    nucleus: a position keeps the fewest ids, likeliest first, whose probabilities sum to this; for packed only.
    epsilon_cutoff: a position keeps its likeliest id, and of the others those at least so probable; for packed only.
    """

    codec: str
    shape: tuple[int | None, ...]
    k: int | None = Field(default=None, ge=1)
    vocabulary: int | None = Field(default=None, ge=1, le=2**31)
    nucleus: float | None = Field(default=None, gt=0, lt=1)
    epsilon_cutoff: float | None = Field(default=None, gt=0, lt=1)

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the ways to cut that are not used: stores from before there were any keep their addresses."""
        unused = [name for name in ("nucleus", "epsilon_cutoff") if getattr(self, name) is None]
        return {name: value for name, value in plain(self).items() if name not in unused}

    @property
    def cut(self) -> bool:
        """Whether positions keep fewer than k ids where fewer will do."""
        return self.nucleus is not None or self.epsilon_cutoff is not None

    @property
    def varies(self) -> bool:
        """Whether rows differ in length."""
        return self.shape[:1] == (None,)

    @property
    def position(self) -> tuple[int, ...]:
        """The shape of what repeats along the varying length; the whole row where nothing varies."""
        return tuple(size for size in self.shape if size is not None)

    @model_validator(mode="after")
    def _fits_its_codec(self) -> Signal:
        from stillroom.store.codec import CODECS  # the table needs this class

        if None in self.shape[1:]:
            raise ValueError(f"only the first length of a row may vary, not those of shape {self.shape}")
        if self.codec not in CODECS:
            raise ValueError(f"there is no codec {self.codec!r}; use one of {', '.join(CODECS)}")
        if self.cut and not self.codec.startswith("packed"):
            raise ValueError(f"{self.codec} keeps as many ids at every position; to cut them, use the codec packed")
        CODECS[self.codec].check(self)
        return self


class Header(_Strict):
    """What the signals of one store are, and where they come from.

    signals: signal -> how it is kept: ``embedding``, ``tower:NAME``, ``scale`` and ``bias`` (again for every row),
        ``scores``, ``text``, ``logits``, ``topk``, ``drawn``, ``hidden:N`` (layer N, not negative), ``tap:NAME``.
    teacher: name of the model. revision: its commit, or a fingerprint of its weights.
    tokenizer, template: hashes of the teacher's tokenizer and chat template. data: fingerprint of the data set.
    depth: number of the teacher's last hidden state, so that ``hidden:-1`` can be found.
    temperature: logits were divided by it before the softmax of a top-k.
    shard_bytes: a file ends with the row that fills it to this size, so files do not depend on how rows were appended.
    """

    format: Literal[1] = 1
    signals: dict[str, Signal] = Field(min_length=1)
    teacher: str
    revision: str | None = None
    tokenizer: str | None = None
    template: str | None = None
    data: str | None = None
    depth: int | None = Field(default=None, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    shard_bytes: int = Field(default=64 * 2**20, ge=1)

    @field_validator("signals")
    @classmethod
    def _names_are_known(cls, signals: dict[str, Signal]) -> dict[str, Signal]:
        if wrong := [name for name in signals if not _NAME.fullmatch(name)]:
            raise ValueError(f"a store keeps no {wrong[0]!r}; it keeps {_NAME.pattern.replace('|', ', ')}")
        return signals


class ShardEntry(_Strict):
    """One file of a store.

    rows: how many. positions: signal -> how many of all rows together. sizes: signal -> bytes of these. bytes: the
    file's size. checksum: xxh3-128 of the file. index: xxh3-128 of its ``ids/hash`` alone, which is read without the
    rest.
    """

    file: str
    rows: int
    positions: dict[str, int]
    sizes: dict[str, int] = {}
    bytes: int
    checksum: str
    index: str


class Manifest(_Strict):
    """All of ``header.json``."""

    header: Header
    rows: int
    shards: tuple[ShardEntry, ...]

    @classmethod
    def of(cls, header: Header, shards: tuple[ShardEntry, ...]) -> Manifest:
        """The description of a store that holds these files."""
        return cls(header=header, rows=sum(shard.rows for shard in shards), shards=shards)

    def write(self, folder: Path) -> None:
        """Replace the folder's header in one step."""
        write_durably(folder / FILE, (self.model_dump_json(indent=1) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The header of the store in ``folder``.

        Raises:
            UserError: there is none, or this version cannot read it.
        """
        try:
            return cls.model_validate_json((folder / FILE).read_bytes())
        except FileNotFoundError:
            raise UserError(f"{folder} holds no store: it has no {FILE}; make one with `stillroom label`") from None
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "the file"
            raise UserError(
                f"{folder / FILE} cannot be read by this version of stillroom (store format 1): {field}: "
                f"{first['msg']}; restore the file, or update stillroom if a newer version wrote it"
            ) from None


def flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``, so that a difference has one name."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        value = value.model_dump() if isinstance(value, BaseModel) else value
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any], *, whole: bool) -> dict[str, tuple[Any, Any]]:
    """Field -> (found, wanted) for every field that differs; nested fields have dotted names.

    ``whole``: what ``wanted`` does not name differs too; otherwise only what it names is compared.
    """
    have, want = flatten(found), flatten(wanted)
    want = dict.fromkeys(have) | want if whole else want
    return {name: (have.get(name), value) for name, value in want.items() if have.get(name) != value}


def refuse_mismatch(folder: Path, found: Header, wanted: Header | Mapping[str, Any]) -> None:
    """Compare the fields that ``wanted`` names; all there are where it is a whole header.

    Raises:
        UserError: some differ; each is named with both values and what to do about it.
    """
    whole = isinstance(wanted, Header)
    wrong = differences(found.model_dump(), wanted.model_dump() if isinstance(wanted, Header) else wanted, whole=whole)
    if not wrong:
        return
    told = (
        f"{name} is {ours!r} in the store and {theirs!r} here ({_WAY_OUT.get(name.partition('.')[0], _ELSE)})"
        for name, (ours, theirs) in wrong.items()
    )
    raise UserError(f"the store {folder} does not fit: {'; '.join(told)}")
