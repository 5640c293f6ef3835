"""``stillroom compare``: several finished runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillroom.cli.output import JsonOption, say, write, write_json, write_table


def command(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs, two or more.", show_default=False)],
    as_json: JsonOption = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write the comparison as a page to this file.")] = None,
) -> None:
    """Put finished runs side by side: where their recipes differ, what the students reached, what they cost."""
    from stillroom.report.comparison import compare, groups, write_comparison

    comparison = compare(runs)
    if html is not None:
        say(f"written: {write_comparison(runs, html)}")
    if as_json:
        write_json(comparison)
        return
    names = [run["name"] for run in comparison["runs"]]
    for title, rows in groups(comparison):
        write_table(("", *names), [(row.title, *row.cells) for row in rows], title=title)
    for run in comparison["runs"]:
        write(f"{run['name']}: {run['verdict']}")
    for note in comparison["notes"]:
        say(note)
