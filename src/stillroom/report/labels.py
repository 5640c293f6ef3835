"""Where to write the names of points and curves so that no two names overlap."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

FONT = 12.0  # pixels
LINE = 14.0  # from one line of text to the next


class Box(NamedTuple):
    """A rectangle on paper; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The area that two rectangles share."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    def area(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.bottom - self.top)


def text_width(text: str) -> float:
    """Pixels that a text takes at the charts' size, on the safe side for the common sans-serif faces."""
    ems = 0.0
    for character in text:
        if unicodedata.combining(character):
            continue
        ems += 1.0 if unicodedata.east_asian_width(character) in "WF" else 0.34 if character in " .,:;'|ijl" else 0.6
    return ems * FONT


def place(points: Sequence[tuple[float, float]], widths: Sequence[float], room: Box) -> list[Box]:
    """A box for every point's label: beside the point if that is free, else above or below it, else further away.

    The points are served in order. Inside ``room`` there is no overlap as long as there is space for all.
    """
    dots = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    placed: list[Box] = []
    for (x, y), width in zip(points, widths, strict=True):
        taken = [*placed, *dots]
        candidates = _candidates(x, y, width)
        costs = [
            sum(box.overlap(other) for other in taken) + 4 * (box.area() - box.overlap(room)) for box in candidates
        ]
        placed.append(candidates[costs.index(min(costs))])
    return placed


def _candidates(x: float, y: float, width: float) -> list[Box]:
    """Boxes around a point, from the best place outwards."""
    boxes = []
    for ring in range(12):
        shift = ring * LINE
        lefts = (x + 9, x - 9 - width, x - width / 2)
        tops = (y - LINE / 2 - shift, y - LINE / 2 + shift)
        beside = [(left, top) for top in tops for left in lefts[:2]]
        above = [(lefts[2], y - 9 - LINE - shift), (lefts[2], y + 9 + shift)]
        boxes += [Box(left, top, left + width, top + LINE) for left, top in beside + above]
    return boxes


def spread(places: Sequence[float], low: float, high: float, gap: float = LINE) -> list[float]:
    """Places moved apart to at least ``gap`` within [low, high], their order kept; the names at the ends of curves."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    gap = min(gap, (high - low) / max(len(places) - 1, 1))
    moved = list(places)
    floor = low
    for index in order:
        moved[index] = floor = max(moved[index], floor)
        floor += gap
    ceiling = high
    for index in reversed(order):
        moved[index] = ceiling = min(moved[index], ceiling)
        ceiling -= gap
    return moved
