"""A store: a folder of shards and the header that lists them, read by the rows' ids."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from stillroom.errors import UserError
from stillroom.signals import Batch, Signals
from stillroom.store.batches import names_for, signals_of
from stillroom.store.codec import CODECS, Codec
from stillroom.store.files import TEMPORARY, only_writer, sync_folder
from stillroom.store.header import FILE, Header, Manifest, ShardEntry, Signal, refuse_mismatch
from stillroom.store.shards import Shard, decode, find_fault
from stillroom.store.table import Table
from stillroom.store.writer import Writer

Tick = Callable[[int, int | None], None]


class Store:
    """Signals on disk, to be read. `create` and `resume` give the `Writer` that fills one."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.header = folder, manifest.header
        self._table = Table(folder, manifest.header, manifest.shards)

    @staticmethod
    def create(path: str | Path, header: Header) -> Writer:
        """A new, empty store.

        Raises:
            UserError: there is something at ``path`` already, or this process writes there.
        """
        folder = Path(path)
        with _alone(folder) as lock:
            if (folder / FILE).exists():
                raise UserError(f"{folder} holds a store already; resume it, or choose another folder")
            return Writer(folder, _empty(folder, header), lock)

    @staticmethod
    def resume(path: str | Path, header: Header) -> Writer:
        """Go on writing a store, or create it where there is none; `Writer.missing` says what is left to do.

        Where another process writes it, this one waits until that is done.

        Raises:
            UserError: the store was made with other settings, its last file is damaged, or this process writes it.
        """
        folder = Path(path)
        with _alone(folder) as lock:
            if not (folder / FILE).exists():
                return Writer(folder, _empty(folder, header), lock)
            manifest = Manifest.read(folder)
            refuse_mismatch(folder, manifest.header, header)
            return Writer(folder, manifest, lock)

    @classmethod
    def open(cls, path: str | Path, expect: Mapping[str, Any] | None = None) -> Store:
        """A store to read.

        Args:
            path: its folder.
            expect: header fields and the values they must have, such as ``{"teacher": "Qwen/Qwen3-4B", "data": hash}``.

        Raises:
            UserError: there is no store, or it does not fit; every field that differs is named with both values.
        """
        folder = Path(path)
        manifest = Manifest.read(folder)
        refuse_mismatch(folder, manifest.header, expect or {})
        return cls(folder, manifest)

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, name: str) -> bool:
        return self._table.find([name])[0] is not None

    def ids(self) -> Iterator[str]:
        """All ids, in the order in which they were appended."""
        for shard in self.shards():
            yield from shard.ids()

    def shards(self) -> Iterator[Shard]:
        """The files, in order."""
        return (self._table.shard(number) for number in range(len(self._table.entries)))

    def gather(self, ids: Sequence[str], names: Sequence[str] | None = None) -> dict[str, Any]:
        """The signals of some rows, in the order of ``ids``.

        Args:
            ids: which rows.
            names: which signals; all by default.

        Returns:
            signal -> float32 tensor [rows, *shape]; where rows differ in length, a list of one tensor a row; for top-k
            a `TopK` of such tensors or a list of them, and so for a `Drawn`; for text a list of strings.

        Raises:
            UserError: a row is not in the store.
        """
        found = self._table.find(ids)
        if absent := [name for name, place in zip(ids, found, strict=True) if place is None]:
            more = f" (nor {len(absent) - 1} others)" if len(absent) > 1 else ""
            raise UserError(
                f"the store {self.folder} has no row {absent[0]!r}{more}; `stillroom label` adds what is missing"
            )
        places = [place for place in found if place is not None]
        return {name: self._read(name, places) for name in names or self.header.signals}

    def _read(self, name: str, places: Sequence[tuple[Shard, int]]) -> Any:
        signal = self.header.signals[name]
        spans = [(shard, *shard.span(name, row)) for shard, row in places]
        arrays = {}
        for part, (dtype, shape) in CODECS[signal.codec].layout(signal).items():
            pieces = [shard.array(name, part)[start:stop] for shard, start, stop in spans]
            arrays[part] = np.concatenate(pieces) if pieces else np.empty((0, *shape), dtype)
        lengths = np.array([stop - start for _, start, stop in spans], dtype=np.int64)
        return decode(signal, arrays, lengths)

    def signals(self, batch: Batch, needs: tuple[str, ...]) -> Signals:
        """What the teacher emitted on the rows of this batch, in the batch's own padding.

        Raises:
            UserError: the store lacks a row or a signal, or a row was encoded differently when it was labelled.
        """
        names = names_for(self.header, needs)
        return signals_of(self.header, self.gather(batch.ids, names), batch, needs)

    def info(self) -> dict[str, Any]:
        """What the store is and what it weighs: header, rows, files, bytes; per signal positions and bytes of each."""
        entries = self._table.entries
        total = sum(entry.bytes for entry in entries)
        signals = {
            name: {
                "codec": signal.codec,
                "positions": sum(entry.positions[name] for entry in entries),
                "bytes_per_position": _bytes_per_position(name, signal, entries),
            }
            for name, signal in self.header.signals.items()
        }
        return {
            "path": str(self.folder),
            "rows": len(self),
            "files": len(entries),
            "bytes": total,
            "bytes_per_row": total / max(len(self), 1),
            "signals": signals,
            "header": self.header.model_dump(mode="json"),
        }

    def verify(self, tick: Tick = lambda done, total: None) -> list[str]:
        """Read every file and compare its checksum.

        Args:
            tick: told after each file how many are done, and how many there are.

        Returns:
            The faults found, one sentence each.
        """
        faults = []
        for number, entry in enumerate(self._table.entries, start=1):
            faults.append(find_fault(self.folder / entry.file, entry))
            tick(number, len(self._table.entries))
        return [fault for fault in faults if fault is not None]


