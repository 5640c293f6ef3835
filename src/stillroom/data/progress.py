"""A progress bar for work that usually is over before anybody looks: it appears only when the work takes long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Tick = Callable[[int, int | None], None]
"""Called with how much is done and how much there is (None where nobody knows)."""

PATIENCE = 2.0  # seconds


@contextmanager
def patient_bar(title: str) -> Iterator[Tick]:
    """A `Tick` that draws a bar on stderr once ``PATIENCE`` is over, if stderr is a terminal."""
    started = time.monotonic()
    bar: Any = None
    task: Any = None

    def tick(done: int, total: int | None) -> None:
        nonlocal bar, task
        if bar is None:
            if time.monotonic() - started < PATIENCE or not sys.stderr.isatty():
                return
            bar = _bar()
            task = bar.add_task(title, total=total)
        bar.update(task, completed=done, total=total)

    try:
        yield tick
    finally:
        if bar is not None:
            bar.stop()


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    bar.start()
    return bar
