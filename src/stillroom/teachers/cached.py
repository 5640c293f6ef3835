"""A teacher whose signals were computed before: read from a store by the rows' ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillroom.signals import Batch, Signals

if TYPE_CHECKING:
    from stillroom.store import Store


class CachedTeacher:
    """Signals from a store; no model is in memory.

    Args:
        store: opened, and already checked against the teacher, data and settings of this run.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, batch: Batch, needs: tuple[str, ...]) -> Signals:
        """The stored signals of the batch's rows.

        Raises:
            UserError: the store lacks a row or a signal; `stillroom label` fills it.
        """
        return self.store.signals(batch, needs)
