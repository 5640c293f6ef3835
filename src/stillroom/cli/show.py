"""``stillroom show SLUG``: one system's page."""

from __future__ import annotations

from dataclasses import asdict
from textwrap import indent
from typing import Annotated, Any

import typer

from stillroom import catalog
from stillroom.cli.methods import describe
from stillroom.cli.output import JsonOption, write, write_json, write_table
from stillroom.source import Source


def _slugs(incomplete: str) -> list[str]:
    return [system.slug for system in catalog.systems() if system.slug.startswith(incomplete)]


def command(
    slug: Annotated[str, typer.Argument(help="The system's name, as in `stillroom methods`.", autocompletion=_slugs)],
    as_json: JsonOption = False,
) -> None:
    """Show one system: idea, equation, parameters, when to use it, and what was measured."""
    system = catalog.find(slug)
    source = system.source
    if as_json:
        write_json(describe(system) | (_details(source) if source else {}) | {"result": system.result})
        return
    write(f"{system.slug}\n{system.title}")
    if source is None:
        write(f"family {system.family}, not yet built: planned")
        write(f"\nTaxonomy\n{indent(tagged(system), '  ')}")
        return
    asked = ", ".join(source.needs) or "no signal of a model"
    write(f"family {system.family}, {system.state}, {source.kind}, needs {asked}")
    for label, text in source.paragraphs.items():
        write(f"\n{label}\n{indent(text, '  ')}")
    if source.parameters:
        write("\nParameters")
        write_table(
            ("name", "type", "default", "meaning"),
            [(p.name, p.annotation, p.default or "required", p.text) for p in source.parameters],
        )
    write(f"\nTaxonomy\n{indent(tagged(system), '  ')}")
    write(f"\nIn Python\n  from {system.module} import {source.name}")
    write(f"\nMeasured\n{indent(measured(system), '  ')}")


def _details(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "paragraphs": source.paragraphs,
        "parameters": [asdict(parameter) for parameter in source.parameters],
    }


def tagged(system: catalog.System) -> str:
    """The system's values, a line an axis."""
    width = max(map(len, system.tags))
    return "\n".join(f"{axis:<{width}}  {', '.join(values)}" for axis, values in system.tags.items())


def measured(system: catalog.System) -> str:
    """The kept result: verdict, claim, figures; or the command that would make one."""
    result = system.result
    if result is None:
        return f"not yet: stillroom reproduce {system.slug}"
    better = "higher" if result["higher_is_better"] else "lower"
    width = max(map(len, result["systems"]))
    lines = [f"{result.get('verdict', 'no verdict')}: {result['claim']}", f"{result['metric']}, {better} is better"]
    lines += [f"  {name:<{width}}  {_spread(entry)}" for name, entry in result["systems"].items()]
    if compared := result.get("comparison"):
        low, high = compared["interval"]
        lines.append(
            f"{system.slug} - {result['versus']}: {compared['difference']:+.4g}, "
            f"95% interval [{low:+.4g}, {high:+.4g}], p = {compared['p']:.2g}"
        )
    packages = ", ".join(f"{name} {result['versions'][name]}" for name in ("stillroom", "torch", "transformers"))
    lines.append(
        f"{result['date']}, seeds {', '.join(map(str, result['seeds']))}, {result['seconds']:.0f} s, {packages}"
    )
    return "\n".join([*lines, f"again: {result['command']}"])


def _spread(entry: dict[str, Any]) -> str:
    """Mean and standard deviation over the seeds, then each seed's value."""
    values = ", ".join("not measured" if value is None else f"{value:.4g}" for value in entry["values"])
    return f"{entry['mean']:.4g} ± {entry['std']:.2g} ({values})" if "mean" in entry else values
