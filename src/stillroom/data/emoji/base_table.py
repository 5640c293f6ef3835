"""The atlas: one row for every picture of an emoji, with its English name, groups, family and split.

Built once from the font and CLDR's files. Emoji with one and the same picture (the flags of Norway and Svalbard) are
one row, that of the first. Left out are single tones and hair, ASCII characters, and emoji newer than CLDR's order, of
whose group nothing is known.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.emoji.annotations import CLDR, INSTALL_NAMES, labels, names
from stillroom.data.emoji.colours import main_colour
from stillroom.data.emoji.families import HAIR, TONES, base_of, families
from stillroom.data.emoji.font import FONT, INSTALL_FONT, EmojiFont
from stillroom.data.progress import patient_bar
from stillroom.data.tables import part_of, read_table, share, write_table
from stillroom.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from PIL import Image

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
SIDE = 136
"""Pixels of a picture's side, as the font has it."""

DRAWN = ("Smileys & People", "Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects")
"""The groups that scenes, clips and clouds are composed of unless others are named: all but symbols and flags."""

_VERSION = 1  # of what is read and how it is split; a change makes what is in the cache stale
_LOOK = 16  # pixels of the side at which pictures are compared


def stamp() -> str:
    """Changes with the installed font and names; part of the address of everything that is made from them."""
    if not FONT.is_file():
        raise UserError(INSTALL_FONT)
    files = [FONT, CLDR / "annotations" / "en.xml", CLDR / "properties" / "labels.txt", CLDR / "collation" / "root.xml"]
    if not all(path.is_file() for path in files):
        raise UserError(INSTALL_NAMES)
    return fingerprint(_VERSION, [(path.stat().st_size, path.stat().st_mtime_ns) for path in files])


def atlas() -> Dataset:
    """The table.

    Returns:
        ``id``: code points, ``1f468-200d-1f680``; ``emoji``; ``name``; ``group``; ``subgroup``; ``base``: what stands
        for all its variants; ``variant``: false for the first of them; ``family`` and ``split``; ``colour``, or ""
        where no colour is clear; ``png``.
    """
    import pyarrow as pa

    def build(target: Path) -> None:
        text = ("id", "emoji", "name", "group", "subgroup", "base", "family", "split", "colour")
        schema = pa.schema(
            [*((name, pa.string()) for name in text), ("variant", pa.bool_()), ("png", pa.binary())],
        )
        write_table(target, _rows(), schema)

    return read_table(build_once("emoji/atlas", stamp(), build))


def _rows() -> Iterator[dict[str, Any]]:
    font, english = EmojiFont(), names("en")
    bases, pngs = dict[str, str](), dict[bytes, str]()
    for text in english:
        png = None if text.isascii() or text in TONES + HAIR else font.png(text)
        if png and pngs.setdefault(png, text) == text:
            bases[text] = base_of(text)
    label_of = labels(bases)
    bases = {text: base for text, base in bases.items() if text in label_of}
    looks, colours = _looks(font, list(bases))
    family_of = families(bases, {text: english[text].name for text in bases}, looks)
    shown = dict[str, str]()
    for text, base in bases.items():
        shown.setdefault(base, base if base in bases else text)
    for text, base in bases.items():
        group, subgroup = label_of[text]
        yield {
            "id": "-".join(f"{ord(character):x}" for character in text),
            "emoji": text,
            "name": english[text].name,
            "group": group,
            "subgroup": subgroup,
            "base": base,
            "variant": shown[base] != text,
            "family": family_of[text],
            "split": part_of(family_of[text], SHARES, salt="emoji"),
            "colour": colours[text],
            "png": font.png(text),
        }


def _looks(font: EmojiFont, texts: Sequence[str]) -> tuple[np.ndarray, dict[str, str]]:
    """How each picture looks at 16 x 16 pixels, [emoji, values] in [0, 1], and its main colour."""
    import numpy as np

    looks, colours = np.empty((len(texts), _LOOK * _LOOK * 4), "float32"), {}
    with patient_bar("reading the pictures of emoji") as tick:
        for place, text in enumerate(texts):
            picture = opened(font.png(text) or b"").reduce(4)
            looks[place] = np.asarray(picture.convert("RGBa").resize((_LOOK, _LOOK)), "float32").ravel() / 255
            colours[text] = main_colour(picture)
            tick(place + 1, len(texts))
    return looks, colours


