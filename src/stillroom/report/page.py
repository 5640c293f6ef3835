"""The report: one HTML file that needs nothing else, no network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from stillroom.report import tables, training, units
from stillroom.report.charts import Bar, Dot, Shape, bars, scatter
from stillroom.report.reading import Run, read
from stillroom.report.rendering import html, save
from stillroom.report.schema import Evaluation, System
from stillroom.report.text import shorten
from stillroom.report.verdict import verdict

CUT = 280  # characters of a text that are shown before it is unfolded
SHOWN = 6  # disagreements that are shown before the rest is unfolded


@dataclass(frozen=True)
class Figure:
    """A chart and the name that stands above it."""

    title: str
    chart: Markup


def write_report(run_folder: Path | str) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    What the run didn't measure is left out. The file is complete or absent: it is written aside and then renamed.

    Raises:
        UserError: the folder holds no run, or a file in it doesn't hold what it should.
    """
    run = read(run_folder)
    return save(html("report.html.j2", **_content(run)), run.folder / "report.html")


def _content(run: Run) -> dict[str, Any]:
    """Everything that the template prints; an empty part leaves its section out."""
    evaluation = run.evaluation
    return {
        "run": run,
        "about": run.about,
        "verdict": verdict(run),
        "systems": tables.ordered(evaluation) if evaluation else [],
        "role": tables.role,
        "columns": tables.columns(evaluation) if evaluation else [],
        "prices": prices(evaluation, tables.ordered(evaluation)) if evaluation else [],
        "training": [Markup(chart) for chart in training.charts(run)],
        "agreement": _agreement(evaluation) if evaluation else None,
        "calibration": _reliability(evaluation) if evaluation else [],
        "worst": evaluation.worst if evaluation else [],
        "sources": sources(run),
        "cut": CUT,
        "shown": SHOWN,
    }


def sources(run: Run) -> list[tuple[str, str]]:
    """The data sets of the recipe: what each is for, and where it comes from with its settings."""
    found: dict[str, list[str]] = {}
    for key, value in run.settings().items():
        top, *path = key.split(".")
        if top == "data" and value not in ({}, []):
            place = ".".join(path[:-1]) or ".".join(path)
            setting = path[-1] if path else "source"
            found.setdefault(place, []).append(str(value) if setting in ("source", place) else f"{setting} {value}")
    return [
        (shorten(place.partition(".")[0], 40) or "source", ", ".join(settings)) for place, settings in found.items()
    ]


SHAPES: dict[str, Shape] = {
    "teacher": "square",
    "trained-teacher": "square",
    "student": "circle",
    "start": "ring",
    "baseline": "triangle",
}


def prices(evaluation: Evaluation, systems: list[System]) -> list[Figure]:
    """Quality against each cost in which the systems differ."""
    metric = evaluation.leading
    costs: dict[str, Sequence[float | None]] = {
        "parameters": [system.parameters for system in systems],
        "throughput, rows/s": [system.cost.throughput for system in systems],
        "bytes on disk": [system.disk_bytes for system in systems],
    }
    figures: list[Figure] = []
    shades = tables.colours(systems)
    for cost, values in costs.items():
        measured = [
            (system, float(value), quality)
            for system, value in zip(systems, values, strict=True)
            if value is not None and (quality := evaluation.value(system)) is not None
        ]
        if len({value for _, value, _ in measured}) < 2 or len(figures) == 2:
            continue
        dots = [
            Dot(system.name, value, quality, SHAPES[system.role], shades[system.name])
            for system, value, quality in measured
        ]
        roles = [system.role for system, _, _ in measured]
        links = [(roles.index("start"), roles.index("student"))] if {"start", "student"} <= set(roles) else []
        title = f"{metric.title} against {cost}"
        chart = scatter(dots, title=title, x_label=f"{cost}, log scale", y_label=tables.arrow(metric), links=links)
        figures.append(Figure(title, Markup(chart)))
    return figures


def _agreement(evaluation: Evaluation) -> Markup | None:
    items = [
        Bar(measure.title or name.replace("_", " "), measure.value, measure.low, measure.high)
        for name, measure in evaluation.agreement.items()
        if measure.value is not None
    ]
    limit = 1.0 if all(item.value <= 1.0 for item in items) else None
    return Markup(bars(items, title="Agreement with the teacher", limit=limit)) if items else None


def _reliability(evaluation: Evaluation) -> list[Figure]:
    shades = tables.colours(tables.ordered(evaluation))
    figures = []
    for item in evaluation.calibration:
        title = item.system + (f", error {units.number(item.error)}" if item.error is not None else "")
        dots = [Dot("", bin.confidence, bin.accuracy, colour=shades.get(item.system)) for bin in item.bins if bin.count]
        chart = scatter(dots, title=title, x_label="confidence", y_label="accuracy", diagonal=True, width=300)
        figures.append(Figure(title, Markup(chart)))
    return figures
