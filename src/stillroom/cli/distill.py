"""``stillroom distill``: train a student as a recipe says, measure it, and write the report."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from stillroom.cli.output import JsonOption, say, write_json
from stillroom.cli.systems import write_systems


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe, a YAML file.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of the recipe: train.steps=100. May be repeated.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Methods to hold it against, with commas: sft,forward_kl,untrained.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a killed run.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a student as a recipe says, measure what survived, and write the model, its card and the report."""
    from stillroom.cli.logs import show_progress
    from stillroom.recipe import read
    from stillroom.run import distill

    show_progress()
    overrides = [*(set_ or []), *([f"against=[{against}]"] if against else [])]
    repeat = ["stillroom", "distill", recipe, *(part for override in set_ or [] for part in ("--set", override))]
    repeat += ["--against", against] if against else []
    run = distill(read(recipe, overrides), resume=resume, command=shlex.join(repeat))
    if not run.evaluation:  # one of several processes, and not the first
        return
    if as_json:
        write_json(run.evaluation | {"folder": str(run.folder)})
        return
    write_systems(run.evaluation)
    say(f"model: {run.model}\nreport: {run.report}")
