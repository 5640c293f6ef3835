"""Several runs side by side: in what their recipes differ, what they reached, what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stillroom.errors import UserError
from stillroom.report import units
from stillroom.report.page import Figure, prices
from stillroom.report.reading import Run, read
from stillroom.report.rendering import html, save
from stillroom.report.schema import Evaluation, Metric, System
from stillroom.report.tables import arrow, best
from stillroom.report.text import shorten
from stillroom.report.verdict import ratio, short, verdict

SAME = frozenset({"name", "output"})  # keys in which two runs always differ

# Cost -> title, how it is written, where it is found.
COSTS: dict[str, tuple[str, Callable[[Any], str], Callable[[System], float | None]]] = {
    "parameters": ("parameters", units.magnitude, lambda system: system.parameters),
    "disk_bytes": ("on disk", units.size, lambda system: system.disk_bytes),
    "peak_bytes": ("peak memory", units.size, lambda system: system.cost.peak_bytes),
    "throughput": ("throughput", units.rate, lambda system: system.cost.throughput),
    "p50_ms": ("latency, p50", units.milliseconds, lambda system: system.cost.p50_ms),
    "p95_ms": ("latency, p95", units.milliseconds, lambda system: system.cost.p95_ms),
    "train_seconds": ("training", units.duration, lambda system: system.cost.train_seconds),
}


class Entry(NamedTuple):
    """A finished run and its measured student."""

    name: str
    run: Run
    evaluation: Evaluation
    student: System

    def value(self, metric: str) -> float | None:
        """The student's figure."""
        return self.student.metrics.get(metric)

    def goal(self, metric: str) -> float | None:
        """The teacher's figure."""
        teacher = self.evaluation.role("teacher")
        return teacher.metrics.get(metric) if teacher else None


@dataclass(frozen=True)
class Row:
    """One line of the comparison. ``best``: the place of the best run; ``part``: it belongs to the line above."""

    title: str
    cells: list[str]
    best: int | None = None
    part: bool = False


def compare(runs: Sequence[Path | str]) -> dict[str, Any]:
    """Compare finished runs by their students.

    Args:
        runs: two run folders or more.

    Returns:
        ``runs`` (name, folder, method, verdict), ``recipe`` (key -> one value a run, for the keys that differ; None
        where a run doesn't set it), ``metrics`` (name -> title, unit, higher_is_better, values, of_teacher; the primary
        first), ``cost`` (name -> values) and ``notes``: sentences on what makes the runs hard to compare. It is fit for
        JSON; a figure that isn't finite is None.

    Raises:
        UserError: fewer than two folders, or one that holds no finished and measured run.
    """
    return _compared(_entries(runs))


def write_comparison(runs: Sequence[Path | str], path: Path) -> Path:
    """Write the comparison as one HTML page and return its path.

    Raises:
        UserError: as `compare`.
    """
    entries = _entries(runs)
    comparison = _compared(entries)
    content = {"comparison": comparison, "groups": groups(comparison), "prices": _prices(entries)}
    return save(html("compare.html.j2", **content), path)


def groups(comparison: dict[str, Any]) -> list[tuple[str, list[Row]]]:
    """The comparison as titled groups of rows, ready to print; empty groups are left out."""
    settings = [
        Row(shorten(key, 100), [_setting(value) for value in values]) for key, values in comparison["recipe"].items()
    ]
    quality = []
    for figures in comparison["metrics"].values():
        metric = Metric.model_validate(figures)
        values, parts = figures["values"], figures["of_teacher"]
        quality.append(Row(arrow(metric), [units.number(value, metric.unit) for value in values], best(metric, values)))
        if any(part is not None for part in parts):
            write = units.share if metric.higher_is_better else units.times
            quality.append(Row("of teacher", [write(part) for part in parts], part=True))
    cost = [
        Row(COSTS[name][0], [COSTS[name][1](value) for value in values]) for name, values in comparison["cost"].items()
    ]
    made = {"Recipe, where it differs": settings, "Quality": quality, "Cost": cost}
    return [(title, rows) for title, rows in made.items() if rows]


