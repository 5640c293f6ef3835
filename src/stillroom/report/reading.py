"""A run folder, read and checked: what the report, the card and the comparison are made of.

`Run` is the folder as it lies on disk; nothing here is computed. A file that is absent leaves its part empty; a file
that is there and doesn't hold what it should is refused with its name and field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from stillroom.errors import UserError
from stillroom.report.schema import About, Evaluation, Line
from stillroom.report.text import shorten, without_keys

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        folder: where it lies.
        about: ``run.json``.
        recipe: the text of ``recipe.yaml``, keys to paid services taken out.
        logged: the lines of ``metrics.jsonl`` of every trained system by its name, the run's own method first, then
            what lies in ``against/``.
        evaluation: what was measured, if anything was.
    """

    folder: Path
    about: About
    recipe: str = ""
    logged: dict[str, list[Line]] = field(default_factory=dict, repr=False)
    evaluation: Evaluation | None = None

    def settings(self) -> dict[str, Any]:
        """The recipe as a mapping from dotted key to value, in the order of the file."""
        try:
            content = yaml.safe_load(self.recipe)
            return dict(_flat(content)) if content else {}
        except yaml.YAMLError as error:
            first = str(error).partition("\n")[0]
            raise UserError(f"{self.folder / 'recipe.yaml'} is not YAML ({first}); mend it or repeat the run") from None


def read(folder: Path | str) -> Run:
    """Read a run folder.

    Raises:
        UserError: there is no run there, or one of its files doesn't hold what it should.
    """
    folder = Path(folder)
    evaluation, recipe = folder / "evaluation.json", folder / "recipe.yaml"
    if not (folder / "run.json").is_file():
        if recipe.is_file():
            raise UserError(f"the run in {folder} is not finished: go on with `stillroom distill {recipe} --resume`")
        raise UserError(
            f"{folder} is no run folder: it holds no run.json; give a folder that `stillroom distill` has written"
        )
    about = _checked(About, _json(folder / "run.json"), folder / "run.json")
    about.command = without_keys(about.command)
    return Run(
        folder=folder,
        about=about,
        recipe=without_keys(recipe.read_text("utf-8", "replace")) if recipe.is_file() else "",
        logged={name: lines for name, lines in _logged(folder, about.method or "student") if lines},
        evaluation=_checked(Evaluation, _json(evaluation), evaluation) if evaluation.is_file() else None,
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8", "replace"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not JSON (line {error.lineno}: {error.msg}); write it anew by repeating the run"
        ) from None


def _logged(folder: Path, method: str) -> Iterator[tuple[str, list[Line]]]:
    yield method, _lines(folder / "metrics.jsonl")
    for path in sorted(folder.glob("against/*/metrics.jsonl")):
        yield shorten(path.parent.name, 100), _lines(path)


def _lines(path: Path) -> list[Line]:
    """The lines by step; of a step that was logged twice, before and after a resume, the later one."""
    if not path.is_file():
        return []
    rows = path.read_text("utf-8", "replace").splitlines()
    kept: dict[tuple[int, bool], Line] = {}
    for position, row in enumerate(rows):
        try:
            line = _checked(Line, json.loads(row), f"{path}, line {position + 1},")
        except json.JSONDecodeError as error:
            if position == len(rows) - 1:  # a killed run leaves its last line torn
                break
            raise UserError(
                f"{path}, line {position + 1}, is not JSON: {error.msg}; repeat the run or remove the line"
            ) from None
        kept[line.step, bool(line.evaluation)] = line
    return sorted(kept.values(), key=lambda line: line.step)


def _checked(kind: type[Model], data: Any, where: Path | str) -> Model:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        found = shorten(repr(first["input"]), 60)
        raise UserError(f"{where} is wrong{f' at {field}' if field else ''}: {first['msg']}, found {found}") from None


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list) and value:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(part, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
