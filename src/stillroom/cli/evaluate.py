"""``stillroom evaluate``: measure a student, alone or beside its teacher."""

from __future__ import annotations

from typing import Annotated

import typer

from stillroom.cli.output import JsonOption, write_json
from stillroom.cli.systems import write_systems


def command(
    student: Annotated[str, typer.Argument(help="The folder of a model.")],
    data: Annotated[str, typer.Option(help="Held-out rows: a file, or a built-in source such as pydocs.")],
    teacher: Annotated[str | None, typer.Option(help="Whom to hold it against: a folder or a hub id.")] = None,
    view: Annotated[str | None, typer.Option(help="Which rows of a built-in source.")] = None,
    split: Annotated[str, typer.Option(help="Which split of a built-in source.")] = "test",
    limit: Annotated[int, typer.Option(help="At most so many rows.")] = 500,
    suite: Annotated[
        list[str] | None,
        typer.Option(help="A further measurement: pydocs-retrieval, word-similarity. May be repeated."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="The kind of model, where its files don't tell.")] = None,
    allow_overlap: Annotated[
        bool,
        typer.Option("--allow-overlap", help="Measure even on rows that the student or its teacher was trained on."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a student: quality on held-out rows, agreement with its teacher, speed, size."""
    from stillroom.cli.logs import show_progress
    from stillroom.measuring import evaluate

    show_progress()
    found = evaluate(
        student,
        data,
        teacher=teacher,
        view=view,
        split=split,
        limit=limit,
        suites=suite or [],
        task=task,
        allow_overlap=allow_overlap,
    )
    if as_json:
        write_json(found)
        return
    write_systems(found)
