"""Appending to a store.

Kill-safe: a shard gets its name when it is whole, and counts when the header names it; what a killed writer left
behind is removed by the next one. A shard ends with the row that fills it, so the finished folder depends on the rows
and their order alone, not on how they were appended, when they were flushed, or how often the writer was killed.

Rows that were appended together are published together, also where a shard ends between them: whoever goes on after a
kill then asks the teacher for the same batches as an undisturbed run. In other batches a model's numbers may differ in
their last bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from filelock import BaseFileLock

from stillroom.signals import Batch, Signals
from stillroom.store.batches import rows_of
from stillroom.store.files import TEMPORARY
from stillroom.store.header import Manifest, ShardEntry
from stillroom.store.shards import Rows, encode, join, write_shard
from stillroom.store.table import Table


class Writer:
    """A store that is being written; made by `Store.create` and `Store.resume`.

    Use it in a ``with`` statement, or call `close`. Killed, it loses what came after the last full shard or `flush`.
    """

    def __init__(self, folder: Path, manifest: Manifest, lock: BaseFileLock) -> None:
        self.folder, self.header, self._lock = folder, manifest.header, lock
        self._table = Table(folder, manifest.header, manifest.shards)
        # The tail: rows that do not fill a file yet, and the file that holds some of them after a flush.
        self._tail: list[Rows] = []
        self._tail_ids: set[str] = set()
        self._tail_bytes = 0
        self._tail_file: ShardEntry | None = None
        self._unpublished = False  # whether there are full shards that the header does not name yet
        self._remove_strays()
        self._take_up_tail()

    def __len__(self) -> int:
        return len(self._table) + len(self._tail_ids)

    def __contains__(self, name: str) -> bool:
        return name in self._tail_ids or self._table.find([name])[0] is not None

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def missing(self, ids: Sequence[str]) -> list[int]:
        """The places in ``ids`` whose rows are not in the store: what is left to label."""
        found = self._table.find(ids)
        return [place for place, name in enumerate(ids) if found[place] is None and name not in self._tail_ids]

    def keep(self, batch: Batch, signals: Signals) -> None:
        """Append what a teacher emitted on a batch: token signals at the trained places, without padding."""
        self.append(batch.ids, rows_of(self.header, batch, signals))

    def append(self, ids: Sequence[str], signals: Mapping[str, Any]) -> None:
        """Add rows; nothing is added if anything is wrong with one of them.

        Args:
            ids: one per row, new to the store.
            signals: what the header names. A tensor [rows, *shape]; where rows differ in length, a list of one tensor a
                row; for top-k a `TopK` of such tensors or a list of them; for text a list of strings.

        Raises:
            ValueError: an id occurs twice, a signal is missing, has another shape, or holds what its codec cannot keep.
        """
        if ids:
            self.append_encoded(encode(self.header, ids, signals))

    def append_encoded(self, rows: Rows) -> None:
        """Add rows as they come out of another store's shard."""
        new = {rows.ids[place] for place in self.missing(rows.ids)}
        for name in rows.ids:
            if name not in new:
                raise ValueError(
                    f"the row {name!r} was given twice; ids must be unique, and `missing` says which are new"
                )
            new.remove(name)
        sizes = rows.sizes(self.header)
        first = 0
        while first < len(rows):
            ends = self._tail_bytes + np.cumsum(sizes[first:])
            stop = first + int(np.searchsorted(ends, self.header.shard_bytes)) + 1
            piece = rows.part(first, min(stop, len(rows)))
            self._hold(piece, int(sizes[first : first + len(piece)].sum()))
            if stop <= len(rows):
                self._close_shard()
            first += len(piece)
        if self._unpublished:
            self._publish(self._write_tail() if self._tail else None)

    def flush(self) -> None:
        """Put on disk all that was appended, also a shard that is not full yet; it is replaced as it grows."""
        if not self._tail or (self._tail_file and self._tail_file.rows == len(self._tail_ids)):
            return
        self._publish(self._write_tail())

    def close(self) -> None:
        """Flush, and let other processes write."""
        try:
            self.flush()
        finally:
            self._lock.release()

    def _hold(self, rows: Rows, size: int) -> None:
        self._tail.append(rows)
        self._tail_ids.update(rows.ids)
        self._tail_bytes += size

    def _write_tail(self) -> ShardEntry:
        self._tail = [join(self._tail)]
        return write_shard(self.folder, self.header, len(self._table), self._tail[0])

    def _close_shard(self) -> None:
        self._table.add(self._write_tail())
        self._tail, self._tail_ids, self._tail_bytes, self._unpublished = [], set(), 0, True

    def _publish(self, tail: ShardEntry | None) -> None:
        """From here on the store is all full files and this one; only then may the one that it replaces go."""
        entries = (*self._table.entries, *([tail] if tail else []))
        Manifest.of(self.header, entries).write(self.folder)
        if self._tail_file is not None and self._tail_file.file not in {entry.file for entry in entries}:
            (self.folder / self._tail_file.file).unlink()
        self._tail_file, self._unpublished = tail, False

    def _remove_strays(self) -> None:
        """Remove what a killed writer left: files that it had not finished, or had not published, or had replaced."""
        listed = {entry.file for entry in self._table.entries}
        for path in [*self.folder.glob(f"*{TEMPORARY}"), *self.folder.glob("rows-*.safetensors")]:
            if path.name not in listed:
                path.unlink()

    def _take_up_tail(self) -> None:
        """Go on with the last file if it is not full."""
        if not self._table.entries:
            return
        rows = self._table.shard(len(self._table.entries) - 1).rows()
        size = int(rows.sizes(self.header).sum())
        if size < self.header.shard_bytes:
            self._tail_file = self._table.pop()
            self._hold(rows, size)
