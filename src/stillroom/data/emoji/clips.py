"""Clips: one emoji that moves in one of seven ways, seen in a few frames.

It is on the same background in all frames, wholly in the picture, and moves evenly from the first frame to the last: a
third to a half of the picture's side, or by 90 to 180 degrees clockwise, or to between 1.6 and 2.2 times its size.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stillroom.data.emoji.base_table import SHARES, Cast, png_of
from stillroom.data.emoji.colours import PALETTE
from stillroom.data.emoji.scene_words import spoken, with_article
from stillroom.data.emoji.scenes import Scene, Style, Thing
from stillroom.data.tables import part_of

if TYPE_CHECKING:
    import datasets

SAID = {
    "left": "moves to the left",
    "right": "moves to the right",
    "up": "moves up",
    "down": "moves down",
    "rotate": "rotates",
    "grow": "grows",
    "shrink": "shrinks",
}
MOTIONS = tuple(SAID)
"""The classes of motions, in the order of their numbers."""

_DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True)
class Clip:
    """The frames, each a scene with one thing, and how the thing moves."""

    motion: str
    frames: tuple[Scene, ...]

    @property
    def combination(self) -> str:
        """What must not cross splits when pictures are shared: emoji, paint, background and motion."""
        return f"{self.motion} {self.frames[0].combination}"


def clips(cast: Cast, style: Style, frames: int, split: str, count: int, seed: int) -> Iterator[Clip]:
    """The first ``count`` clips of a split; if pictures are shared, their combinations are not."""
    for number in range(count):
        draw = random.Random(f"clip {seed} {split} {number}")
        while True:
            found = clip(cast, style, frames, draw)
            if not style.shared or part_of(found.combination, SHARES, salt="combination") == split:
                yield found
                break


def clip(cast: Cast, style: Style, frames: int, draw: random.Random) -> Clip:
    """One clip of any motion."""
    motion = draw.choice(MOTIONS)
    background = draw.choice(list(PALETTE))
    paint = draw.choice([name for name in PALETTE if name != background]) if style.tint else ""
    thing = Thing(draw.choice(cast.kinds), paint, 0, 0, 0, 0)
    ends = _ends(thing, motion, style.size, draw)
    seed = draw.getrandbits(32)
    steps = [number / (frames - 1) for number in range(frames)]
    return Clip(motion, tuple(Scene(background, (_between(*ends, step),), style, seed) for step in steps))


def _ends(thing: Thing, motion: str, size: int, draw: random.Random) -> tuple[Thing, Thing]:
    """The thing as it is in the first frame and in the last."""
    start = replace(thing, side=draw.uniform(0.3, 0.45) * size)
    x, y = (draw.uniform(start.reach, size - start.reach) for _ in range(2))
    if motion in _DIRECTIONS:
        way = draw.uniform(1 / 3, 1 / 2) * size
        across, down = (way * part for part in _DIRECTIONS[motion])
        x = _kept_inside(x, start.reach + abs(across) / 2, size)
        y = _kept_inside(y, start.reach + abs(down) / 2, size)
        first = replace(start, x=x - across / 2, y=y - down / 2)
        return first, replace(first, x=x + across / 2, y=y + down / 2)
    if motion == "rotate":
        reach = start.side / 2**0.5
        first = replace(start, x=_kept_inside(x, reach, size), y=_kept_inside(y, reach, size))
        return first, replace(first, angle=draw.uniform(90, 180))
    large = replace(start, side=start.side * draw.uniform(1.6, 2.2))
    x, y = _kept_inside(x, large.reach, size), _kept_inside(y, large.reach, size)
    small, large = replace(start, x=x, y=y), replace(large, x=x, y=y)
    return (small, large) if motion == "grow" else (large, small)


def _kept_inside(place: float, reach: float, size: int) -> float:
    return min(max(place, reach), size - reach)


def _between(first: Thing, last: Thing, step: float) -> Thing:
    """The thing on its way from the first to the last, at ``step`` in [0, 1]."""

    def mixed(start: float, end: float) -> float:
        return (1 - step) * start + step * end

    return replace(
        first,
        x=mixed(first.x, last.x),
        y=mixed(first.y, last.y),
        side=mixed(first.side, last.side),
        angle=mixed(first.angle, last.angle),
    )


def features(classes: Sequence[str]) -> datasets.Features:
    """The columns of `rows`."""
    import datasets
    from datasets import ClassLabel, Image, List, Value

    text = Value("string")
    return datasets.Features(
        id=text,
        frames=List(Image()),
        label=ClassLabel(names=list(MOTIONS)),
        object=ClassLabel(names=list(classes)),
        name=text,
        emoji=text,
        boxes=List(List(Value("int32"), length=4)),
        background=text,
        caption=text,
    )


def rows(cast: Cast, style: Style, frames: int, split: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """The rows of the view `clips`."""
    for number, found in enumerate(clips(cast, style, frames, split, count, seed)):
        thing, background = found.frames[0].things[0], found.frames[0].background
        yield {
            "id": f"clip-{split}-{seed}-{number}",
            "frames": [png_of(frame.image) for frame in found.frames],
            "label": MOTIONS.index(found.motion),
            "object": thing.kind.label,
            "name": thing.kind.name,
            "emoji": thing.kind.emoji,
            "boxes": [frame.boxes[0] for frame in found.frames],
            "background": background,
            "caption": _caption(thing, found.motion, background),
        }


def _caption(thing: Thing, motion: str, background: str) -> str:
    return f"the {spoken(thing)} {SAID[motion]} on {with_article(background)} background"
