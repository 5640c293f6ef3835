"""How commands speak: results on stdout, as a table for people or JSON for machines; everything else on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

PIPE_WIDTH = 10_000
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text.")]


def write(text: str = "") -> None:
    """One piece of the result, on stdout."""
    typer.echo(text)


def write_json(value: Any) -> None:
    """The result as JSON on stdout; NaN and infinity are refused, because no JSON reader takes them."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def write_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """A table on stdout; numbers to the right, long cells wrapped.

    On a terminal it takes the terminal's width; into a pipe or a file it is as wide as it must be, one row a line.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    cells = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        numeric = bool(cells) and all(isinstance(row[place], int | float) for row in cells)
        table.add_column(column, justify="right" if numeric else "left")
    for row in cells:
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(table)


def say(sentence: str) -> None:
    """A word to the person on stderr: progress, notes, errors. Never a part of the result."""
    typer.echo(sentence, err=True)
