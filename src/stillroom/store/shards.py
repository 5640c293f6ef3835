"""Rows of a store: encoded in memory, written as one file, read back through the page cache.

A shard is a safetensors file. Per signal it holds ``NAME/PART`` for each part of the codec, positions of all rows one
after another, and ``NAME/offsets`` [rows + 1] where rows differ in length; further ``ids/bytes``, ``ids/offsets`` and
``ids/hash``, the xxh3-64 of each row's id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from stillroom.errors import UserError
from stillroom.signals import Drawn, TopK
from stillroom.store.codec import CODECS, Arrays, RowCodec
from stillroom.store.files import write_durably
from stillroom.store.header import Header, ShardEntry, Signal

Lengths = NDArray[np.int64]
_WAY_OUT = "put the file back from a copy, or label again into another folder"


def id_hash(name: str) -> int:
    """What rows are found by."""
    return xxhash.xxh3_64_intdigest(name.encode())


@dataclass(frozen=True)
class Rows:
    """Encoded rows. ``parts[signal][part]`` is [positions, ...]; ``lengths[signal]`` [rows]: how many each row has.

    The positions of a `RowCodec` are bytes here.
    """

    ids: list[str]
    parts: dict[str, Arrays]
    lengths: dict[str, Lengths]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, first: int, stop: int) -> Rows:
        """The rows first to stop - 1."""
        parts = {}
        for name, arrays in self.parts.items():
            start, end = self.lengths[name][:first].sum(), self.lengths[name][:stop].sum()
            parts[name] = {part: array[start:end] for part, array in arrays.items()}
        lengths = {name: sizes[first:stop] for name, sizes in self.lengths.items()}
        return Rows(self.ids[first:stop], parts, lengths)

    def sizes(self, header: Header) -> Lengths:
        """[rows] bytes that each row takes on disk."""
        total = np.array([len(name.encode()) for name in self.ids], dtype=np.int64)
        for name, signal in header.signals.items():
            codec = CODECS[signal.codec]
            total += self.lengths[name] * (1 if isinstance(codec, RowCodec) else codec.bytes_per_position(signal))
        return total

    def positions(self, name: str, signal: Signal) -> int:
        """How many positions of this signal all rows have together."""
        codec = CODECS[signal.codec]
        if isinstance(codec, RowCodec):
            return codec.positions(self.parts[name]["bytes"], self.lengths[name])
        return int(self.lengths[name].sum())


def join(pieces: Sequence[Rows]) -> Rows:
    """Rows one after another."""
    first = pieces[0]
    return Rows(
        [name for piece in pieces for name in piece.ids],
        {
            name: {part: np.concatenate([piece.parts[name][part] for piece in pieces]) for part in arrays}
            for name, arrays in first.parts.items()
        },
        {name: np.concatenate([piece.lengths[name] for piece in pieces]) for name in first.lengths},
    )


def encode(header: Header, ids: Sequence[str], signals: Mapping[str, Any]) -> Rows:
    """Turn what a teacher emitted into rows.

    Args:
        header: of the store; it says which signals there must be, and how each is kept.
        ids: one per row.
        signals: a tensor [rows, *shape]; where rows differ in length, a list of one tensor a row; for top-k a `TopK` of
            such tensors or a list of them, and so for a `Drawn`; for text a list of strings.

    Raises:
        ValueError: a signal is missing, has another shape, or holds what its codec cannot keep.
    """
    if set(signals) != set(header.signals):
        raise ValueError(f"the store keeps {sorted(header.signals)}, but was given {sorted(signals)}")
    rows = Rows(list(ids), {}, {})
    for name, signal in header.signals.items():
        try:
            rows.parts[name], rows.lengths[name] = _encode(signal, signals[name])
            if (found := len(rows.lengths[name])) != len(ids):
                raise ValueError(f"it has {found} rows for {len(ids)} ids")
        except ValueError as error:
            raise ValueError(f"the signal {name!r} of the rows {ids[0]!r} to {ids[-1]!r}: {error}") from None
    return rows


def _encode(signal: Signal, values: Any) -> tuple[Arrays, Lengths]:
    """The parts of all rows, one row after another, and how many positions (of a `RowCodec`, bytes) each has."""
    codec = CODECS[signal.codec]
    if signal.codec == "utf8":
        return _as_bytes(signal, values)
    if isinstance(values, Tensor | TopK | Drawn):
        values = [values] if not signal.varies else _split(values)
    kind = Drawn if signal.codec == "drawn" else Tensor if signal.k is None else TopK
    if any(not isinstance(row, kind) for row in values):
        raise ValueError(f"the codec {signal.codec} keeps {'tensors' if kind is Tensor else f'a {kind.__name__}'}")
    for row in values:
        position = tuple((row if isinstance(row, Tensor) else row[-1][..., 0] if kind is Drawn else row.tail).shape[1:])
        if position != signal.position:
            raise ValueError(f"its positions have shape {position}, not {signal.position}")
    if isinstance(codec, RowCodec):
        return _as_bytes(signal, values)
    sizes = [len(row.tail if isinstance(row, TopK) else row) for row in values]
    lengths = np.array(sizes if signal.varies else [1] * sum(sizes), dtype=np.int64)
    if signal.k is None:
        return codec.encode(signal, torch.cat(list(values))), lengths
    return codec.encode(signal, TopK(*(torch.cat(parts) for parts in zip(*values, strict=True)))), lengths


def _as_bytes(signal: Signal, rows: Any) -> tuple[Arrays, Lengths]:
    codec = CODECS[signal.codec]
    assert isinstance(codec, RowCodec)
    content, sizes = codec.encode(signal, list(rows))
    return {"bytes": content}, sizes


def _split(values: Tensor | TopK | Drawn) -> list[Any]:
    """One tensor, or one `TopK`, a row."""
    if isinstance(values, Tensor):
        return list(values)
    return [type(values)(*parts) for parts in zip(*values, strict=True)]


def decode(signal: Signal, arrays: Arrays, lengths: Lengths) -> Any:
    """What `encode` was given, from the parts of rows one after another."""
    codec = CODECS[signal.codec]
    if isinstance(codec, RowCodec):
        return codec.decode(signal, arrays["bytes"], lengths)
    values = codec.decode(signal, arrays)
    if not signal.varies:
        return values
    if isinstance(values, TopK):
        return [TopK(*parts) for parts in zip(*(part.split(lengths.tolist()) for part in values), strict=True)]
    return list(values.split(lengths.tolist()))


def write_shard(folder: Path, header: Header, first: int, rows: Rows) -> ShardEntry:
    """Write rows as one file, which is named after their numbers in the store, and describe it."""
    names = [name.encode() for name in rows.ids]
    arrays: Arrays = {
        "ids/bytes": np.frombuffer(b"".join(names), dtype=np.uint8),
        "ids/offsets": _offsets([len(name) for name in names]),
        "ids/hash": np.array([id_hash(name) for name in rows.ids], dtype=np.uint64),
    }
    for name, signal in header.signals.items():
        arrays |= {f"{name}/{part}": np.ascontiguousarray(array) for part, array in rows.parts[name].items()}
        if signal.varies:
            arrays[f"{name}/offsets"] = _offsets(rows.lengths[name])
    content = save(arrays)
    file = f"rows-{first:010d}-{first + len(rows) - 1:010d}.safetensors"
    write_durably(folder / file, content)
    return ShardEntry(
        file=file,
        rows=len(rows),
        positions={name: rows.positions(name, signal) for name, signal in header.signals.items()},
        sizes={name: sum(array.nbytes for array in rows.parts[name].values()) for name in header.signals},
        bytes=len(content),
        checksum=xxhash.xxh3_128_hexdigest(content),
        index=xxhash.xxh3_128_hexdigest(arrays["ids/hash"].tobytes()),
    )


def _offsets(lengths: Sequence[int] | Lengths) -> Lengths:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


class Shard:
    """One file, mapped into memory: what is read is what is asked for. Its checksum is compared once, here.

    Raises:
        UserError: the file is missing, torn or altered.
    """

    def __init__(self, folder: Path, header: Header, entry: ShardEntry) -> None:
        path = folder / entry.file
        if fault := find_fault(path, entry):
            raise UserError(f"{fault}; {_WAY_OUT}")
        # safetensors maps the file; the tensors, and these views of them, are windows into it.
        with safe_open(path, "pt") as file:
            self._arrays = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
        self._header, self._rows = header, entry.rows

    def id(self, row: int) -> str:
        """The id of a row."""
        start, stop = self._arrays["ids/offsets"][row : row + 2]
        return self._arrays["ids/bytes"][start:stop].tobytes().decode()

    def ids(self) -> list[str]:
        """The ids of all rows, in order."""
        return [self.id(row) for row in range(self._rows)]

    def span(self, name: str, row: int) -> tuple[int, int]:
        """From and to where the row's positions of this signal lie."""
        offsets = self._arrays.get(f"{name}/offsets")
        return (row, row + 1) if offsets is None else (int(offsets[row]), int(offsets[row + 1]))

    def array(self, name: str, part: str) -> NDArray[Any]:
        """One part of a signal, [positions, ...]."""
        return self._arrays[f"{name}/{part}"]

    def rows(self) -> Rows:
        """All rows, still encoded."""
        parts, lengths = {}, {}
        for name, signal in self._header.signals.items():
            parts[name] = {part: self.array(name, part) for part in CODECS[signal.codec].layout(signal)}
            offsets = self._arrays.get(f"{name}/offsets")
            lengths[name] = np.ones(self._rows, dtype=np.int64) if offsets is None else np.diff(offsets)
        return Rows(self.ids(), parts, lengths)


