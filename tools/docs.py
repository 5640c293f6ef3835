"""The pages and tables that are written by the catalogue and not by hand.

As an mkdocs hook it adds a page for each family and for each built method to the site; they are never committed. As a
command it brings the family table of README.md up to date, between its two markers::

    python tools/docs.py
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas import atlas_page, taxonomy_page
from atlas import table as _table

from stillroom import catalog
from stillroom.cli.show import measured
from stillroom.report import family as measured_family
from stillroom.report.charts import Bar, bars

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
MARKED = re.compile(r"(<!-- families: written by tools/docs.py -->\n).*?(<!-- end of families -->)", re.DOTALL)

FAMILIES = {
    "language": "language models: token-level, on-policy, across tokenizers, quantised",
    "reasoning": "chains of thought, tool use and instructions, moved into a small model",
    "synthesis": "data written, judged and filtered by a large model",
    "encoders": "BERT-like encoders: layers, attention, pruning, architecture",
    "embeddings": "text embeddings: general, multilingual, compressed",
    "retrieval": "search: dense, late interaction, rerankers, efficient indexes",
    "vision": "image classifiers, detectors, segmenters, self-supervised features",
    "multimodal": "CLIP and vision-language models",
    "diffusion": "image generation, faster or better steered",
    "speech": "speech recognition and speech representations",
    "graphs": "graph neural networks, and models that no longer need the graph",
    "lexical": "word vectors, senses and lexical relations",
    "parsing": "structured prediction: parsers, grammars, semantic parsing",
    "analysis": "surveys to browse, probes, and what distillation does to a model",
}


def family_table(links: dict[str, str]) -> str:
    """One row a family, counted from the files that are there.

    Args:
        links: family -> where it leads; the others are named without a link.
    """
    rows = []
    for family, text in FAMILIES.items():
        states = [system.state for system in catalog.systems(family=family)]
        built = sum(state != "planned" for state in states)
        name = f"[{family}]({links[family]})" if family in links else family
        rows.append((name, text, len(states), built, states.count("reproduced")))
    total = ("**all**", "", *(sum(column) for column in zip(*(row[2:] for row in rows), strict=True)))
    return _table(("family", "what it is about", "systems", "built", "measured"), [*rows, total])


def catalogue_page() -> str:
    """Where browsing starts."""
    return f"""# The catalogue

Every system has one name, its slug: in a recipe, on the command line, as a file and here. *Built* means that its code
is in the package and passes the contract tests; *measured* that `stillroom reproduce` ran it against its baselines.
[The atlas](atlas.md) finds a system by what you have and what you ship; [the taxonomy](taxonomy.md) says what kinds
there are.

{family_table({family: f"families/{family}.md" for family in FAMILIES})}
"""


def family_page(family: str) -> str:
    """The systems of one family."""
    rows = []
    for system in catalog.systems(family=family):
        name = f"`{system.slug}`" if system.state == "planned" else f"[`{system.slug}`](../methods/{system.slug}.md)"
        kind = system.source.kind if system.source else ""
        rows.append((name, system.title, kind, system.state))
    parts = [f"# {family.capitalize()}", f"{FAMILIES[family][0].upper()}{FAMILIES[family][1:]}."]
    parts.append(_table(("slug", "paper", "kind", "state"), rows))
    if found := measured_family.outcomes(family):
        chart = measured_family.figure(found, f"{family}: gain over the baseline of each claim, per cent")
        rows = [(f"[`{one.slug}`](../methods/{one.slug}.md)", *one.cells[1:]) for one in found]
        parts += ["## Measured", MEASURED, f"<figure>{chart}</figure>", _table(measured_family.COLUMNS, rows)]
    return "\n\n".join(parts) + "\n"


MEASURED = (
    "Each on the family's own ground, against its baselines; whatever is trained has the same start and as many steps. "
    "Shown are mean and half-width of the 95 % interval over the seeds. The gain is the paired difference to the "
    "baseline of the paper's claim, in per cent of its figure, and better to the right; the cost is the method's "
    "seconds of training over those of the student that was trained alone, what the teacher says once left aside. "
    "What does not hold stands here like the rest."
)


def figure(system: catalog.System) -> str:
    """The kept result as bars, with 95 % intervals over the seeds; empty without one."""
    found: Any = system.result
    if not found:
        return ""
    entries = [(name, entry) for name, entry in found["systems"].items() if "mean" in entry]
    made = [Bar(name, entry["mean"], *(entry["interval"] if entry["std"] else ())) for name, entry in entries]
    return "<figure>" + bars(made, title=f"{system.slug}: {found['metric']}", width=560) + "</figure>"


def method_page(system: catalog.System) -> str:
    """One built method: what its docstring, its signature and its result say."""
    source = system.source
    if source is None:
        raise ValueError(f"{system.slug} is planned and has no page yet")
    needs = ", ".join(f"`{need}`" for need in source.needs) or "no signal of a model"
    parts = [
        f"# {system.slug}",
        f"*{system.title}*",
        f"Family [{system.family}](../families/{system.family}.md), kind: {source.kind}, needs {needs}.",
    ]
    parts += [f"## {label}\n\n{text}" for label, text in source.paragraphs.items()]
    if source.parameters:
        rows = [(f"`{p.name}`", _code(p.annotation), _code(p.default or "required"), p.text) for p in source.parameters]
        parts.append("## Parameters\n\n" + _table(("name", "type", "default", "meaning"), rows))
    parts.append(
        "## Taxonomy\n\n" + _table(("axis", "here"), [(axis, _values(axis, v)) for axis, v in system.tags.items()])
    )
    parts.append(f"## In Python\n\n```python\nfrom {system.module} import {source.name}\n```")
    parts.append("## Measured")
    parts += [chart] if (chart := figure(system)) else []
    parts.append("```text\n" + measured(system) + "\n```")
    return "\n\n".join(parts) + "\n"


def pages() -> Iterator[tuple[str, str]]:
    """Every written page: its path in the site and its Markdown."""
    yield "catalogue.md", catalogue_page()
    yield "atlas.md", atlas_page()
    yield "taxonomy.md", taxonomy_page()
    for family in catalog.families():
        yield f"families/{family}.md", family_page(family)
    for system in catalog.systems():
        if system.state != "planned":
            yield f"methods/{system.slug}.md", method_page(system)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The mkdocs hook: add the written pages to those on disk."""
    from mkdocs.structure.files import File

    for path, text in pages():
        files.append(File.generated(config, path, content=text))
    return files


def readme(text: str) -> str:
    """README.md with its family table brought up to date.

    Raises:
        ValueError: it does not have the two markers.
    """
    if not MARKED.search(text):
        raise ValueError(
            "README.md lacks the markers <!-- families: written by tools/docs.py --> and <!-- end of families -->"
        )
    folders = {family: Path("src/stillroom/methods") / family for family in FAMILIES}
    table = family_table({family: str(folder) for family, folder in folders.items() if (ROOT / folder).is_dir()})
    return MARKED.sub(lambda mark: f"{mark[1]}\n{table}\n\n{mark[2]}", text)


def _values(axis: str, values: Iterable[str]) -> str:
    """The values of a system, each leading to what it means."""
    return ", ".join(f"[{value}](../taxonomy.md#{axis}-{value})" for value in values)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    place = ROOT / "README.md"
    place.write_text(readme(place.read_text(encoding="utf-8")), encoding="utf-8")
