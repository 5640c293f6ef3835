"""Rows that a step drops, kept in a file: one JSON object a line with the reason, so that nothing vanishes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any


class Rejects:
    """Writes dropped rows as they come.

    A line is ``{"stage", "reason", "detail", "row"}``. What JSON can't hold (an image, bytes) is written as a short
    text. A step starts its file anew each time it runs, so a file belongs to one step.

    Args:
        path: the file, made with its folders; None for nowhere.
        stage: the step's name.
    """

    def __init__(self, path: str | Path | None, stage: str) -> None:
        self.path, self.stage = None if path is None else Path(path), stage
        self._file: IO[str] | None = None

    def add(self, row: Mapping[str, Any], reason: str, detail: str = "") -> None:
        """Write one row."""
        if self._file is None:
            return
        line = {"stage": self.stage, "reason": reason, "detail": detail, "row": dict(row)}
        self._file.write(json.dumps(line, ensure_ascii=False, default=_short) + "\n")

    def __enter__(self) -> Rejects:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A text cut inside a character may hold half of a pair, which plain UTF-8 has no place for.
            self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return str(value)[:200]
