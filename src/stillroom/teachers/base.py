"""What every teacher is: something that gives the signals of a batch."""

from __future__ import annotations

from typing import Protocol

from stillroom.signals import Batch, Signals


class Teacher(Protocol):
    """Gives a batch's signals, in the student's positions, without gradient."""

    def __call__(self, batch: Batch, needs: tuple[str, ...]) -> Signals:
        """The signals named in ``needs``."""
        ...