def _entries(folders: Sequence[Path | str]) -> list[Entry]:
    if len(folders) < 2:
        raise UserError("a comparison needs two run folders or more: stillroom compare runs/a runs/b")
    runs = [read(folder) for folder in folders]
    names = [run.about.name for run in runs]
    if len(set(names)) < len(names):  # the same name in several output folders
        names = [str(run.folder) for run in runs]
    return [_entry(name, run) for name, run in zip(names, runs, strict=True)]


def _entry(name: str, run: Run) -> Entry:
    student = run.evaluation.role("student") if run.evaluation else None
    if run.evaluation is None or student is None:
        recipe = run.folder / "recipe.yaml"
        raise UserError(
            f"{run.folder} was not measured, so there is nothing to compare: repeat `stillroom distill {recipe}`"
        )
    return Entry(name, run, run.evaluation, student)


def _compared(entries: list[Entry]) -> dict[str, Any]:
    settings = [entry.run.settings() for entry in entries]
    keys = dict.fromkeys(key for setting in settings for key in setting if key not in SAME)
    values = {key: [_scalar(setting.get(key)) for setting in settings] for key in keys}
    costs = {name: [_float(find(entry.student)) for entry in entries] for name, (_, _, find) in COSTS.items()}
    return {
        "runs": [
            {"name": e.name, "folder": str(e.run.folder), "method": e.run.about.method, "verdict": verdict(e.run)}
            for e in entries
        ],
        "recipe": {key: row for key, row in values.items() if any(value != row[0] for value in row)},
        "metrics": _metrics(entries),
        "cost": {name: row for name, row in costs.items() if any(value is not None for value in row)},
        "notes": list(_notes(entries)),
    }


def _metrics(entries: list[Entry]) -> dict[str, Any]:
    known = {name: metric for entry in entries for name, metric in entry.evaluation.metrics.items()}
    primary = entries[0].evaluation.primary
    rows = {}
    for name in sorted(known, key=lambda name: name != primary):
        values = [_float(entry.value(name)) for entry in entries]
        parts = [_float(ratio(entry.value(name), entry.goal(name))) for entry in entries]
        if any(value is not None for value in values):
            rows[name] = known[name].model_dump() | {"values": values, "of_teacher": parts}
    return rows


def _notes(entries: list[Entry]) -> Iterator[str]:
    """What a reader must know before comparing."""
    primaries = list(dict.fromkeys(short(entry.evaluation.leading) for entry in entries))
    if len(primaries) > 1:
        yield f"The runs lead with different metrics: {', '.join(primaries)}."
        return
    metric, name = entries[0].evaluation.leading, entries[0].evaluation.primary
    goals = {units.number(goal, metric.unit) for entry in entries if (goal := entry.goal(name)) is not None}
    if len(goals) > 1:
        yield (
            f"The teachers' {short(metric)} differs ({', '.join(sorted(goals))}), so teacher or rows differ: "
            "compare the shares of the teacher rather than the values."
        )
    seeds = {entry.run.about.seed for entry in entries}
    if len(seeds) == 1:
        yield "One seed each: differences of the size of a seed's luck can't be told from it."


def _prices(entries: list[Entry]) -> list[Figure]:
    """All students, and the first run's teacher, in one picture; none where the runs lead with different metrics."""
    first = entries[0].evaluation
    if any(entry.evaluation.primary != first.primary for entry in entries):
        return []
    students = [entry.student.model_copy(update={"name": entry.name}) for entry in entries]
    teacher = first.role("teacher")
    everybody = [teacher, *students] if teacher else students
    return prices(first, everybody)


def _float(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _scalar(value: Any) -> str | int | float | None:
    """A recipe's value as JSON can hold it."""
    plain = value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return value if plain else str(value)


def _setting(value: Any) -> str:
    return units.ABSENT if value is None else shorten(str(value), 200)
