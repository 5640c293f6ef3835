"""Scenes: emoji put on a background, with everything known about where they are.

A scene is a square of ``size`` pixels with one to a few emoji that do not touch. What is said of them is measured on
the finished picture: a box is the smallest that holds an object's pixels in the mask, so that the boxes, the instance
mask and the semantic mask never disagree.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import cos, radians, sin
from typing import TYPE_CHECKING, Any

from stillroom.data.emoji.base_table import SHARES, SIDE, Cast, Kind, png_of
from stillroom.data.emoji.colours import PALETTE, painted
from stillroom.data.emoji.scene_words import caption, questions
from stillroom.data.tables import part_of

if TYPE_CHECKING:
    import datasets
    import numpy as np
    from PIL import Image

Box = tuple[int, int, int, int]
OPAQUE = 127
"""A pixel belongs to an object if the object's picture covers more than this, of 255."""

REPEATS = 0.2  # how often another object is one that is there already, so that there is something to count
_TILT = 15  # degrees to either side
_TRIES = 40


@dataclass(frozen=True)
class Style:
    """How scenes are drawn.

    Args:
        size: pixels of a side.
        objects: fewest and most objects.
        background: ``flat``, one colour; or ``clutter``, shapes and noise over it.
        tint: whether objects are painted in a colour of the palette.
        shared: whether splits share the pictures; a combination of objects and colours is then in one split only.
    """

    size: int = 64
    objects: tuple[int, int] = (1, 4)
    background: str = "flat"
    tint: bool = False
    shared: bool = False


