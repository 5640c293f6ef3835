"""``stillroom label``: run the teacher once over the data and keep its signals."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from stillroom.cli.output import JsonOption, write, write_json
from stillroom.errors import UserError


class Engine(StrEnum):
    """Who runs the teacher."""

    LOCAL = "local"
    RAY = "ray"


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe, a YAML file.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of the recipe: teacher.top_k=32. May be repeated.")
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="Who runs the teacher: this process (local), or workers of Ray Data (ray).")
    ] = Engine.LOCAL,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Of Ray; one a core or GPU of the cluster if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the teacher once over the data and keep its signals; a killed run goes on where it was."""
    from stillroom.asking import label
    from stillroom.cli.logs import show_progress
    from stillroom.recipe import read
    from stillroom.store import Store

    if workers is not None and engine is Engine.LOCAL:
        raise UserError("workers are Ray's: add --engine ray, or leave --workers out")
    show_progress()
    kept = label(read(recipe, set_ or []), engine=engine.value, workers=workers)
    if kept.is_file():  # the journal of an endpoint's answers, after its first line
        with kept.open() as lines:
            answers = sum(1 for _ in lines) - 1
        write_json({"path": str(kept), "answers": answers}) if as_json else write(f"{kept}: {answers:,} answers")
        return
    info = Store.open(kept).info()
    if as_json:
        write_json(info)
        return
    write(f"{info['path']}: {info['rows']:,} rows, {info['bytes']:,} bytes ({', '.join(info['signals'])})")
