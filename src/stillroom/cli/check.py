"""``stillroom check``: see that a data file is what a method can learn from."""

from __future__ import annotations

from typing import Annotated

import typer

from stillroom.cli.output import JsonOption, write, write_json


def command(
    data: Annotated[str, typer.Argument(help="A JSONL, JSON, CSV or Parquet file, or a built-in source.")],
    method: Annotated[str | None, typer.Option("--for", help="The method that shall learn from it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every row of a data file; a bad row is named by file and line, with what was expected."""
    from stillroom import catalog
    from stillroom.cli.logs import show_progress
    from stillroom.data.files import load
    from stillroom.data.rows import recognise
    from stillroom.engine.encoding import check_format
    from stillroom.recipe import task_of
    from stillroom.views.load import view_class

    show_progress()
    if method is not None:
        catalog.resolve(method)
    rows = load(data)
    found = recognise(rows.column_names)
    if method is not None:
        check_format(rows.column_names, view_class(task_of(method)).formats, data, repr(method))
    if as_json:
        write_json({"rows": len(rows), "format": found, "columns": rows.column_names})
        return
    write(f"{data}: {len(rows):,} rows of the format {found}, all good")
