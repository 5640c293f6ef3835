"""``stillroom cache``: what a store of teacher signals holds, whether it is whole, and several made into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillroom.cli.output import JsonOption, say, write, write_json, write_table

command = typer.Typer(no_args_is_help=True, add_completion=False, help="Look into the cache of teacher signals.")
Folder = Annotated[Path, typer.Argument(help="The store's folder.", show_default=False)]


@command.command()
def info(path: Folder, as_json: JsonOption = False) -> None:
    """Show what a store holds, who emitted it on what, and what it weighs."""
    from stillroom.store import Store

    found = Store.open(path).info()
    if as_json:
        write_json(found)
        return
    write(f"{found['path']}: {found['rows']:,} rows, {found['bytes']:,} bytes in {found['files']} files")
    columns = ("signal", "codec", "shape of a row", "positions", "bytes a position")
    shapes = {name: signal["shape"] for name, signal in found["header"]["signals"].items()}
    write_table(
        columns,
        [
            (name, signal["codec"], _shape(shapes[name]), signal["positions"], f"{signal['bytes_per_position']:.4g}")
            for name, signal in found["signals"].items()
        ],
    )
    for field, value in found["header"].items():
        if field != "signals" and value is not None:
            write(f"{field}: {value}")


def _shape(shape: list[int | None]) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape) or "one number"


@command.command()
def verify(path: Folder, as_json: JsonOption = False) -> int:
    """Read every file of a store and compare its checksum; exit code 1 if one is missing, torn or altered."""
    from stillroom.data.progress import patient_bar
    from stillroom.store import Store

    store = Store.open(path)
    with patient_bar("reading") as tick:
        faults = store.verify(tick)
    if as_json:
        write_json({"path": str(path), "rows": len(store), "faults": faults})
    elif not faults:
        write(f"{path}: all {len(store)} rows are whole")
    for fault in faults:
        say(fault)
    return 1 if faults else 0


@command.command()
def merge(
    paths: Annotated[list[Path], typer.Argument(help="Stores that were made alike, in order.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new store.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Make one store of several, such as those of processes that shared the work."""
    from stillroom import store
    from stillroom.data.progress import patient_bar

    with patient_bar("merging") as tick:
        merged = store.merge(paths, out, tick)
    if as_json:
        write_json(merged.info())
    else:
        write(f"{out}: {len(merged)} rows from {len(paths)} stores")
