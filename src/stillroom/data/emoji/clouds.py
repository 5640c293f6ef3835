"""Clouds: coloured points in space, made from the pictures of emoji, and how cameras around them see them.

A picture becomes a body in one of two ways. A ``relief`` is the picture cut out of a board: points on its front, which
is raised where the picture is light, on its back and on its rim. A ``solid`` is what the picture's outline sweeps when
it is turned about its upright axis, as on a lathe; the colours of each height run round it.

Coordinates: x to the right, y up, z towards the viewer of the picture; a body stands at a random turn about y. A cloud
lies in the ball of radius 1 about 0. Several bodies stand on a floor, a disc of grey points.

A camera at azimuth a and elevation e looks at 0 from the direction (sin a cos e, sin e, cos a cos e). Its picture is a
parallel projection; `project` is the whole formula.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stillroom.data.emoji.base_table import SHARES, SIDE, Cast, Kind, png_of
from stillroom.data.tables import part_of

if TYPE_CHECKING:
    import datasets
    import numpy as np

FORMS = ("relief", "solid")
MARGIN = 1.05
"""A picture shows a square of side 2 * MARGIN about 0."""

FLOOR = 0
"""The part that floor points have; a body's is 1 + the number of its class."""

_OPAQUE = 127
_SHEET = (0.4, 0.3)  # of a relief's points, the share on its front and on its back; the rest is its rim
_THICK = 0.15  # of a relief, where its height is 1
_RAISED = 0.1  # how far the lightest points of a front stand out
_ON_FLOOR = 0.25  # of a cloud's points
_GREY = 170


@dataclass(frozen=True)
class Plan:
    """How clouds are made.

    Args:
        size: pixels of a view's side.
        points: of each cloud.
        views: cameras around each cloud.
        objects: fewest and most bodies.
        shared: whether splits share the pictures; a combination of bodies and forms is then in one split only.
    """

    size: int = 32
    points: int = 1024
    views: int = 4
    objects: tuple[int, int] = (1, 1)
    shared: bool = False


@dataclass(frozen=True)
class Cloud:
    """The bodies' kinds and forms; points [n, 3], colours [n, 3] in 0..255 and parts [n]; cameras in degrees."""

    kinds: tuple[Kind, ...]
    forms: tuple[str, ...]
    points: np.ndarray
    colours: np.ndarray
    parts: np.ndarray
    cameras: tuple[tuple[float, float], ...]


def clouds(cast: Cast, plan: Plan, split: str, count: int, seed: int) -> Iterator[Cloud]:
    """The first ``count`` clouds of a split."""
    for number in range(count):
        draw = random.Random(f"cloud {seed} {split} {number}")
        while True:
            kinds = [draw.choice(cast.kinds) for _ in range(draw.randint(*plan.objects))]
            forms = [draw.choice(FORMS) for _ in kinds]
            bodies = " ".join(sorted(f"{kind.id}{form}" for kind, form in zip(kinds, forms, strict=True)))
            alone = len(kinds) == 1  # a lone body is in every split, at other turns; else few of them would be in test
            if not plan.shared or alone or part_of(bodies, SHARES, salt="combination") == split:
                break
        yield cloud(kinds, forms, plan, draw.getrandbits(32))


def cloud(kinds: Sequence[Kind], forms: Sequence[str], plan: Plan, seed: int) -> Cloud:
    """Bodies side by side, each turned its own way, and cameras all around."""
    import numpy as np

    draw = np.random.default_rng(seed)
    floor = int(_ON_FLOOR * plan.points) if len(kinds) > 1 else 0
    counts = [len(part) for part in np.array_split(np.arange(plan.points - floor), len(kinds))]
    points, colours, parts = [], [], []
    for kind, form, count, place in zip(kinds, forms, counts, _places(len(kinds), draw), strict=True):
        where, ink = body(kind, form, count, draw)
        points.append(where @ _turn(draw.uniform(0, 360)).T + place)
        colours.append(ink)
        parts.append(np.full(count, 1 + kind.label))
    if floor:
        points.append(_floor(floor, len(kinds), draw))
        colours.append(np.full((floor, 3), _GREY))
        parts.append(np.full(floor, FLOOR))
    start = draw.uniform(0, 360)
    cameras = [((start + 360 * view / plan.views) % 360, draw.uniform(10, 35)) for view in range(plan.views)]
    return Cloud(
        tuple(kinds),
        tuple(forms),
        _in_ball(np.concatenate(points)).astype("float32"),
        np.concatenate(colours).astype("uint8"),
        np.concatenate(parts),
        tuple((round(float(azimuth), 2), round(float(elevation), 2)) for azimuth, elevation in cameras),
    )


