"""The number that a solution states, and whether two numbers are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

MARKERS = ("####", "the answer is", "answer:", "\\boxed{")
TOLERANCE = 1e-4

# A sign stands right before its number and after no other one (12-7 is a difference); thousands may have commas.
_NUMBER = re.compile(
    r"(?<![\w.])(?:(?<![\d)])[-−])?[$€£]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?|(?<![\w.])\.\d+"
)
_LONGEST = 400  # digits of a number


def stated_number(text: str, markers: Sequence[str] = MARKERS) -> Fraction | None:
    """The first number after the last answer marker; without a marker there is none.

    Args:
        text: a solution.
        markers: what announces the answer, in any case.
    """
    ends = [found.end() for marker in markers for found in re.finditer(re.escape(marker), text, re.IGNORECASE)]
    return next(_values(text[max(ends) :]), None) if ends else None


def number_in(text: str, markers: Sequence[str] = MARKERS) -> Fraction | None:
    """The number that a text states: after a marker, or else the last one in it; None where there is none.

    Commas between thousands, currency signs, units and a full stop at the end do no harm; ``3/4`` is a fraction, and
    decimals are exact.

    Args:
        text: a solution, or a bare number.
        markers: what announces the answer, in any case.
    """
    found = stated_number(text, markers)
    if found is not None:
        return found
    return next(reversed(list(_values(text))), None)


def same_number(one: Fraction | float | None, other: Fraction | float | None, tolerance: float = TOLERANCE) -> bool:
    """Whether two numbers differ by no more than the tolerance; what is missing is like nothing."""
    if one is None or other is None:
        return False
    return abs(Fraction(one) - Fraction(other)) <= Fraction(tolerance)


def _values(text: str) -> Iterator[Fraction]:
    """The numbers of a text in their order."""
    for match in _NUMBER.finditer(text):
        value = _value(match[0])
        if value is not None:
            yield value


def _value(text: str) -> Fraction | None:
    kept = re.sub(r"[,$€£]", "", text).replace("−", "-")
    if len(kept) > _LONGEST:
        return None
    try:
        return Fraction(kept)
    except (ValueError, ZeroDivisionError):  # 3/0
        return None
