"""``stillroom methods``: the catalogue as a table."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from stillroom import catalog
from stillroom.cli.output import JsonOption, say, write_json, write_table
from stillroom.source import SIGNALS


def command(
    family: Annotated[str | None, typer.Option(help=f"Only one of: {', '.join(catalog.families())}.")] = None,
    state: Annotated[str | None, typer.Option(help=f"Only one of: {', '.join(catalog.STATES)}.")] = None,
    needs: Annotated[
        str | None, typer.Option(help=f"Only methods that ask a model for one of: {', '.join(SIGNALS)}.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the catalogue: which systems there are, in which state, and what they need of a model."""
    chosen = catalog.systems(family=family, state=state, needs=needs)
    if as_json:
        write_json([describe(system) for system in chosen])
        return
    if chosen:
        write_table(("slug", "family", "state", "title"), [(s.slug, s.family, s.state, s.title) for s in chosen])
    counts = Counter(system.state for system in chosen)
    say(f"{len(chosen)} systems: " + ", ".join(f"{counts[state]} {state}" for state in catalog.STATES))


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
    }