@dataclass(frozen=True)
class Thing:
    """An emoji in a scene.

    A point (u, v) of its picture, in [-0.5, 0.5] with v downwards, is at (x + side * (u cos a - v sin a),
    y + side * (u sin a + v cos a)) in pixels, where a is the angle.

    Args:
        kind: which emoji.
        paint: name of the colour it is painted in, or "".
        x: centre, in pixels from the left.
        y: centre, in pixels from the top.
        side: of the square picture, in pixels.
        angle: in degrees, clockwise.
    """

    kind: Kind
    paint: str
    x: float
    y: float
    side: float
    angle: float

    @property
    def reach(self) -> float:
        """Half the side of the upright square that the turned picture needs."""
        return self.side / 2 * (abs(cos(radians(self.angle))) + abs(sin(radians(self.angle))))

    @property
    def colour(self) -> str:
        """Of the paint, or else of most of the picture; "" where no colour is clear."""
        return self.paint or self.kind.colour

    def layer(self, size: int) -> Image.Image:
        """The thing alone in a transparent square of ``size`` pixels."""
        from PIL import Image

        picture = self.kind.picture()
        if self.paint:
            picture = painted(picture, PALETTE[self.paint])
        smaller = max(1, int(SIDE / self.side))
        picture = picture.reduce(smaller) if smaller > 1 else picture
        zoom = picture.width / self.side
        turn, rise = zoom * cos(radians(self.angle)), zoom * sin(radians(self.angle))
        middle = picture.width / 2
        back = (turn, rise, middle - turn * self.x - rise * self.y, -rise, turn, middle + rise * self.x - turn * self.y)
        return picture.transform((size, size), Image.Transform.AFFINE, back, Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class Scene:
    """Things on a background of a named colour."""

    background: str
    things: tuple[Thing, ...]
    style: Style
    seed: int

    @property
    def combination(self) -> str:
        """What must not cross splits when pictures are shared: the kinds with their paint, and the background."""
        return " ".join([self.background, *sorted(f"{thing.kind.id}{thing.paint}" for thing in self.things)])

    @cached_property
    def _layers(self) -> list[Image.Image]:
        return [thing.layer(self.style.size) for thing in self.things]

    @cached_property
    def image(self) -> Image.Image:
        """RGB."""
        picture = backdrop(self.background, self.style, self.seed)
        for layer in self._layers:
            picture.paste(layer, (0, 0), layer)
        return picture

    @cached_property
    def instances(self) -> np.ndarray:
        """[size, size]: 0 is background, n the n-th thing."""
        import numpy as np

        mask = np.zeros((self.style.size, self.style.size), "uint8")
        for number, layer in enumerate(self._layers, 1):
            mask[np.asarray(layer)[..., 3] > OPAQUE] = number
        return mask

    @property
    def semantics(self) -> np.ndarray:
        """[size, size]: 0 is background, else 1 + the number of the class."""
        import numpy as np

        return np.array([0, *(1 + thing.kind.label for thing in self.things)], "uint8")[self.instances]

    @cached_property
    def areas(self) -> list[int]:
        """Pixels of each thing."""
        return [int((self.instances == number).sum()) for number in range(1, len(self.things) + 1)]

    @cached_property
    def boxes(self) -> list[Box]:
        """[x0, y0, x1, y1] of each thing, the last two just outside it."""
        found = []
        for number in range(1, len(self.things) + 1):
            rows, columns = (self.instances == number).nonzero()
            found.append((int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1))
        return found


def scenes(cast: Cast, style: Style, split: str, count: int, seed: int) -> Iterator[Scene]:
    """The first ``count`` scenes of a split; with a larger count the same come first."""
    for number in range(count):
        yield scene(cast, style, split, random.Random(f"scene {seed} {split} {number}"))


def scene(cast: Cast, style: Style, split: str, draw: random.Random) -> Scene:
    """One scene; if pictures are shared, of a combination that belongs to the split."""
    while True:
        kinds = _kinds(cast.kinds, draw.randint(*style.objects), draw)
        background = draw.choice(list(PALETTE))
        others = [name for name in PALETTE if name != background]
        paints = [draw.choice(others) if style.tint else "" for _ in kinds]
        things = [Thing(kind, paint, 0, 0, 0, 0) for kind, paint in zip(kinds, paints, strict=True)]
        found = Scene(background, tuple(things), style, draw.getrandbits(32))
        if style.shared and part_of(found.combination, SHARES, salt="combination") != split:
            continue
        found = replace(found, things=tuple(_laid_out(things, style.size, draw)))
        if all(found.areas):
            return found


def single(cast: Cast, style: Style, draw: random.Random) -> Scene:
    """One emoji, anywhere, larger or smaller, turned by up to 30 degrees."""
    size = style.size
    side = draw.uniform(0.45, 0.9) * size
    background = draw.choice(list(PALETTE))
    paint = draw.choice([name for name in PALETTE if name != background]) if style.tint else ""
    thing = Thing(draw.choice(cast.kinds), paint, 0, 0, side, draw.uniform(-30, 30))
    spare = max(0.0, size / 2 - thing.reach)
    x, y = (size / 2 + draw.uniform(-spare, spare) for _ in range(2))
    return Scene(background, (replace(thing, x=x, y=y),), style, draw.getrandbits(32))


def _kinds(kinds: Sequence[Kind], count: int, draw: random.Random) -> list[Kind]:
    chosen = [draw.choice(kinds)]
    while len(chosen) < count:
        chosen.append(draw.choice(chosen if draw.random() < REPEATS else kinds))
    return chosen


def _laid_out(things: Sequence[Thing], size: int, draw: random.Random) -> list[Thing]:
    """The things with places where their squares do not meet; they are drawn smaller until all fit."""
    largest = 0.8 if len(things) == 1 else 0.9 / (len(things) ** 0.5 + 0.25)
    while True:
        placed: list[Thing] = []
        for thing in things:
            found = _free_place(thing, placed, largest * size, size, draw)
            if found is None:
                break
            placed.append(found)
        if len(placed) == len(things):
            return placed
        largest *= 0.93


def _free_place(thing: Thing, placed: Sequence[Thing], largest: float, size: int, draw: random.Random) -> Thing | None:
    for _ in range(_TRIES):
        turned = replace(thing, side=draw.uniform(0.5, 1) * largest, angle=draw.uniform(-_TILT, _TILT))
        x, y = (draw.uniform(turned.reach, size - turned.reach) for _ in range(2))
        if all(max(abs(x - other.x), abs(y - other.y)) > turned.reach + other.reach for other in placed):
            return replace(turned, x=x, y=y)
    return None


def backdrop(colour: str, style: Style, seed: int) -> Image.Image:
    """A background: a pale shade of the colour, and over it, if it is to be cluttered, shapes and noise."""
    import numpy as np
    from PIL import Image, ImageDraw

    shade = tuple(channel + (255 - channel) // 3 for channel in PALETTE[colour])
    picture = Image.new("RGB", (style.size, style.size), shade)
    if style.background == "flat":
        return picture
    draw, pen = np.random.default_rng(seed), ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = draw.uniform(-0.2, 1, 2) * style.size
        width, height = draw.uniform(0.1, 0.6, 2) * style.size
        ink = tuple(int(channel) for channel in 0.5 * np.array(shade) + 0.5 * draw.uniform(0, 255, 3))
        shape = (pen.rectangle, pen.ellipse)[int(draw.integers(2))]
        shape((x, y, x + width, y + height), fill=ink)
    noise = draw.normal(0, 12, (style.size, style.size, 3))
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype("uint8"))


def features(classes: Sequence[str]) -> datasets.Features:
    """The columns of `rows`."""
    import datasets
    from datasets import ClassLabel, Image, List, Value

    pose = {name: Value("float32") for name in ("x", "y", "side", "angle")}
    text = Value("string")
    return datasets.Features(
        id=text,
        image=Image(),
        boxes=List(List(Value("int32"), length=4)),
        labels=List(ClassLabel(names=list(classes))),
        names=List(text),
        emoji=List(text),
        groups=List(text),
        colours=List(text),
        poses=List(pose),
        background=text,
        instances=Image(),
        semantics=Image(),
        caption=text,
        questions=List({"about": text, "question": text, "answer": text}),
    )


def rows(cast: Cast, style: Style, split: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """The rows of the view `scenes`."""
    from PIL import Image

    for number, found in enumerate(scenes(cast, style, split, count, seed)):
        yield {
            "id": f"scene-{split}-{seed}-{number}",
            "image": png_of(found.image),
            "boxes": found.boxes,
            "labels": [thing.kind.label for thing in found.things],
            "names": [thing.kind.name for thing in found.things],
            "emoji": [thing.kind.emoji for thing in found.things],
            "groups": [thing.kind.group for thing in found.things],
            "colours": [thing.colour for thing in found.things],
            "poses": [{name: getattr(thing, name) for name in ("x", "y", "side", "angle")} for thing in found.things],
            "background": found.background,
            "instances": png_of(Image.fromarray(found.instances)),
            "semantics": png_of(Image.fromarray(found.semantics)),
            "caption": caption(found),
            "questions": questions(found, cast, random.Random(f"questions {seed} {split} {number}")),
        }


def object_features(classes: Sequence[str]) -> datasets.Features:
    """The columns of `object_rows`."""
    import datasets
    from datasets import ClassLabel, Image, List, Value

    text = Value("string")
    return datasets.Features(
        id=text,
        image=Image(),
        label=ClassLabel(names=list(classes)),
        name=text,
        emoji=text,
        group=text,
        box=List(Value("int32"), length=4),
        mask=Image(),
    )


def object_rows(cast: Cast, style: Style, split: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """The rows of the view `objects`."""
    from PIL import Image

    for number in range(count):
        found = single(cast, style, random.Random(f"object {seed} {split} {number}"))
        kind = found.things[0].kind
        yield {
            "id": f"object-{split}-{seed}-{number}",
            "image": png_of(found.image),
            "label": kind.label,
            "name": kind.name,
            "emoji": kind.emoji,
            "group": kind.group,
            "box": found.boxes[0],
            "mask": png_of(Image.fromarray(found.instances)),
        }
