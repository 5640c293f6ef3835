"""What a model was trained on, as far as its folder tells: its own recipe, and those of the models it comes from.

A run keeps its recipe beside its model. So from a student one finds its rows, its teacher, the teacher's rows, and so
on; a score on any of these rows says nothing, not even where only the teacher's teacher had seen them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stillroom.errors import UserError
from stillroom.evaluate.leakage import refuse_seen

log = logging.getLogger(__name__)

RECIPE = "recipe.yaml"
LEVELS = 4  # folders between a model and the run's recipe: model, or against/NAME/model
TEXTS = ("anchor", "prompt", "text", "positive", "completion")


class TrainedOn(NamedTuple):
    """A model, and one of the sources of its rows, as its recipe has it."""

    model: str
    source: dict[str, Any]


def trained_on(model: str) -> Iterator[TrainedOn]:
    """The training rows of a model and of all the models that it comes from, each once; those of the hub aside."""
    waiting, known = [model], set[str]()
    while waiting:
        one = waiting.pop(0)
        recipe = _recipe_of(one)
        if recipe is None or one in known:
            continue
        known.add(one)
        sources = recipe.get("data", {}).get("train", [])
        yield from (
            TrainedOn(one, source if isinstance(source, dict) else {"source": source})
            for source in (sources if isinstance(sources, list) else [sources])
        )
        teacher, student = recipe.get("teacher") or {}, recipe.get("student") or {}
        others = [teacher, student, *(teacher.get("group") or {}).values(), student.get("cut") or {}]
        waiting += [
            place for other in others if (place := other.get("model") or other.get("of")) and place != "teacher"
        ]


def refuse_trained_on(model: str, rows: Any, teacher: str | None = None) -> None:
    """Refuse rows that the model, or one it comes from, was trained on; by n-grams of their texts.

    Args:
        model: a folder or hub id.
        rows: what is to be measured on.
        teacher: whom it is held against; its rows count as well.

    Raises:
        UserError: more than one in a hundred stands in the training rows.
    """
    items = list(_texts(rows))
    if not any(items):
        return
    for whose, source in (found for one in (model, teacher) if one is not None for found in trained_on(one)):
        refuse_seen(items, _texts(_read(source, whose)), whose=whose)


def _recipe_of(model: str) -> dict[str, Any] | None:
    folder = Path(model)
    if not folder.is_dir():
        return None
    for place in [folder.absolute(), *folder.absolute().parents][:LEVELS]:
        if (place / RECIPE).is_file():
            plain = yaml.safe_load((place / RECIPE).read_text(encoding="utf-8"))
            return plain if isinstance(plain, dict) else None
    return None


def _read(source: dict[str, Any], whose: str) -> Any:
    from stillroom.data.files import load

    plain = {name: value for name, value in source.items() if name != "options"}
    try:
        return load(plain.pop("source"), **plain, **(source.get("options") or {}))
    except UserError as error:
        log.warning("the rows that %s was trained on can't be read, so nothing was held against them: %s", whose, error)
        return []


def _texts(rows: Any) -> Iterator[str]:
    """Each row as one text: what is asked, and what is answered."""
    for row in rows:
        if row.get("messages"):
            yield " ".join(turn["content"] for turn in row["messages"])
        else:
            yield " ".join(row[name] for name in TEXTS if isinstance(row.get(name), str))
