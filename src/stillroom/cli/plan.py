"""``stillroom plan``: check a recipe before anything loads, and say what it will cost."""

from __future__ import annotations

from typing import Annotated

import typer

from stillroom.cli.output import JsonOption, say, write, write_json, write_table

UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe, a YAML file.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of the recipe: train.steps=100. May be repeated.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="How many the run is launched as; the memory is that of one of them.")
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Check a recipe without loading a model: what is trained on, where the memory goes, what can't work."""
    from stillroom.cli.logs import show_progress
    from stillroom.planning import plan
    from stillroom.recipe import read

    show_progress()
    found = plan(read(recipe, set_ or []), processes=processes)
    if as_json:
        write_json(found.as_dict())
        return
    for warning in found.warnings:
        say(f"note: {warning}")
    for asked in found.questions:
        cost = "" if asked.money is None else f", {asked.money:.2f} in money at most"
        write(
            f"step {asked.step}: {asked.number:,} questions to ask ({asked.answered:,} are answered), about "
            f"{asked.tokens_in:,} tokens of prompts and at most {asked.tokens_out:,} of answers{cost}"
        )
    if found.questions:
        return
    if found.tokenizers:
        write(found.tokenizers)
    write(
        f"{found.rows:,} rows, {found.steps:,} steps, {found.tokens:,} tokens a method; "
        f"{found.counts.trained_share:.1%} of all tokens are trained"
    )
    write(f"about {found.flops:.2g} floating-point operations a method")
    if found.cache_bytes is not None:
        write(f"the cache of the teacher's signals: {size(found.cache_bytes)}")
    if found.saved:
        write(f"logits that are never made, as the loss comes from hidden states in chunks: {size(found.saved)} saved")
    rows = [(term, size(number)) for term, number in found.memory.items()]
    write_table(("memory", "bytes"), [*rows, ("together", size(sum(found.memory.values())))])


def size(number: float) -> str:
    """Bytes as people read them: 1.23 GB."""
    for unit, step in UNITS:
        if number >= step:
            return f"{number / step:.3g} {unit}"
    return f"{number:.0f} B"
