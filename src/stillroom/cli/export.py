"""``stillroom export``: write a student for the library that will serve it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from stillroom.cli.output import JsonOption, write, write_json


def command(
    student: Annotated[str, typer.Argument(help="The folder of a model.")],
    to: Annotated[Literal["onnx"], typer.Option(help="The format.")] = "onnx",
    out: Annotated[
        Path | None, typer.Option(help="The file to write; model.onnx beside the model if not given.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The kind of model, where its files don't tell.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a student as ONNX and check that ONNX Runtime gives the same numbers, to 1e-3."""
    from stillroom.cli.logs import show_progress
    from stillroom.export import export_onnx
    from stillroom.views.load import kind_of
    from stillroom.views.locate import locate

    show_progress()
    folder = locate(student)
    target = out or folder / "model.onnx"
    parity = export_onnx(folder, target, task=task or kind_of(student))
    if as_json:
        write_json({"file": str(target), **parity._asdict()})
        return
    write(f"{target}: equal to within {parity.difference:.1e}")
