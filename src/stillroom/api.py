"""The verbs that start from a recipe, for Python: a recipe file, or its keys as arguments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.errors import UserError

if TYPE_CHECKING:
    from stillroom.planning import Plan
    from stillroom.recipe import Recipe
    from stillroom.run import Run


def distill(
    recipe: str | Path | None = None, *, overrides: Sequence[str] = (), resume: bool = False, **keys: Any
) -> Run:
    """Train a student, measure what survived, write the report.

    Args:
        recipe: a YAML file; or None, with the recipe's keys as arguments: ``teacher``, ``student``, ``data``,
            ``method`` and so on. ``task`` is then ``language`` unless given, and the run is named after method and
            student.
        overrides: ``key.inner=value`` strings on top of a file, as after ``--set``.
        resume: go on from the newest checkpoint of a run that was stopped.
        keys: the recipe, where no file is given.

    Raises:
        UserError: the recipe can't work as it stands, or the run is there already.
    """
    from stillroom.run import distill as run

    return run(make_recipe(recipe, overrides, keys), resume=resume)


def plan(recipe: str | Path | None = None, *, overrides: Sequence[str] = (), **keys: Any) -> Plan:
    """Look at a recipe before anything loads: what is trained on, where the memory goes, what can't work.

    Args:
        recipe: a YAML file; or None, with the recipe's keys as arguments, as for `distill`.
        overrides: ``key.inner=value`` strings on top of a file.
        keys: the recipe, where no file is given.

    Raises:
        UserError: the recipe can't work as it stands; the message says what to change.
    """
    from stillroom.planning import plan as look

    return look(make_recipe(recipe, overrides, keys))


def label(recipe: str | Path | None = None, *, overrides: Sequence[str] = (), **keys: Any) -> Path:
    """Run the teacher once over the rows and keep its signals; only what is not kept yet is computed.

    Args:
        recipe: a YAML file; or None, with the recipe's keys as arguments, as for `distill`.
        overrides: ``key.inner=value`` strings on top of a file.
        keys: the recipe, where no file is given.

    Returns:
        The folder of the store, for `stillroom.store.Store.open`.

    Raises:
        UserError: there is no teacher that runs here, or its signals can't be kept.
    """
    from stillroom.asking import label as run

    return run(make_recipe(recipe, overrides, keys))


def make_recipe(recipe: str | Path | None, overrides: Sequence[str], keys: dict[str, Any]) -> Recipe:
    """The recipe of a file, or of its keys.

    Raises:
        UserError: both or neither are given, or the recipe is wrong.
    """
    from stillroom.recipe import check, read

    if (recipe is None) == (not keys):
        raise UserError("give either a recipe file or the recipe's keys (teacher, student, data, method, ...)")
    if recipe is not None:
        return read(recipe, overrides)
    if overrides:
        raise UserError("overrides change a recipe file; without one, give the keys as they should be")
    return check({"name": _name(keys)} | keys)


def _name(keys: dict[str, Any]) -> str:
    """``taid-Qwen3-0.6B``: unique enough to be found again, and in nobody's way."""
    parts = (keys.get(part, part) for part in ("method", "student"))
    names = (value.get("name") or value.get("model") or "new" if isinstance(value, dict) else value for value in parts)
    return "-".join(Path(str(name)).name for name in names)
