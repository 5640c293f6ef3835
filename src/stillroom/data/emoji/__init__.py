"""`emoji`: pictures with names in about 140 languages and regions, and scenes, clips and point clouds made of them.

Read in place from two Debian packages: `fonts-noto-color-emoji` has the pictures, `unicode-cldr-core` the names,
keywords, groups ("Food & Drink") and subgroups ("food-fruit"). An emoji that CLDR neither lists in a group nor has in
its order is left out; so is one whose picture another has too.

| view       | a row is an emoji ...         | columns                                                                 |
|------------|-------------------------------|-------------------------------------------------------------------------|
| `pictures` | alone                         | id, image, label, name, keywords, emoji, group, subgroup, base,         |
|            |                               | variant, family, colour                                                 |
| `captions` | with one of its captions      | id, image, text, picture, emoji, group                                  |
| `objects`  | on a background               | id, image, label, name, emoji, group, box, mask                         |
| `scenes`   | among others                  | id, image, boxes, labels, names, emoji, groups, colours, poses,         |
|            |                               | background, instances, semantics, caption, questions                    |
| `clips`    | that moves                    | id, frames, label (the motion), object, name, emoji, boxes, background, |
|            |                               | caption                                                                 |
| `clouds`   | as points, and pictures of it | id, points, colours, parts, views, visible, cameras, label, labels,     |
|            |                               | names, emoji, forms                                                     |

Boxes are [x0, y0, x1, y1] in pixels, the last two just outside. `instances` is 0 for the background and n for the n-th
object, `semantics` 1 + its label. `questions` are {about, question, answer}. `stillroom.data.emoji.scenes` says what a
pose is, `stillroom.data.emoji.clouds` what a camera is; `parts` are 1 + the label of the body that a point belongs to,
0 for the floor, and `visible` 1 + the place of the point that a pixel shows, 0 for none.

Splits are by family (a hash of its first member): train 70 %, validation 15 %, test 15 %. A family holds all variants
of an emoji in skin tone, hair and gender, emoji that differ in a colour or size alone, and pictures that look nearly
the same (see `stillroom.data.emoji.families`); a flag is a family of its own unless it looks like another. What is
composed for a split shows only pictures of that split, and its classes are the groups, which all splits have.

With ``shared=True`` scenes, clips and clouds of all splits show the same emoji (pictures of ``train``), each of which
is a class. Then pictures are shared between splits, and compositions are not: no combination of emoji, paints and
background (and motion) is in two splits; in `objects` and in clouds of one body, where few combinations exist, only
places, sizes and turns differ. `objects` is always so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.emoji import clips, clouds, scenes
from stillroom.data.emoji.annotations import Said, names
from stillroom.data.emoji.base_table import SHARES, SIDE, Cast, atlas, cast, opened, png_of, stamp
from stillroom.data.progress import patient_bar
from stillroom.data.tables import TableWriter, read_table, sample
from stillroom.errors import UserError, nearest

if TYPE_CHECKING:
    from datasets import Dataset, Features

VIEWS = {
    "pictures": "labelled-image",
    "captions": "image-text",
    "objects": "labelled-image",
    "scenes": None,
    "clips": None,
    "clouds": None,
}
SPLITS = tuple(SHARES)
ROWS = {"train": 2_000, "validation": 400, "test": 400}
"""How many are composed if no limit is given."""

_VERSION = 1  # of what is composed; a change makes what is in the cache stale
_BATCH = 64  # rows that are held before they are written: a cloud takes some hundred thousand bytes

_COMPOSED = {"kinds": None, "only": None}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "pictures": {"language": "en", "size": 64, "label": "group", "variants": True},
    "captions": {"language": "en", "size": 64, "captions": 3, "variants": True},
    "objects": {"size": 32, "background": "flat", "tint": False, "kinds": 20, "only": None},
    "scenes": {"size": 64, "objects": (1, 4), "background": "flat", "tint": False, "shared": False, **_COMPOSED},
    "clips": {"size": 32, "frames": 8, "background": "flat", "tint": False, "shared": False, **_COMPOSED},
    "clouds": {"size": 32, "points": 1024, "views": 4, "objects": (1, 1), "shared": False, **_COMPOSED},
}
_RANGES = {
    "size": (16, 256),
    "captions": (1, 20),
    "kinds": (1, 254),
    "frames": (2, 64),
    "points": (64, 60_000),
    "views": (1, 32),
}
_CHOICES = {"label": ("group", "subgroup"), "background": ("flat", "clutter")}
_MOST_OBJECTS = 10


def load(
    view: str,
    split: str,
    limit: int | None,
    seed: int,
    *,
    language: str | None = None,
    size: int | None = None,
    label: str | None = None,
    variants: bool | None = None,
    captions: int | None = None,
    objects: int | Sequence[int] | None = None,
    kinds: int | None = None,
    only: Sequence[str] | None = None,
    shared: bool | None = None,
    background: str | None = None,
    tint: bool | None = None,
    frames: int | None = None,
    points: int | None = None,
    views: int | None = None,
) -> Dataset:
    """``limit`` rows of a view: drawn with ``seed`` of `pictures` and `captions`, composed from ``seed`` of the others.

    A longer draw of composed rows from the same seed begins with the shorter one.

    Args:
        view: see the table above.
        split: ``train``, ``validation`` or ``test``.
        limit: at most so many; all, or as many as `ROWS` says, if None.
        seed: of the draw.
        language: of names, keywords and captions, as CLDR writes it: ``de``, ``pt_PT``, ``zh_Hant``. Emoji that it has
            no name for are left out. Names inside scenes, clips and clouds are English.
        size: pixels of a side, 64 or 32 if not given.
        label: whether a picture's label is its ``group`` or its ``subgroup``.
        variants: whether skin tones, hair and genders are there too, or one form of each.
        captions: of each picture, at most.
        objects: how many emoji a scene or cloud shows: a number, or the fewest and the most.
        kinds: how many different emoji appear; all that can, if None. With ``shared`` they are the classes.
        only: the groups, subgroups or names of emoji that may appear; all groups but symbols and flags if None.
        shared: whether all splits show the same emoji.
        background: ``flat``, or ``clutter`` with shapes and noise.
        tint: whether emoji are painted in one of eight colours.
        frames: of a clip.
        points: of a cloud.
        views: cameras around a cloud.

    Raises:
        UserError: a package is missing, or an option does not fit the view or has a wrong value.
    """
    given = {name: value for name, value in locals().items() if name in _OPTIONS and value is not None}
    settings = _settings(view, given)
    if view in ("pictures", "captions"):
        return sample(_of_pictures(view, split, settings), limit, seed)
    return _composed(view, split, limit or ROWS[split], seed, settings)


_OPTIONS = {name for defaults in _DEFAULTS.values() for name in defaults}


def _settings(view: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The view's options as given or by default, checked."""
    known = _DEFAULTS[view]
    for name in given:
        if name not in known:
            raise UserError(f"the view {view!r} of emoji has no option {name!r} (it has {', '.join(known)})")
    found = {**known, **given}
    for name, (low, high) in _RANGES.items():
        value = found.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high):
            raise UserError(f"{name!r} must be a whole number from {low} to {high}; it is {value!r}")
    for name, choices in _CHOICES.items():
        if name in found and found[name] not in choices:
            near = nearest(str(found[name]), choices)
            raise UserError(f"{name!r} must be {' or '.join(choices)}; it is {found[name]!r}{near}")
    if isinstance(found.get("only"), str):
        found["only"] = [found["only"]]
    if "objects" in found:
        found["objects"] = _bounds(found["objects"])
    return found


