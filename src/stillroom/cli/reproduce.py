"""``stillroom reproduce``: put a method's claim to the test, and keep what came out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from stillroom import catalog
from stillroom.cli.output import JsonOption, say, write, write_json, write_table
from stillroom.errors import UserError


def command(
    slug: Annotated[str | None, typer.Argument(help="The system's name, as in `stillroom methods`.")] = None,
    family: Annotated[
        str | None, typer.Option(help=f"Every built system of one of: {', '.join(catalog.families())}.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="How many seeds; a verdict needs two.")] = 3,
    workers: Annotated[
        int | None, typer.Option(min=1, help="How many seeds at once, in processes that share the cores.")
    ] = None,
    output: Annotated[str, typer.Option(help="Where the page of a family is written.")] = "runs/reproduce",
    smoke: Annotated[bool, typer.Option("--smoke", help="A few steps of one seed, to see that all runs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a method and its baselines from one start over several seeds, and keep the figures and the verdict."""
    from stillroom.cli.logs import show_progress
    from stillroom.reproduce import reproduce
    from stillroom.reproduce import write as keep

    slugs = _chosen(slug, family)
    show_progress()
    logging.getLogger("stillroom").setLevel(logging.WARNING)  # a line a step of a dozen trainings tells nobody anything
    results = []
    for name in slugs:
        result = reproduce(name, seeds=range(1 if smoke else seeds), smoke=smoke, workers=workers, tell=say)
        if not smoke:
            say(f"written: {keep(result)}")
        if not as_json:
            show(result)
        results.append(result)
    if family and not smoke:
        from stillroom.report.family import write_family

        say(f"written: {write_family(family, Path(output))}")
    if as_json:
        write_json(results[0] if slug else results)


def _chosen(slug: str | None, family: str | None) -> list[str]:
    if (slug is None) == (family is None):
        raise UserError("name one system (`stillroom methods` lists them), or give --family for all of one")
    if slug is not None:
        return [slug]
    return [system.slug for system in catalog.systems(family, state="implemented") if _has_bench(system.slug)]


def _has_bench(slug: str) -> bool:
    from stillroom.reproduce import bench_of

    try:
        bench_of(slug)
    except UserError as error:
        say(f"left out: {error}")
        return False
    return True


def show(result: dict[str, Any]) -> None:
    """A result as a table of systems, the claim and the verdict."""
    columns = ("system", "role", result["metric"], "parameters", "training s")
    rows = [
        (name, system["role"], _figure(system), system["parameters"], _seconds(system["train_seconds"]))
        for name, system in result["systems"].items()
    ]
    write_table(columns, rows, title=f"{result['slug']}, {len(result['seeds'])} seeds in {result['seconds']:.0f} s")
    write(f"claim: {result['claim']}")
    write(f"verdict: {result.get('verdict', 'none, for one seed and a few steps show nothing')}")


def _figure(system: dict[str, Any]) -> str:
    """The mean with the half-width of its 95% interval; of one seed the value."""
    if "mean" in system:
        return f"{system['mean']:.4g} ± {system['interval'][1] - system['mean']:.2g}"
    value = system["values"][0]
    return "" if value is None else f"{value:.4g}"


def _seconds(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.1f}" if known else ""
