"""Scenes with captions: the shared data of grounds on which pictures and texts meet.

A scene is a square of 32 pixels with one to three emoji of 120 on a flat background, and its caption is a sentence of a
small grammar ("a triangular ruler to the right of a sushi on a purple background"). All splits show the same emoji; no
combination of emoji and background is in two of them. In the test no two captions are the same, so that there is one
right picture for each. `objects` shows the same emoji alone, for classification by name.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.files import load

SIZE, KINDS, OBJECTS = 32, 120, (1, 3)
COUNTS = {False: {"train": 8_000, "validation": 200, "test": 500}, True: {"train": 96, "validation": 16, "test": 16}}
_OPTIONS: dict[str, Any] = {"size": SIZE, "objects": OBJECTS, "kinds": KINDS, "shared": True}


def scenes(split: str, count: int) -> Any:
    """The first scenes of a split, with all that is known of them (see `stillroom.data.emoji`)."""
    return load("emoji", view="scenes", split=split, limit=count, **_OPTIONS)


@cache
def captioned(split: str, smoke: bool, corrupted: float = 0.0) -> str:
    """A file of scenes, {image, text, clean}.

    Args:
        split: train, validation or test.
        smoke: a few rows only.
        corrupted: the share of rows whose captions changed places among each other; ``clean`` is false for them.
    """
    count = COUNTS[smoke][split]

    def build(folder: Path) -> None:
        folder.mkdir()
        rows = scenes(split, count * 3 // 2 if split == "test" else count).select_columns(["image", "caption"])
        rows = rows.rename_column("caption", "text")
        if split == "test":
            rows = rows.select(sorted(_first_of_each(rows["text"])[:count]))
        texts = list(rows["text"])
        moved = exchanged(texts, corrupted)
        for place, other in moved.items():
            texts[place] = rows["text"][other]
        marks = [place not in moved for place in range(len(rows))]
        rows = rows.remove_columns("text").add_column("text", texts).add_column("clean", marks)
        rows.to_parquet(str(folder / "rows.parquet"))

    mark = fingerprint(_OPTIONS, split, count, corrupted)
    return str(build_once(f"testbeds/scenes-{split}", mark, build) / "rows.parquet")


def exchanged(texts: list[str], share: float) -> dict[int, int]:
    """Row -> the row whose text it gets, for this share of the rows; each gets a text that differs from its own."""
    draw = random.Random(0)
    chosen = draw.sample(range(len(texts)), round(share * len(texts)))
    others = draw.sample(chosen, len(chosen))

    def wrong() -> list[int]:
        return [at for at, (own, new) in enumerate(zip(chosen, others, strict=True)) if texts[own] == texts[new]]

    while met_itself := wrong():
        for at in met_itself:
            other = draw.randrange(len(others))
            others[at], others[other] = others[other], others[at]
    return dict(zip(chosen, others, strict=True))


def _first_of_each(texts: Any) -> list[int]:
    seen: dict[str, int] = {}
    for place, text in enumerate(texts):
        seen.setdefault(text, place)
    return list(seen.values())


@cache
def objects(count: int) -> Any:
    """Pictures of the test that show one emoji of the 120 each, with its number as ``label``."""
    return load("emoji", view="objects", split="test", limit=count, size=SIZE, kinds=KINDS)