def opened(png: bytes) -> Image.Image:
    """A picture as RGBA, in the middle of a transparent square of `SIDE` pixels."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    square = Image.new("RGBA", (SIDE, SIDE))
    square.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    return square


def png_of(picture: Image.Image) -> dict[str, Any]:
    """A picture as a column of `datasets.Image` holds it."""
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=3)
    return {"bytes": file.getvalue(), "path": None}


@dataclass(frozen=True)
class Kind:
    """An emoji that scenes are composed of. ``label``: the number of its class."""

    id: str
    emoji: str
    name: str
    group: str
    colour: str
    label: int
    png: bytes

    def picture(self) -> Image.Image:
        """RGBA, `SIDE` pixels square."""
        return _opened(self.png)


@lru_cache(maxsize=256)
def _opened(png: bytes) -> Image.Image:
    return opened(png)


@dataclass(frozen=True)
class Cast:
    """The kinds that may appear, and the names of the classes."""

    kinds: tuple[Kind, ...]
    classes: tuple[str, ...]


def cast(split: str, *, shared: bool, only: Sequence[str] | None, count: int | None) -> Cast:
    """Which emoji appear in the scenes, clips and clouds of a split.

    Without ``shared`` they are pictures of that split, and classes are the groups. With it, all splits show the same
    pictures, which are those of ``train``, and each of them is a class.

    Args:
        split: whose pictures.
        shared: the same ones in all splits.
        only: names of emoji, groups or subgroups, or emoji themselves; `DRAWN`, one picture of each family, if None.
        count: so many of them, taken from as many subgroups as can be; a smaller number are the first of a larger one.

    Raises:
        UserError: nothing is called like that, or there are fewer.
    """
    table = atlas().remove_columns("png")
    wanted = set(DRAWN if only is None else only)
    known = {value for name in ("name", "group", "subgroup", "emoji") for value in table[name]}
    for name in wanted - known:
        raise UserError(f"no emoji, group or subgroup of emoji is called {name!r}{nearest(name, known)}")
    families = set[str]()
    rows = []
    for place, row in enumerate(table):
        asked = not wanted.isdisjoint((row["name"], row["group"], row["subgroup"], row["emoji"]))
        if not asked or row["split"] != ("train" if shared else split):
            continue
        if row["variant"] and wanted.isdisjoint((row["name"], row["emoji"])):
            continue
        if only is None and row["family"] in families:
            continue
        families.add(row["family"])
        rows.append((place, row))
    rows = _spread(rows)
    if not rows or (count is not None and count > len(rows)):
        where = "train, whose pictures all splits share," if shared else split
        raise UserError(f"{where} has {len(rows)} emoji of that kind; {count or 'at least 1'} were asked for")
    chosen = rows[:count]
    classes = [row["name"] for _, row in chosen] if shared else sorted(set(table["group"]))
    pngs = atlas().select([place for place, _ in chosen])["png"]
    kinds = (
        Kind(
            id=row["id"],
            emoji=row["emoji"],
            name=row["name"],
            group=row["group"],
            colour=row["colour"],
            label=number if shared else classes.index(row["group"]),
            png=png,
        )
        for number, ((_, row), png) in enumerate(zip(chosen, pngs, strict=True))
    )
    return Cast(tuple(kinds), tuple(classes))


def _spread(rows: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, dict[str, Any]]]:
    """The rows in an order that visits all subgroups before it comes back to one."""
    mixed = sorted(rows, key=lambda row: share(row[1]["id"], salt="kind"))
    seen = dict[str, int]()
    rounds = {}
    for place, row in mixed:
        rounds[place] = seen[row["subgroup"]] = seen.get(row["subgroup"], -1) + 1
    return sorted(mixed, key=lambda found: (rounds[found[0]], share(found[1]["subgroup"], salt="kind")))
