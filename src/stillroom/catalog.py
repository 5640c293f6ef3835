"""The catalogue: 222 published systems, each found by its one name and imported only when asked for.

``catalog.toml`` holds what never changes: number, slug, family, title. Whether a system is built, and whether its claim
was put to the test, is not written down anywhere: it is read off the files that are there. ``taxonomy.toml`` says how
each system answers the axes of the surveys in the catalogue.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from stillroom.errors import UserError, nearest
from stillroom.source import PACKAGE, SIGNALS, Source
from stillroom.taxonomy import SHIPS, Axis, Tags, checked, conditions, holds, union

SURVEYS = ("survey-kd", "survey-llm-kd-methods", "survey-llm-kd", "survey-kd-principles")
State = Literal["planned", "implemented", "reproduced"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class System:
    """One row of the catalogue.

    Attributes:
        number: its place in the list that the catalogue was made from.
        slug: its name everywhere: file, command line, docs page, result, test.
        family: the folder under ``methods``.
        title: of the paper.
    """

    number: int
    slug: str
    family: str
    title: str

    @property
    def module(self) -> str:
        """The dotted name of the method's module, there or not."""
        return f"stillroom.methods.{self.family}.{self.slug.replace('-', '_')}"

    @property
    def path(self) -> Path:
        """The method's file, there or not."""
        return PACKAGE / "methods" / self.family / f"{self.slug.replace('-', '_')}.py"

    @property
    def result_path(self) -> Path:
        """What `stillroom reproduce` measured, there or not."""
        return PACKAGE / "results" / f"{self.slug}.json"

    @property
    def state(self) -> State:
        """``planned`` without a file, ``implemented`` with one, ``reproduced`` when a result was measured as well."""
        if not self.path.exists():
            return "planned"
        return "reproduced" if self.result_path.exists() else "implemented"

    @property
    def source(self) -> Source | None:
        """What the method's file says about itself; None while it is planned."""
        return None if self.state == "planned" else Source(self.path)

    @property
    def tags(self) -> Tags:
        """Axis -> its values, in the order of `axes`; an axis that is silent about the system is not there."""
        return _tags()[self.slug]

    @property
    def result(self) -> dict[str, Any] | None:
        """What was measured; None while nothing was."""
        return json.loads(self.result_path.read_text(encoding="utf-8")) if self.state == "reproduced" else None


@cache
def _rows() -> dict[str, System]:
    with (PACKAGE / "catalog.toml").open("rb") as file:
        rows = [System(**row) for row in tomllib.load(file)["system"]]
    return {row.slug: row for row in rows}


@cache
def axes() -> dict[str, Axis]:
    """The axes of the taxonomy by their names: those of the four surveys, and what a system ships."""
    methods = (import_module(f"stillroom.methods.analysis.{slug.replace('-', '_')}") for slug in SURVEYS)
    own = (getattr(module, module.__all__[0])() for module in methods)
    return union([*(axis for survey in own for axis in survey), SHIPS])


@cache
def _tags() -> dict[str, Tags]:
    """The tags of every system.

    Raises:
        ValueError: a system has none, or one that is on no axis.
    """
    with (PACKAGE / "taxonomy.toml").open("rb") as file:
        given = tomllib.load(file)
    if astray := sorted(set(given) ^ set(_rows())):
        raise ValueError(f"taxonomy.toml and catalog.toml must name the same systems; {astray[0]!r} is in one only")
    return {slug: checked(slug, given[slug], axes()) for slug in _rows()}


def families() -> tuple[str, ...]:
    """The families, in the order of the catalogue."""
    return tuple(dict.fromkeys(row.family for row in _rows().values()))


def systems(
    family: str | None = None,
    state: str | None = None,
    needs: str | None = None,
    where: Mapping[str, str | Iterable[str]] | None = None,
) -> tuple[System, ...]:
    """The rows of the catalogue.

    Args:
        family: only this family.
        state: only ``planned``, ``implemented`` (which what is reproduced is too) or ``reproduced``.
        needs: only built methods that ask a model for this kind of signal, one of `stillroom.source.SIGNALS`.
        where: axis -> a value or several: only systems that have one of them, on every axis that is named.

    Raises:
        UserError: there is no such family, state, signal, axis or value.
    """
    _one_of("family", family, families())
    _one_of("state", state, STATES)
    _one_of("signal", needs, SIGNALS)
    chosen = (row for row in _rows().values() if family in (None, row.family) and state in (None, *_reached(row.state)))
    if needs is not None:
        chosen = (row for row in chosen if row.source and needs in row.source.needs)
    if where:
        wanted = conditions(where, axes())
        chosen = (row for row in chosen if holds(row.tags, wanted))
    return tuple(chosen)


def _reached(state: State) -> tuple[State, ...]:
    return ("implemented", "reproduced") if state == "reproduced" else (state,)


def _one_of(what: str, name: str | None, known: tuple[str, ...]) -> None:
    if name is not None and name not in known:
        raise UserError(f"there is no {what} {name!r} among {', '.join(known)}{nearest(name, known)}")


def find(slug: str) -> System:
    """The row of this slug.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    if slug not in _rows():
        raise UserError(f"there is no system {slug!r} in the catalogue{nearest(slug, _rows())}")
    return _rows()[slug]


def load(slug: str) -> Any:
    """The method itself: the class or function that its module's ``__all__`` names first.

    Raises:
        UserError: there is no such system, or it is not built yet.
    """
    system = find(slug)
    if system.state == "planned":
        raise UserError(
            f"{slug!r} is in the catalogue but not built yet; `stillroom methods --state implemented` lists what is"
        )
    module = import_module(system.module)
    return getattr(module, module.__all__[0])


def resolve(name: str) -> Any:
    """A method by its slug, or a baseline (``sft``, ``forward_kl``, ...) by its name.

    Raises:
        UserError: it is neither; the message names the nearest of both.
    """
    if name in _rows():
        return load(name)
    from stillroom.methods.baselines import BASELINES

    if name not in BASELINES:
        raise UserError(
            f"there is no method {name!r}, neither in the catalogue (`stillroom methods`) nor among the baselines "
            f"{', '.join(BASELINES)}{nearest(name, [*_rows(), *BASELINES])}"
        )
    return BASELINES[name]
