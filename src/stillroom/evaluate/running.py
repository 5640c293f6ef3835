"""Means over a corpus that does not fit into memory: sums and counts are added, and divided once at the end.

So the figure does not depend on how the corpus was split into batches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from stillroom.signals import Reduced


class Running:
    """Adds up `Reduced` parts by name, in double precision."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._counts: defaultdict[str, float] = defaultdict(float)

    def add(self, parts: Mapping[str, Reduced]) -> None:
        """Take in what was measured on one batch."""
        for name, part in parts.items():
            self._sums[name] += float(part.sum)
            self._counts[name] += float(part.count)

    def sum(self, name: str) -> float:
        """The sum so far, before division."""
        return self._sums[name]

    def count(self, name: str) -> int:
        """How many were counted so far."""
        return round(self._counts[name])

    def means(self) -> dict[str, float]:
        """Sum / count of every part.

        Raises:
            ValueError: nothing was counted.
        """
        empty = [name for name, count in self._counts.items() if not count]
        if empty or not self._counts:
            raise ValueError(f"nothing was measured{f' of {empty[0]}' if empty else ''}: no place was in the mask")
        return {name: self._sums[name] / self._counts[name] for name in self._sums}
