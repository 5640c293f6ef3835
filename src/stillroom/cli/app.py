"""The entry point: the table of commands, and the one place where an error becomes a sentence and an exit code.

0 done, 1 failed, 2 wrong use, 130 stopped by Ctrl-C. A command's module is imported when the command runs and no
earlier, so that help comes at once; hence the help texts stand here. A module of the table has a ``command``: a
function, or a `typer.Typer` where there are commands below it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from traceback import format_exc
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

from stillroom import __version__
from stillroom.cli.output import say, write
from stillroom.errors import UserError

COMMANDS = {
    "plan": "Check a recipe before anything loads: memory, cost, pitfalls.",
    "distill": "Train a student as a recipe says, and measure it.",
    "label": "Run the teacher once over the data and keep its signals.",
    "evaluate": "Measure a student: quality, agreement, speed, size.",
    "compare": "Put finished runs side by side.",
    "methods": "List the catalogue of methods.",
    "show": "Show one method: idea, equation, parameters, result.",
    "reproduce": "Run a method against its baselines and keep the verdict.",
    "export": "Write a student for the library that will serve it.",
    "check": "Check a data file against what a method needs.",
    "cache": "Look into the cache of teacher signals.",
}


def load(name: str) -> Any:
    """The command of this name, from its own module."""
    command = import_module(f"stillroom.cli.{name}").command
    if not isinstance(command, typer.Typer):
        function, command = command, typer.Typer(add_completion=False)
        command.command()(function)
    loaded = get_command(command)
    loaded.name = name
    return loaded


class LazyGroup(TyperGroup):
    """Lists the commands from the table, and imports the one that is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=text) for name, text in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The name, the real command, and the arguments that are left for it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name and command else None, rest


app = typer.Typer(
    cls=LazyGroup, no_args_is_help=True, help="Distil large models into small ones, and measure what survived."
)


def _version(wanted: bool) -> None:
    if wanted:
        write(f"stillroom {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if debug:
        os.environ["STILLROOM_DEBUG"] = "1"


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        outcome = app(list(arguments), prog_name="stillroom", standalone_mode=False)
    except (UserError, TyperException) as error:
        if message := _usage(error):
            say(message)
        return 2
    except typer.Abort:
        say("stopped: no answer was given")
        return 1
    except Exception as error:
        if os.environ.get("STILLROOM_DEBUG"):
            say(format_exc().rstrip())
            return 1
        first_line = str(error).strip().partition("\n")[0]
        say(f"failed: {type(error).__name__}: {first_line} (`stillroom --debug {arguments[0]} ...` shows where)")
        return 1
    if outcome == 130:
        say("stopped by Ctrl-C")
    return outcome if isinstance(outcome, int) else 0


def _usage(error: UserError | TyperException) -> str:
    """The sentence to print; empty where the help was printed instead."""
    message = str(error) if isinstance(error, UserError) else error.format_message()
    context = getattr(error, "ctx", None)
    return f"{message} (`{context.command_path} --help` tells more)" if message and context else message


def main() -> None:
    """The ``stillroom`` command."""
    sys.exit(run(sys.argv[1:]))