def read_hashes(folder: Path, entry: ShardEntry) -> NDArray[np.uint64]:
    """The hashes of a file's ids, without reading the rest of it.

    Raises:
        UserError: the file is missing or torn, or was altered there.
    """
    path = folder / entry.file
    if (fault := _size_fault(path, entry)) is None:
        try:
            with safe_open(path, "np") as file:
                hashes = file.get_tensor("ids/hash")
            if xxhash.xxh3_128_hexdigest(hashes.tobytes()) == entry.index:
                return hashes
            fault = _altered(path)
        except SafetensorError:
            fault = _altered(path)
    raise UserError(f"{fault}; {_WAY_OUT}")


def find_fault(path: Path, entry: ShardEntry) -> str | None:
    """What is wrong with a file, or None."""
    if fault := _size_fault(path, entry):
        return fault
    checksum = xxhash.xxh3_128()
    for block in _blocks(path):
        checksum.update(block)
    return None if checksum.hexdigest() == entry.checksum else _altered(path)


def _altered(path: Path) -> str:
    return f"{path} was altered: its checksum does not fit"


def _size_fault(path: Path, entry: ShardEntry) -> str | None:
    if not path.exists():
        return f"{path} is missing"
    size = path.stat().st_size
    return None if size == entry.bytes else f"{path} is torn: it has {size} bytes and should have {entry.bytes}"


def _blocks(path: Path, size: int = 2**22) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(size):
            yield block