def _bounds(objects: int | Sequence[int]) -> tuple[int, int]:
    bounds = (objects, objects) if isinstance(objects, int) else tuple(objects)
    if len(bounds) != 2 or not all(isinstance(bound, int) for bound in bounds):
        raise UserError(f"'objects' must be a number, or the fewest and the most of them; it is {objects!r}")
    if not 1 <= bounds[0] <= bounds[1] <= _MOST_OBJECTS:
        raise UserError(f"'objects' must be from 1 to {_MOST_OBJECTS}, the smaller number first; it is {objects!r}")
    return bounds[0], bounds[1]


# --- pictures and captions ---


def _of_pictures(view: str, split: str, settings: Mapping[str, Any]) -> Dataset:
    said = names(settings["language"])
    make = _picture_rows if view == "pictures" else _caption_rows
    columns = _picture_features(settings["label"]) if view == "pictures" else _caption_features()
    language = [(text, one.name, one.keywords) for text, one in said.items()]
    address = fingerprint(_VERSION, stamp(), split, settings, language)

    def build(target: Path) -> None:
        table = atlas()
        places = [
            place
            for place, (part, emoji, variant) in enumerate(
                zip(table["split"], table["emoji"], table["variant"], strict=True)
            )
            if part == split and emoji in said and (settings["variants"] or not variant)
        ]
        _write(target, make(table.select(places), said, settings), columns, len(places), f"drawing {view}")

    return read_table(build_once(f"emoji/{view}", address, build))


