"""Training as small multiples: the loss and each of its parts, and the metrics as they rose."""

from __future__ import annotations

from collections.abc import Sequence

from stillroom.report.charts import Curve, Point, curves
from stillroom.report.reading import Run
from stillroom.report.scale import finite
from stillroom.report.schema import Line
from stillroom.report.tables import arrow, colours, ordered
from stillroom.report.units import number

DRAWN = 400  # points of a curve that a small chart can show
SMOOTHED = 40  # a curve of fewer points is drawn as it is


def charts(run: Run) -> list[str]:
    """First the metrics over the steps, all systems in one chart each; then the losses, the run's own method first."""
    shades = colours(ordered(run.evaluation)) if run.evaluation else {}
    shades = {name: shades.get(name, place) for place, name in enumerate(run.logged)}
    made = [_rise(run, name, shades) for name in _metrics(run)]
    for system, lines in run.logged.items():
        made += _losses(lines, shades[system], f"{system}: " if len(run.logged) > 1 else "")
    return made


def _metrics(run: Run) -> list[str]:
    """The names of what was evaluated during training, without the losses, which have charts of their own."""
    lines = [line for lines in run.logged.values() for line in lines]
    losses = {"loss"}.union(*(line.parts for line in lines))
    names = dict.fromkeys(name for line in lines for name in line.evaluation if name not in losses)
    primary = run.evaluation.primary if run.evaluation else ""
    return sorted(names, key=lambda name: name != primary)


def _rise(run: Run, name: str, shades: dict[str, int | None]) -> str:
    """A metric over the steps, beside the levels of the teacher and the untrained student."""
    lines = [
        Curve(system, _points(logged, name), marks=True, colour=shades[system]) for system, logged in run.logged.items()
    ]
    levels = []
    for role, title in (("teacher", "teacher"), ("start", "untrained")):
        system = run.evaluation.role(role) if run.evaluation else None
        value = system.metrics.get(name) if system else None
        levels += [(title, value)] if value is not None else []
    metric = run.evaluation.metrics.get(name) if run.evaluation else None
    title, label = (metric.title, arrow(metric)) if metric else (name, name)
    return curves(
        [line for line in lines if line.points],
        title=f"{title} during training",
        x_label="step",
        y_label=label,
        levels=levels,
    )


def _points(lines: Sequence[Line], name: str) -> list[Point]:
    return [(line.step, value) for line in lines if (value := line.evaluation.get(name)) is not None]


def _losses(lines: Sequence[Line], colour: int | None, prefix: str) -> list[str]:
    """The total, its parts if there are several, and what else the method logged; dots are the validation loss."""
    parts = list(dict.fromkeys(name for line in lines for name in line.parts))
    extra = list(dict.fromkeys(name for line in lines for name in line.log))
    found = [("total loss", [(line.step, line.total) for line in lines], _points(lines, "loss"))]
    for name in parts if len(parts) > 1 else ():
        found.append((name, [(line.step, line.parts.get(name)) for line in lines], _points(lines, name)))
    found += [(name, [(line.step, line.log.get(name)) for line in lines], []) for name in extra]
    drawn = [_loss(prefix + name, values, validation, colour) for name, values, validation in found]
    return [chart for chart in drawn if chart]


def _loss(
    name: str, values: Sequence[tuple[float, float | None]], validation: Sequence[Point], colour: int | None
) -> str:
    raw = [(step, value) for step, value in values if value is not None and finite([value])]
    if not raw:
        return ""
    line = smooth(raw)
    shown = [Curve(number(float(line[-1][1])), line, thin(raw) if len(raw) >= SMOOTHED else (), colour=colour)]
    if validation:
        shown.append(Curve("validation", validation, marks=True, colour=None))
    return curves(shown, title=name, x_label="step", y_label=name)


def smooth(points: Sequence[Point]) -> list[Point]:
    """The mean over the twentieth of the run around every point, as far as it reaches at the ends.

    Curves of fewer than `SMOOTHED` points are left as they are; longer ones come back with at most `DRAWN` points.
    """
    if len(points) < SMOOTHED:
        return list(points)
    half = len(points) // 40
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    made = []
    for index in sorted({*range(0, len(points), -(-len(points) // DRAWN)), len(points) - 1}):
        first, last = max(0, index - half), min(len(points), index + half + 1)
        made.append((points[index][0], (sums[last] - sums[first]) / (last - first)))
    return made


def thin(points: Sequence[Point]) -> list[Point]:
    """At most about `DRAWN` points, of every stretch the lowest and the highest, so that no spike is lost."""
    if len(points) <= DRAWN:
        return list(points)
    size = -(-2 * len(points) // DRAWN)
    kept: list[Point] = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        extremes = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
        kept += sorted(extremes)
    return kept
