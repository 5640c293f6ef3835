"""``stillroom methods``: the catalogue as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import typer

from stillroom import catalog
from stillroom.cli.output import JsonOption, say, write_json, write_table
from stillroom.errors import UserError
from stillroom.source import SIGNALS


def command(
    family: Annotated[str | None, typer.Option(help=f"Only one of: {', '.join(catalog.families())}.")] = None,
    state: Annotated[str | None, typer.Option(help=f"Only one of: {', '.join(catalog.STATES)}.")] = None,
    needs: Annotated[
        str | None, typer.Option(help=f"Only methods that ask a model for one of: {', '.join(SIGNALS)}.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS=VALUE[,VALUE]",
            help="Only systems with one of the values on this axis of the taxonomy; repeat it for several axes.",
        ),
    ] = None,
    axes: Annotated[bool, typer.Option("--axes", help="List the axes of the taxonomy and their values.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the catalogue: which systems there are, in which state, and what they need of a model."""
    chosen = catalog.systems(family=family, state=state, needs=needs, where=parsed(where or ()))
    if axes:
        _write_axes(chosen, as_json)
        return
    if as_json:
        write_json([describe(system) for system in chosen])
        return
    if chosen:
        write_table(("slug", "family", "state", "title"), [(s.slug, s.family, s.state, s.title) for s in chosen])
    counts = Counter(system.state for system in chosen)
    say(f"{len(chosen)} systems: " + ", ".join(f"{counts[state]} {state}" for state in catalog.STATES))


def parsed(where: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The conditions of ``--where``: axis -> values.

    Raises:
        UserError: one is not of the form AXIS=VALUE, or an axis comes twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in where:
        axis, _, values = text.partition("=")
        if not axis or not all(values.split(",")):
            raise UserError(f"--where takes AXIS=VALUE or AXIS=VALUE,VALUE, such as access=black-box; it was {text!r}")
        if axis in found:
            raise UserError(f"--where names the axis {axis!r} twice; write its values as {axis}=VALUE,VALUE")
        found[axis] = tuple(values.split(","))
    return found


def describe(system: catalog.System) -> dict[str, object]:
    """One row for a machine; ``kind`` and ``needs`` are null while the system is planned."""
    source = system.source
    return {
        "slug": system.slug,
        "number": system.number,
        "family": system.family,
        "title": system.title,
        "state": system.state,
        "kind": source.kind if source else None,
        "needs": list(source.needs) if source else None,
        "tags": {axis: list(values) for axis, values in system.tags.items()},
    }


def _write_axes(chosen: Sequence[catalog.System], as_json: bool) -> None:
    """Every value of every axis, and how many of the chosen systems have it."""
    counts = Counter((axis, value) for system in chosen for axis, values in system.tags.items() for value in values)
    rows = [
        (axis.name, value.name, counts[axis.name, value.name], value.text)
        for axis in catalog.axes().values()
        for value in axis.values
    ]
    columns = ("axis", "value", "systems", "meaning")
    if as_json:
        write_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        write_table(columns, rows)