def body(kind: Kind, form: str, count: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points [count, 3] of a body about 1 high that stands on y = 0, and their colours [count, 3]."""
    import numpy as np

    pixels = np.asarray(kind.picture().reduce(2)).astype("float32")
    solid = pixels[..., 3] > _OPAQUE
    points, ink = (_relief if form == "relief" else _lathe)(pixels, solid, count, draw)
    rows = np.nonzero(solid.any(1))[0]
    side = SIDE // 2
    points[:, 1] -= 0.5 - (rows.max() + 1) / side  # the lowest row of the picture comes to stand on the floor
    return points, ink


def _relief(
    pixels: np.ndarray, solid: np.ndarray, count: int, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    front, back = (int(part * count) for part in _SHEET)
    inside = np.argwhere(solid)
    padded = np.pad(solid, 1)
    covered = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    rim = np.argwhere(solid & ~covered)
    chosen = np.concatenate([draw.choice(inside, front + back), draw.choice(rim, count - front - back)])
    ink = pixels[chosen[:, 0], chosen[:, 1], :3]
    light = ink.mean(1) / 255
    depth = np.concatenate(
        [
            _THICK / 2 + _RAISED * light[:front],
            np.full(back, -_THICK / 2),
            draw.uniform(-_THICK / 2, _THICK / 2, count - front - back),
        ]
    )
    return _centred(chosen + draw.uniform(0, 1, chosen.shape), depth, len(solid)), ink


def _lathe(
    pixels: np.ndarray, solid: np.ndarray, count: int, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    columns = np.arange(len(solid))
    axis = (solid * columns).sum() / solid.sum()
    far = np.where(solid, np.abs(columns - axis), 0).max(1)  # the outline's distance from the axis, row by row
    weight = far / far.sum()
    chosen = draw.choice(len(solid), count, p=weight)
    angle = draw.uniform(0, 2 * np.pi, count)
    across = far[chosen] * np.cos(angle)
    nearest = np.abs(np.where(solid[chosen], columns, 1e6) - (axis + across)[:, None]).argmin(1)
    places = np.stack([chosen + draw.uniform(0, 1, count), len(solid) / 2 + across], 1)
    points = _centred(places, far[chosen] * np.sin(angle) / len(solid), len(solid))
    return points, pixels[chosen, nearest, :3]


def _centred(places: np.ndarray, depth: np.ndarray, side: int) -> np.ndarray:
    """Rows and columns of a picture, and depths, as points whose x and y are in [-0.5, 0.5]."""
    import numpy as np

    return np.stack([places[:, 1] / side - 0.5, 0.5 - places[:, 0] / side, depth], 1)


def _turn(degrees: float) -> np.ndarray:
    """The rotation about y."""
    import numpy as np

    angle = np.radians(degrees)
    return np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])


def _places(count: int, draw: np.random.Generator) -> np.ndarray:
    """Where bodies stand, [count, 3]: on a ring that is wide enough for all, so that none stands in another."""
    import numpy as np

    radius = 0 if count == 1 else 0.75 / np.sin(np.pi / count)
    angles = draw.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(count) / count
    return np.stack([radius * np.cos(angles), np.zeros(count), radius * np.sin(angles)], 1)


def _floor(points: int, bodies: int, draw: np.random.Generator) -> np.ndarray:
    import numpy as np

    reach = (0.75 / np.sin(np.pi / bodies) + 0.75) * np.sqrt(draw.uniform(0, 1, points))
    angle = draw.uniform(0, 2 * np.pi, points)
    return np.stack([reach * np.cos(angle), np.zeros(points), reach * np.sin(angle)], 1)


def _in_ball(points: np.ndarray) -> np.ndarray:
    import numpy as np

    centred = points - (points.min(0) + points.max(0)) / 2
    return centred / np.sqrt((centred**2).sum(1).max())


def project(points: np.ndarray, azimuth: float, elevation: float, size: int) -> np.ndarray:
    """Where a camera sees points.

    Args:
        points: [n, 3].
        azimuth: in degrees, about y; 0 looks along -z.
        elevation: in degrees, above the floor.
        size: pixels of the picture's side.

    Returns:
        [n, 3]: pixels from the left, pixels from the top, and nearness to the camera, in [-1, 1] in a cloud.
    """
    import numpy as np

    a, e = np.radians(azimuth), np.radians(elevation)
    right = np.array([np.cos(a), 0, -np.sin(a)])
    towards = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
    up = np.cross(towards, right)
    half = size / 2
    return np.stack(
        [half + half / MARGIN * (points @ right), half - half / MARGIN * (points @ up), points @ towards], 1
    )


def visible(points: np.ndarray, azimuth: float, elevation: float, size: int) -> np.ndarray:
    """Which point each pixel of a camera's picture shows, [size, size]: 1 + its place, or 0 for none.

    A point is a disc of about a 40th of the picture's side; where discs meet, the nearest to the camera is seen.
    """
    import numpy as np

    seen = project(points, azimuth, elevation, size)
    order = np.argsort(seen[:, 2], kind="stable")  # the farthest first, so that the nearest is written last
    picture = np.zeros((size, size), "int32")
    radius = size / 40
    reach = int(np.ceil(radius))
    offsets = [(row, column) for row in range(-reach, reach + 1) for column in range(-reach, reach + 1)]
    offsets = [offset for offset in offsets if offset[0] ** 2 + offset[1] ** 2 <= max(radius, 1) ** 2]
    rows = (seen[order, 1].astype("int32")[:, None] + [row for row, _ in offsets]).clip(0, size - 1)
    columns = (seen[order, 0].astype("int32")[:, None] + [column for _, column in offsets]).clip(0, size - 1)
    picture[rows.ravel(), columns.ravel()] = np.repeat(order + 1, len(offsets))
    return picture


def rendered(found: Cloud, shown: np.ndarray) -> np.ndarray:
    """The picture [size, size, 3] of what `visible` says is seen, on white."""
    import numpy as np

    ink = np.concatenate([np.full((1, 3), 255, "uint8"), found.colours])
    return ink[shown]


def features(classes: Sequence[str]) -> datasets.Features:
    """The columns of `rows`."""
    import datasets
    from datasets import ClassLabel, Image, List, Value

    text = Value("string")
    return datasets.Features(
        id=text,
        points=List(List(Value("float32"), length=3)),
        colours=List(List(Value("uint8"), length=3)),
        parts=List(Value("int32")),
        views=List(Image()),
        visible=List(Image()),
        cameras=List({"azimuth": Value("float32"), "elevation": Value("float32")}),
        label=ClassLabel(names=list(classes)),
        labels=List(ClassLabel(names=list(classes))),
        names=List(text),
        emoji=List(text),
        forms=List(text),
    )


def rows(cast: Cast, plan: Plan, split: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """The rows of the view `clouds`."""
    from PIL import Image

    for number, found in enumerate(clouds(cast, plan, split, count, seed)):
        seen = [visible(found.points, *camera, plan.size) for camera in found.cameras]
        yield {
            "id": f"cloud-{split}-{seed}-{number}",
            "points": found.points.tolist(),
            "colours": found.colours.tolist(),
            "parts": found.parts.tolist(),
            "views": [png_of(Image.fromarray(rendered(found, shown))) for shown in seen],
            "visible": [png_of(Image.fromarray(shown.astype("uint16"))) for shown in seen],
            "cameras": [{"azimuth": azimuth, "elevation": elevation} for azimuth, elevation in found.cameras],
            "label": found.kinds[0].label,
            "labels": [kind.label for kind in found.kinds],
            "names": [kind.name for kind in found.kinds],
            "emoji": [kind.emoji for kind in found.kinds],
            "forms": list(found.forms),
        }
