"""What was measured of a family, side by side: a table and a figure, for the command line's page and for the site.

Measures differ between systems, so they are made comparable by what they are held against: the gain is the difference
to the baseline that the paper's claim names, over that baseline, counted as better where it is positive. Cost is the
method's seconds of training over those of the student that was trained alone; what a teacher says once, for all, is in
neither.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from markupsafe import Markup

from stillroom import catalog
from stillroom.report import units
from stillroom.report.charts import Bar, bars
from stillroom.report.rendering import html, save

_SPACE = "\N{NO-BREAK SPACE}"

COLUMNS = ("system", "verdict", "gain", "cost", "measure", "method", "baseline", "teacher")


@dataclass(frozen=True)
class Outcome:
    """One system's kept result.

    Attributes:
        slug: its name.
        measure: what decides, with an arrow in the direction of better.
        method, versus, teacher: mean and half-width of the 95 % interval over the seeds; versus with its name.
        gain: relative to the baseline, positive where better; None where the baseline is 0.
        interval: of the gain.
        cost: seconds of training over those of the student alone; None where nobody was trained alone.
        verdict: holds, does not hold here, inconclusive.
        seeds: how many.
    """

    slug: str
    measure: str
    method: str
    versus: str
    teacher: str
    gain: float | None
    interval: tuple[float, float] | None
    cost: float | None
    verdict: str
    seeds: int

    @property
    def cells(self) -> tuple[str, ...]:
        """The line of the table, in the order of `COLUMNS`."""
        gain = "–" if self.gain is None else f"{self.gain:+.1%}"
        cost = "–" if self.cost is None else f"{self.cost:.2f} ×"
        return (self.slug, self.verdict, gain, cost, self.measure, self.method, self.versus, self.teacher)


def outcomes(family: str) -> list[Outcome]:
    """The kept results of a family, in the order of the catalogue."""
    return [outcome(result) for system in catalog.systems(family) if (result := system.result)]


def outcome(result: dict[str, Any]) -> Outcome:
    """A result file as a line of the table."""
    systems, slug, versus = result["systems"], result["slug"], result["versus"]
    compared, base = result.get("comparison"), systems[versus].get("mean")
    gain, interval = None, None
    if compared and base:
        sign = 1.0 if result["higher_is_better"] else -1.0
        gain = sign * compared["difference"] / abs(base)
        low, high = sorted(sign * end / abs(base) for end in compared["interval"])
        interval = (low, high) if math.isfinite(low) and math.isfinite(high) else None
    return Outcome(
        slug=slug,
        measure=f"{result['metric']}{_SPACE}{'↑' if result['higher_is_better'] else '↓'}",
        method=_spread(systems[slug]),
        versus=f"{_spread(systems[versus])} ({versus.replace(' ', _SPACE)})",
        teacher=_spread(systems["teacher"]) if "teacher" in systems else "–",
        gain=gain,
        interval=interval,
        cost=_cost(systems, slug),
        verdict=result.get("verdict", ""),
        seeds=len(result["seeds"]),
    )


def _spread(entry: dict[str, Any]) -> str:
    if "mean" not in entry:
        return "–"
    half = entry["interval"][1] - entry["mean"]
    return f"{entry['mean']:.3f}{_SPACE}±{_SPACE}{half:.3f}" if half else f"{entry['mean']:.3f}"


def _cost(systems: dict[str, Any], slug: str) -> float | None:
    """Mean seconds of training over those of the cheapest student that was trained without a teacher."""

    def seconds(name: str) -> float | None:
        known = [value for value in systems[name]["train_seconds"] if value is not None]
        return fmean(known) if known else None

    others = [name for name, entry in systems.items() if entry.get("alone") and name != slug]
    alone = [found for name in others if (found := seconds(name))]
    own = seconds(slug)
    return own / min(alone) if own and alone else None


def figure(found: list[Outcome], title: str) -> str:
    """The gains as bars with their 95 % intervals; empty where there is none."""
    drawn = [one for one in found if one.gain is not None]
    made = [Bar(one.slug, 100 * (one.gain or 0.0), *(100 * end for end in one.interval or ())) for one in drawn]
    return bars(made, title=title, unit="%", width=430) if made else ""


def write_family(family: str, folder: Path) -> Path:
    """Write the family's page, one HTML file that needs nothing else, and return its path."""
    found = outcomes(family)
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{family}: gain over the baseline of the claim"
    content = {
        "family": family,
        "columns": COLUMNS,
        "found": found,
        "figure": Markup(figure(found, title)),
        "waiting": [system.slug for system in catalog.systems(family, "implemented") if not system.result],
        "seconds": units.duration(sum(system.result["seconds"] for system in catalog.systems(family) if system.result)),
    }
    return save(html("family.html.j2", **content), folder / f"{family}.html")