@contextmanager
def _alone(folder: Path) -> Iterator[FileLock]:
    """The lock on a folder; it is let go where no writer comes of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = only_writer(folder)
    try:
        yield lock
    except BaseException:
        lock.release()
        raise


def _empty(folder: Path, header: Header) -> Manifest:
    # A writer that was killed at its very first step leaves a header that has not got its name yet.
    if folder.exists() and any(path.name != FILE + TEMPORARY for path in folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no store; choose another folder")
    folder.mkdir(exist_ok=True)
    manifest = Manifest.of(header, ())
    manifest.write(folder)
    return manifest


def _bytes_per_position(name: str, signal: Signal, entries: Sequence[ShardEntry]) -> float:
    """What a position takes on disk: by its codec, or on the average where that differs."""
    codec = CODECS[signal.codec]
    if isinstance(codec, Codec):
        return codec.bytes_per_position(signal)
    positions = sum(entry.positions[name] for entry in entries)
    return sum(entry.sizes[name] for entry in entries) / positions if positions and signal.k else 1.0


def merge(paths: Sequence[str | Path], out: str | Path, tick: Tick = lambda done, total: None) -> Store:
    """One store from several that were made alike, such as by processes that shared the work.

    The result is byte for byte the store that one process would have written, rows in the order of ``paths``. It gets
    its name when it is complete.

    Args:
        paths: folders of stores; none of them is changed.
        out: where the new one goes.
        tick: told after each store how many are done, and how many there are.

    Raises:
        UserError: the stores differ in a field, a row is in two of them, a file is damaged, or ``out`` exists.
    """
    stores = [Store.open(path) for path in paths]
    if not stores:
        raise UserError("there is nothing to merge: name at least one store")
    header, target = stores[0].header, Path(out)
    for store in stores[1:]:
        refuse_mismatch(store.folder, store.header, header)
    if target.exists():
        raise UserError(f"{target} exists; choose another folder for the merged store")
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with Store.create(part, header) as writer:
            for number, store in enumerate(stores, start=1):
                _pour(store, writer)
                tick(number, len(stores))
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync_folder(target.parent)
    return Store.open(target)


def _pour(store: Store, writer: Writer) -> None:
    for shard in store.shards():
        try:
            writer.append_encoded(shard.rows())
        except ValueError as error:
            raise UserError(f"{store.folder} overlaps with the stores before it: {error}") from None
