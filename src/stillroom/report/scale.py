"""From values to places on paper, and the round values worth a tick."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to [start, end] in pixels, linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; a value outside the range is set on the border."""
        value = min(max(value, self.low), self.high)
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return round(self.start + part * (self.end - self.start), 2)

    def ticks(self, about: int = 5) -> list[float]:
        """About that many round values inside the range; by logarithm powers of ten and, if few, parts of them."""
        if not self.log:
            return linear_ticks(self.low, self.high, about)
        for digits in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7)):
            marks = log_ticks(self.low, self.high, digits)
            if len(marks) >= min(about - 1, 3):
                return marks[:: math.ceil(len(marks) / (about + 2))]
        return linear_ticks(self.low, self.high, about)


def linear_ticks(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float, digits: Iterable[int]) -> list[float]:
    """``digits`` times every power of ten inside the range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = (digit * 10.0**power for power in powers for digit in digits)
    return [mark for mark in marks if low * 0.999999 <= mark <= high * 1.000001]


def span(values: Iterable[float], *, log: bool = False, margin: float = 0.06) -> tuple[float, float]:
    """The range of the finite values with a margin on both sides; never empty."""
    known = finite(values) or [1.0]
    low, high = min(known), max(known)
    if log:
        ratio = max(high / low, 1.5)
        return low / ratio**margin, high * ratio**margin
    width = high - low
    room = margin * (width if width > 1e-9 * max(abs(low), abs(high)) else abs(high) or 1.0)
    return low - room, high + room


def finite(values: Iterable[float]) -> list[float]:
    """The values that have a place on paper."""
    return [value for value in values if abs(value) < 1e300]


def wide(values: Iterable[float]) -> bool:
    """Whether the values need a logarithmic scale: all above 0 and more than a factor of 50 apart."""
    known = finite(values)
    return bool(known) and min(known) > 0 and max(known) > 50 * min(known)


def tick_labels(ticks: list[float], *, log: bool = False) -> list[str]:
    """``0``, ``0.25``, ``0.50``: linearly, as many decimals for all as the finest needs; from 10,000 on ``10k``."""
    if log:
        return [label for tick in ticks for label in tick_labels([tick])]
    largest = max(map(abs, ticks), default=0.0)
    steps = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k"))
    unit = next((unit for limit, unit in steps if largest >= limit), "")
    factor = {"T": 1e12, "B": 1e9, "M": 1e6, "k": 1e3, "": 1.0}[unit]
    form = ".0e" if 0 < largest < 1e-3 else f",.{max((_decimals(tick / factor) for tick in ticks), default=0)}f"
    labels = ["0" if tick == 0 else f"{tick / factor:{form}}{unit}" for tick in ticks]
    return [label.replace("-", "\N{MINUS SIGN}") for label in labels]


def _decimals(value: float) -> int:
    return len(f"{value:.8f}".rstrip("0").partition(".")[2])
