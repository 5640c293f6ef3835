"""The main table: every measured system, its quality, what it keeps of the teacher and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from stillroom.report.schema import Evaluation, Metric, System
from stillroom.report.text import shorten
from stillroom.report.units import ABSENT, duration, magnitude, number, size
from stillroom.report.verdict import of_teacher, ratio, short

ROLES = {
    "teacher": "teacher",
    "trained-teacher": "teacher, trained further",
    "student": "student",
    "start": "student, untrained",
    "baseline": "baseline",
}


@dataclass(frozen=True)
class Column:
    """One measure of all systems. ``best``: the row of the best below the teacher; ``bars``: shares in [0, 1]."""

    title: str
    unit: str
    cells: list[str]
    best: int | None = None
    bars: list[float | None] | None = None


def ordered(evaluation: Evaluation) -> list[System]:
    """Teacher, student, untrained student, student trained without the teacher, other baselines."""
    order = ("teacher", "trained-teacher", "student", "start", "baseline")
    return sorted(evaluation.systems, key=lambda system: (order.index(system.role), not system.without_teacher))


def colours(systems: Iterable[System]) -> dict[str, int | None]:
    """Every system's colour by name, the same in all charts: none for the teacher, 0 for the student, then the rest."""
    found: dict[str, int | None] = {}
    baselines = 0
    for system in systems:
        baselines += system.role == "baseline"
        found[system.name] = {"student": 0, "start": 0, "baseline": baselines}.get(system.role)
    return found


def role(system: System) -> str:
    """What the system is, in words."""
    return "without the teacher" if system.without_teacher else ROLES[system.role]


def columns(evaluation: Evaluation) -> list[Column]:
    """The table's columns, the primary metric first; a column in which nothing is known is left out."""
    systems = ordered(evaluation)
    names = sorted(evaluation.metrics, key=lambda name: name != evaluation.primary)
    made = [
        _metric(evaluation.metrics[name], [system.metrics.get(name) for system in systems], systems) for name in names
    ]
    made[1:1] = [_kept(evaluation, systems)]
    made += [
        Column("parameters", "", _cells(magnitude, (system.parameters for system in systems))),
        Column("on disk", "", _cells(size, (system.disk_bytes for system in systems))),
        Column("memory", "peak", _cells(size, (system.cost.peak_bytes for system in systems))),
        Column("throughput", "rows/s", _cells(_plain, (system.cost.throughput for system in systems))),
        Column("latency", "ms, p50 / p95", [_latency(system) for system in systems]),
        Column("training", "", _cells(duration, (system.cost.train_seconds for system in systems))),
    ]
    return [column for column in made if any(cell != ABSENT for cell in column.cells)]


def arrow(metric: Metric) -> str:
    """The metric's title with the direction of the better."""
    return f"{metric.title}\N{NO-BREAK SPACE}{'↑' if metric.higher_is_better else '↓'}"


def best(metric: Metric, values: Sequence[float | None]) -> int | None:
    """The place of the one value better than all others; None for a tie, or where there is nothing to compare."""
    known = [value for value in values if value is not None]
    if len(set(known)) < 2:
        return None
    top = max(known) if metric.higher_is_better else min(known)
    return values.index(top) if known.count(top) == 1 else None


def _metric(metric: Metric, values: list[float | None], systems: list[System]) -> Column:
    below = [None if system.role.endswith("teacher") else value for value, system in zip(values, systems, strict=True)]
    return Column(arrow(metric), metric.unit, _cells(_plain, values), best(metric, below))


def _kept(evaluation: Evaluation, systems: list[System]) -> Column:
    metric, goal = evaluation.leading, evaluation.value(evaluation.role("teacher"))
    values = [evaluation.value(system) for system in systems]
    shares = [ratio(value, goal) for value in values]
    bars = [None if part is None else min(max(part, 0.0), 1.0) for part in shares] if metric.higher_is_better else None
    return Column(
        "of\N{NO-BREAK SPACE}teacher",
        shorten(short(metric), 24),
        [of_teacher(metric, value, goal) for value in values],
        bars=bars,
    )


def _latency(system: System) -> str:
    cells = _cells(_plain, (system.cost.p50_ms, system.cost.p95_ms))
    return ABSENT if cells == [ABSENT, ABSENT] else " / ".join(cells)


def _plain(value: float | None) -> str:
    return number(None if value is None else float(value))


def _cells(write: Callable[[float | None], str], values: Iterable[float | None]) -> list[str]:
    return [write(value) for value in values]