def _picture_features(label: str) -> Features:
    import datasets
    from datasets import ClassLabel, Image, List, Value

    text = Value("string")
    return datasets.Features(
        id=text,
        image=Image(),
        label=ClassLabel(names=sorted(set(atlas()[label]))),
        name=text,
        keywords=List(text),
        **dict.fromkeys(("emoji", "group", "subgroup", "base"), text),
        variant=Value("bool"),
        **dict.fromkeys(("family", "colour"), text),
    )


def _picture_rows(table: Dataset, said: Mapping[str, Said], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    classes = {name: number for number, name in enumerate(_picture_features(settings["label"])["label"].names)}
    for row in table:
        own = said[row["emoji"]]
        image = _on_white(row.pop("png"), settings["size"])
        label = classes[row[settings["label"]]]
        yield {**row, "image": image, "label": label, "name": own.name, "keywords": list(own.keywords)}


def _caption_features() -> Features:
    import datasets
    from datasets import Image, Value

    text = Value("string")
    return datasets.Features(id=text, image=Image(), text=text, picture=text, emoji=text, group=text)


def _caption_rows(table: Dataset, said: Mapping[str, Said], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in table:
        image = _on_white(row["png"], settings["size"])
        for number, text in enumerate(captions_of(said[row["emoji"]], settings["captions"])):
            own = {name: row[name] for name in ("emoji", "group")}
            yield {"id": f"{row['id']}-{number}", "image": image, "text": text, "picture": row["id"], **own}


def captions_of(said: Said, most: int) -> list[str]:
    """Up to ``most`` captions: the name; the name with all keywords; then the name with two of them, ever others."""
    keywords = [word for word in said.keywords if word != said.name]
    pairs = list(combinations(keywords, 2)) if len(keywords) > 2 else []
    random.Random(said.name).shuffle(pairs)
    chosen = [(), tuple(keywords), *pairs]
    texts = [f"{said.name}: {', '.join(words)}" if words else said.name for words in chosen]
    return list(dict.fromkeys(texts))[:most]


def _on_white(png: bytes, size: int) -> dict[str, Any]:
    from PIL import Image

    picture = opened(png)
    white = Image.new("RGBA", (SIDE, SIDE), "white")
    return png_of(Image.alpha_composite(white, picture).convert("RGB").resize((size, size), Image.Resampling.LANCZOS))


# --- what is composed ---


def _composed(view: str, split: str, count: int, seed: int, settings: Mapping[str, Any]) -> Dataset:
    shared = settings.get("shared", True)
    shown = cast(split, shared=shared, only=settings["only"], count=settings["kinds"])
    if len(shown.classes) > _RANGES["kinds"][1]:
        raise UserError(f"{len(shown.classes)} emoji are too many classes; name fewer than 255 with 'kinds' or 'only'")

    def build(target: Path) -> None:
        rows, columns = _MAKERS[view](shown, settings, split, count, seed)
        _write(target, rows, columns, count, f"composing {view}")

    return read_table(build_once(f"emoji/{view}", fingerprint(_VERSION, stamp(), split, count, seed, settings), build))


Made = tuple[Iterator[dict[str, Any]], "Features"]


def _scenes(shown: Cast, settings: Mapping[str, Any], split: str, count: int, seed: int) -> Made:
    style = scenes.Style(**{name: settings[name] for name in ("size", "objects", "background", "tint", "shared")})
    return scenes.rows(shown, style, split, count, seed), scenes.features(shown.classes)


def _objects(shown: Cast, settings: Mapping[str, Any], split: str, count: int, seed: int) -> Made:
    style = scenes.Style(**{name: settings[name] for name in ("size", "background", "tint")}, shared=True)
    return scenes.object_rows(shown, style, split, count, seed), scenes.object_features(shown.classes)


def _clips(shown: Cast, settings: Mapping[str, Any], split: str, count: int, seed: int) -> Made:
    style = scenes.Style(**{name: settings[name] for name in ("size", "background", "tint", "shared")})
    return clips.rows(shown, style, settings["frames"], split, count, seed), clips.features(shown.classes)


def _clouds(shown: Cast, settings: Mapping[str, Any], split: str, count: int, seed: int) -> Made:
    plan = clouds.Plan(**{name: settings[name] for name in ("size", "points", "views", "objects", "shared")})
    return clouds.rows(shown, plan, split, count, seed), clouds.features(shown.classes)


_MAKERS: dict[str, Callable[..., Made]] = {"scenes": _scenes, "objects": _objects, "clips": _clips, "clouds": _clouds}


def _write(target: Path, rows: Iterator[Mapping[str, Any]], columns: Features, count: int, title: str) -> None:
    with TableWriter(target, columns.arrow_schema, batch=_BATCH) as table, patient_bar(title) as tick:
        for number, row in enumerate(rows, 1):
            table.add(row)
            tick(min(number, count), count)
