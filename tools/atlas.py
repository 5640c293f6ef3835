"""Two pages of the site: the atlas, where a reader finds a system, and the taxonomy by which the catalogue is ordered.

Both are plain tables; a small script on the atlas hides the rows that were not asked for. Nothing is loaded from
anywhere, and without the script every row stands there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stillroom import catalog
from stillroom.methods.analysis.survey_llm_kd import ALGORITHM, ELICITATION, coverage, in_one_cell
from stillroom.report.family import outcome
from stillroom.taxonomy import NOTHING, Axis, Value

HERE = Path(__file__).parent
VERDICTS = ("holds", "inconclusive", "does not hold here")
WITH_A_LANGUAGE_MODEL = ("language", "reasoning", "synthesis")

Cells = tuple[str, ...]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def link(system: catalog.System) -> str:
    """The system's name, leading to its page where it is built."""
    return f"`{system.slug}`" if system.state == "planned" else f"[`{system.slug}`](methods/{system.slug}.md)"


# --- the atlas --------------------------------------------------------------------------------------------------------


def atlas_row(system: catalog.System) -> Cells:
    """System, paper, what one needs, what one ships, what was measured, what it cost."""
    result: Any = system.result
    found = "planned" if system.state == "planned" else "built"
    price = ""
    if result:
        told = outcome(result)
        found = told.verdict
        if told.gain is not None:
            found += f": {result['metric']} {abs(told.gain):.1%} {'better' if told.gain >= 0 else 'worse'} than "
            found += f"`{result['versus']}`"
        price = f"{told.cost:.1f} ×" if told.cost else ""
    tags = system.tags
    return link(system), system.title, ", ".join(tags["access"]), ", ".join(tags["ships"]), found, price


def order(system: catalog.System) -> tuple[int, float]:
    """Measured first, by verdict and gain; then what is built; then what is planned, as in the catalogue."""
    result: Any = system.result
    if not result:
        return len(VERDICTS) + (1 if system.state == "planned" else 0), 0.0
    told = outcome(result)
    return VERDICTS.index(told.verdict), -(told.gain or 0.0)


def atlas_page() -> str:
    """Find a system by what one has, what one ships, and what was measured."""
    rows = [atlas_row(system) for system in sorted(catalog.systems(), key=order)]
    columns = ("system", "paper", "you need of the teacher", "you ship", "measured", "cost")
    access = catalog.axes()["access"]
    needs = "\n".join(f"- `{value.name}`: {value.text}" for value in access.values)
    return f"""---
hide: [navigation, toc]
---

# The atlas

Every system of the catalogue, by what you need to train with it and what you get. Measured ones stand first: whether
the paper's claim held on this toolkit's small ground, by how much over the baseline of the claim, and what the training
cost beside a plain one. [The catalogue](catalogue.md) goes by families, [the taxonomy](taxonomy.md) has the other axes;
on the command line it is `stillroom methods --where access=black-box --where ships=embedder`.

??? note "What you need of the teacher"

{_indented(needs)}

<style>
{(HERE / "atlas.css").read_text(encoding="utf-8").strip()}
</style>

<div class="atlas" markdown="1">

{table(columns, rows)}

</div>

<script>
{(HERE / "atlas.js").read_text(encoding="utf-8").strip()}
</script>
"""


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


# --- the taxonomy -----------------------------------------------------------------------------------------------------


def taxonomy_page() -> str:
    """Every axis with its values, who has them, and the survey's table of elicitation and algorithm."""
    parts = [
        "# The taxonomy",
        f"The catalogue is ordered by the axes of the surveys that are in it: {_surveys()}. Every system answers every "
        "axis, but for those marked as optional; it may have several values. `stillroom methods --axes` prints this "
        "list, `stillroom methods --where knowledge=relation` the systems behind a value, and [the atlas](atlas.md) "
        "finds one by what you have.",
        "## Elicitation and algorithm",
        "How often knowledge that is drawn out in one way (rows) is learnt in another (columns), with an example that "
        "runs where one is built.",
        coverage_table(),
        one_cell(),
        *(axis_part(axis) for axis in catalog.axes().values()),
    ]
    return "\n\n".join(parts) + "\n"


def _surveys() -> str:
    names = [link(catalog.find(slug)) for slug in catalog.SURVEYS]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def coverage_table() -> str:
    """Elicitation by algorithm: how many systems, and a built one of them."""
    cells = coverage({system.slug: system.tags for system in catalog.systems()})
    ways, hows = ([name for name in axis.names if name != NOTHING] for axis in (ELICITATION, ALGORITHM))
    rows = [(f"**{way}**", *(_cell(cells[way, how]) for how in hows)) for way in ways]
    return table(("", *(how.replace("-", " ") for how in hows)), rows)


def _cell(slugs: Sequence[str]) -> str:
    built = [system for slug in slugs if (system := catalog.find(slug)).state != "planned"]
    if not slugs:
        return ""
    return f"{len(slugs)}: {link(built[0])}" if built else f"{len(slugs)}, none built yet"


def one_cell() -> str:
    """How many of the systems with a language model for a teacher stand in one cell of the table."""
    tags = {s.slug: s.tags for family in WITH_A_LANGUAGE_MODEL for s in catalog.systems(family=family)}
    single, several = in_one_cell(tags)
    return (
        f"Of the {len(single) + len(several)} systems that distil in the families {', '.join(WITH_A_LANGUAGE_MODEL)}, "
        f"{len(single)} stand in one cell ({len(single) / (len(single) + len(several)):.0%}); the others draw "
        "knowledge out in two ways or learn it in two."
    )


def axis_part(axis: Axis) -> str:
    """One axis: its question, and a paragraph a value."""
    optional = "" if axis.base else " *(optional)*"
    return "\n\n".join([f"## {axis.name}", f"{axis.question}{optional}", *(value_part(axis, v) for v in axis.values)])


def value_part(axis: Axis, value: Value) -> str:
    """What a value means, its plainest implementation, how many systems have it, and some that are built."""
    found = catalog.systems(where={axis.name: value.name})
    built = [system for system in found if system.state != "planned"]
    text = f"`{value.name}`{{ #{axis.name}-{value.name} }} {value.text} "
    text += "No system yet." if not found else "One system" if len(found) == 1 else f"{len(found)} systems"
    if found:
        text += f", such as {', '.join(link(system) for system in built[:5])}." if built else "; none is built yet."
    return text + (f" Plainest form: `{value.reference}`." if value.reference else "")
