"""What was paid for is written down before it is used, and is never asked for again.

A journal is a text file that only grows: a first line that describes what was asked, then one JSON object a line,
``{"key": ..., "answer": ...}``. It outlives a kill: `Journal.append` returns when the line is on disk, and a last line
that was cut off is dropped when the file is opened again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from stillroom.errors import UserError
from stillroom.store.files import only_writer, sync_folder
from stillroom.store.header import differences

_START = b'{"header"'
log = logging.getLogger(__name__)


class Journal:
    """Answers by key, on disk. Threads may share it; processes may not.

    Args:
        path: the file; made with its folders where there is none.
        header: what was asked: model, address, sampling parameters, hash of the prompt template. Values of JSON.
            Never a secret: it is written as it stands.

    Attributes:
        note: what was dropped at the end of a file that a killed process had left, or None.

    Raises:
        UserError: the file was made with another header, a line of it is damaged, or this process writes it.
    """

    def __init__(self, path: str | Path, header: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.note: str | None = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._places: dict[str, int] = {}
        self._end = 0
        self._lock = only_writer(self.path)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        # Lines are written by one thread at a time. Whoever syncs does so for all lines written until then, so many
        # threads that wait share one fsync.
        self._writing, self._syncing, self._written, self._synced = Lock(), Lock(), 0, 0
        try:
            self._read(json.loads(json.dumps(header)))
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, key: str) -> Any | None:
        """The answer under this key, or None."""
        if (place := self._places.get(key)) is None:
            return None
        with self.path.open("rb") as file:
            file.seek(place)
            return json.loads(file.readline())["answer"]

    def answers(self) -> Iterator[Any]:
        """All answers, in the order in which they came."""
        with self.path.open("rb") as file:
            for place in list(self._places.values()):
                file.seek(place)
                yield json.loads(file.readline())["answer"]

    def append(self, key: str, answer: Any) -> None:
        """Write an answer (a value of JSON) under a new key; on disk when this returns.

        Raises:
            ValueError: the key has an answer already.
            OSError: the disk took no more; the journal is as it was before.
        """
        line = _line({"key": key, "answer": answer})
        with self._writing:
            if key in self._places:
                raise ValueError(f"the journal {self.path} has an answer for {key!r} already")
            self._places[key] = self._write(line)
            ticket = self._written = self._written + 1
        with self._syncing:
            if self._synced < ticket:
                reached = self._written
                os.fsync(self._file)
                self._synced = reached

    def close(self) -> None:
        """Let other processes write."""
        os.close(self._file)
        self._lock.release()

    def _write(self, line: bytes) -> int:
        """Put a whole line at the end, or nothing; where it begins."""
        place, rest = self._end, memoryview(line)
        try:
            while rest:
                rest = rest[os.pwrite(self._file, rest, self._end + len(line) - len(rest)) :]
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end += len(line)
        return place

    def _read(self, header: dict[str, Any]) -> None:
        """Find the keys, drop a torn last line, and compare the first line with ``header``."""
        found: dict[str, Any] | None = None
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1 and line[: len(_START)] != _START[: len(line)]:
                    raise UserError(f"{self.path} is no journal, and is left as it is; name another file")
                try:
                    entry = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    entry = None
                if entry is None:
                    self._drop(number, last=not file.readline())
                    break
                if number == 1:
                    found = entry["header"]
                else:
                    self._places[entry["key"]] = self._end
                self._end += len(line)
        if found is None:
            self._write(_line({"header": header}))
            os.fsync(self._file)
            sync_folder(self.path.parent)
            return
        if wrong := differences(found, header, whole=True):
            told = "; ".join(f"{name} was {before!r} and is {now!r}" for name, (before, now) in wrong.items())
            raise UserError(
                f"the journal {self.path} has answers to other questions: {told}; use another file, or the old settings"
            )

    def _drop(self, number: int, last: bool) -> None:
        if not last:
            raise UserError(
                f"line {number} of the journal {self.path} is damaged; delete that line, and its row is asked for again"
            )
        self.note = (
            f"line {number} of the journal {self.path} was cut off when a run was killed; its row is asked for again"
        )
        log.warning(self.note)
        os.ftruncate(self._file, self._end)
        os.fsync(self._file)


def _line(entry: Mapping[str, Any]) -> bytes:
    """As JSON. A text that a server cut inside a character may hold half of a surrogate pair; it is kept as it came."""
    return json.dumps(entry, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
