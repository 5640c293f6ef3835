"""The files of a store seen as one long table: which row an id is, and which file holds it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stillroom.store.header import Header, ShardEntry
from stillroom.store.shards import Shard, id_hash, read_hashes


class Table:
    """Rows of several shards, numbered through.

    Ids are found by binary search among the sorted 64-bit hashes of all rows, then compared in full. The index is made
    from the files when it is first used, about a second for ten million rows, so nothing on disk can be out of step.
    """

    def __init__(self, folder: Path, header: Header, entries: Iterable[ShardEntry]) -> None:
        self.folder, self.header, self.entries = folder, header, list(entries)
        self._opened: dict[int, Shard] = {}
        self._hashes: list[NDArray[np.uint64]] = []
        self._index: tuple[NDArray[np.uint64], NDArray[np.int64], list[int]] | None = None

    def __len__(self) -> int:
        return sum(entry.rows for entry in self.entries)

    def add(self, entry: ShardEntry) -> None:
        """One more file, after the others."""
        self.entries.append(entry)
        self._index = None

    def pop(self) -> ShardEntry:
        """Take the last file off."""
        entry = self.entries.pop()
        self._opened.pop(len(self.entries), None)
        self._hashes, self._index = self._hashes[: len(self.entries)], None
        return entry

    def shard(self, number: int) -> Shard:
        """A file, whose checksum is compared when it is first asked for."""
        if number not in self._opened:
            self._opened[number] = Shard(self.folder, self.header, self.entries[number])
        return self._opened[number]

    def find(self, ids: Sequence[str]) -> list[tuple[Shard, int] | None]:
        """For each id its file and its row there, or None where it is not in the table."""
        if not self.entries:
            return [None] * len(ids)
        hashes, rows, firsts = self._index = self._index or self._build()
        wanted = np.array([id_hash(name) for name in ids], dtype=np.uint64)
        starts, stops = (np.searchsorted(hashes, wanted, side=side).tolist() for side in ("left", "right"))
        return [
            self._match(name, rows[start:stop].tolist(), firsts)
            for name, start, stop in zip(ids, starts, stops, strict=True)
        ]

    def _match(self, name: str, rows: list[int], firsts: list[int]) -> tuple[Shard, int] | None:
        """The row of this id among those that have its hash: one as a rule, none, or some by chance."""
        for row in rows:
            number = bisect_right(firsts, row) - 1
            shard = self.shard(number)
            if shard.id(row - firsts[number]) == name:
                return shard, row - firsts[number]
        return None

    def _build(self) -> tuple[NDArray[np.uint64], NDArray[np.int64], list[int]]:
        """Sorted hashes, the row of each, and the first row of each file."""
        self._hashes += [read_hashes(self.folder, entry) for entry in self.entries[len(self._hashes) :]]
        hashes = np.concatenate(self._hashes)
        order = np.argsort(hashes, kind="stable")
        firsts = [0, *accumulate(entry.rows for entry in self.entries[:-1])]
        return hashes[order], order, firsts
