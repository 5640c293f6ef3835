"""One step ahead: what the next step reads is read, in a thread, while this one computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """Makes something of the rows of each step, of the next one before it is asked for.

    Args:
        rows: the places of a step's rows; called here, never in the thread.
        make: what is made of them, by reading alone: it runs in a thread, so it must neither draw random numbers nor
            touch a model.
        total: steps there are; none beyond is made.
    """

    def __init__(self, rows: Callable[[int], list[int]], make: Callable[[list[int]], Made], total: int) -> None:
        self._rows, self._make, self._total = rows, make, total
        self._thread = ThreadPoolExecutor(1, "stillroom-ahead")
        self._next: tuple[int, Future[Made]] | None = None

    def take(self, number: int) -> Made:
        """What was made for this step, or is made now; errors of the making are raised here."""
        ready = self._next[1] if self._next and self._next[0] == number else self._begin(number)
        self._next = (number + 1, self._begin(number + 1)) if number + 1 < self._total else None
        return ready.result()

    def _begin(self, number: int) -> Future[Made]:
        return self._thread.submit(self._make, self._rows(number))
