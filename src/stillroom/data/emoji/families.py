"""Which emoji belong together, so that a split never tears them apart.

A *variant* differs in skin tone, hair or gender alone, by the way its sequence is built: all of them have one *base*. A
*family* holds more: bases whose English names differ in a colour or size alone (hearts, books, squares), and whatever
looks nearly the same (the 24 clocks, the flags of Chad and Romania). What is in one family is in one split.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

TONES = "🏻🏼🏽🏾🏿"
HAIR = "🦰🦱🦳🦲"
NEAR = 0.06
"""Pictures whose pixels differ by less (root mean square, in [0, 1], at 16 x 16 pixels) look nearly the same."""

_JOINER = "\u200d"
_NEUTRAL = str.maketrans(
    {"👨": "🧑", "👩": "🧑", "👦": "🧒", "👧": "🧒", "👴": "🧓", "👵": "🧓"} | dict.fromkeys(TONES)
)
_SIGNS = re.compile(f"{_JOINER}[♂♀{HAIR}]")
_PAIRS = {"👫": "🧑‍🤝‍🧑", "👬": "🧑‍🤝‍🧑", "👭": "🧑‍🤝‍🧑", "🧑‍❤‍💋‍🧑": "💏", "🧑‍❤‍🧑": "💑", "🫱‍🫲": "🤝"}
_GENDERED = {"🤴": "🫅", "👸": "🫅", "🎅": "🧑‍🎄", "🤶": "🧑‍🎄", "🤰": "🫄", "🫃": "🫄", "🕺": "💃"}
_SAME = _PAIRS | _GENDERED
_HOUSEHOLD = re.compile(f"[🧑🧒]({_JOINER}[🧑🧒])+")
_COLOURS = "red|orange|yellow|green|blue|purple|pink|brown|black|white|grey|gray|light|dark|mending|large|medium|small"
_COLOUR_OR_SIZE = re.compile(rf"\b(?:{_COLOURS})\b[ -]*")


def base_of(text: str) -> str:
    """The form that stands for all variants of an emoji, written without tones, hair and gender.

    It need not be an emoji that exists: 👩‍❤‍👨 and 💑 have one base, as have all households.
    """
    plain = _SIGNS.sub("", text.translate(_NEUTRAL)) or text
    return "👪" if _HOUSEHOLD.fullmatch(plain) else _SAME.get(plain, plain)


def without_colour(name: str) -> str:
    """An English name without words of colour and size: ``red heart`` is a ``heart``."""
    return _COLOUR_OR_SIZE.sub("", name).strip() or name


def families(bases: Mapping[str, str], english: Mapping[str, str], pixels: np.ndarray) -> dict[str, str]:
    """Emoji -> the first member of its family.

    Args:
        bases: emoji, in order -> base.
        english: emoji -> English name.
        pixels: [emoji, values] in [0, 1], how they look.
    """
    joined = _Joined(bases)
    first_with = dict[str, str]()
    for text, base in bases.items():
        joined.join(text, first_with.setdefault(f"base {base}", text))
        joined.join(text, first_with.setdefault(f"name {without_colour(english[text])}", text))
    order = list(bases)
    for first, second in look_alikes(pixels):
        joined.join(order[first], order[second])
    return {text: joined.root(text) for text in bases}


def look_alikes(pixels: np.ndarray, near: float = NEAR) -> list[tuple[int, int]]:
    """Places of all pairs of rows that differ by less than ``near``; a block of rows at a time."""
    import numpy as np

    found: list[tuple[int, int]] = []
    squares = (pixels**2).mean(1)
    for start in range(0, len(pixels), 512):
        block = pixels[start : start + 512]
        distance = squares[start : start + 512, None] + squares - 2 * (block @ pixels.T) / pixels.shape[1]
        ours, theirs = np.nonzero(distance < near**2)
        found += [(start + int(a), int(b)) for a, b in zip(ours, theirs, strict=True) if start + a < b]
    return found


class _Joined:
    """Sets that grow together; the first member in order is the root."""

    def __init__(self, members: Sequence[str] | Mapping[str, str]) -> None:
        self._parent = {member: member for member in members}
        self._place = {member: place for place, member in enumerate(members)}

    def root(self, member: str) -> str:
        while self._parent[member] != member:
            self._parent[member] = self._parent[self._parent[member]]
            member = self._parent[member]
        return member

    def join(self, first: str, second: str) -> None:
        one, other = sorted((self.root(first), self.root(second)), key=self._place.__getitem__)
        self._parent[other] = one
