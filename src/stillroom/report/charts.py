"""Small charts as SVG text: curves, points, bars with intervals.

Every function is pure: figures in, one ``<svg>`` out, which can stand in a page or in a file of its own. The text takes
the colour of what surrounds it; the colours are CSS variables (``--chart-1`` to ``--chart-5``) with defaults that
people with any kind of colour vision can tell apart, and dashes, shapes and names at the curves' ends say the same
without colour.
Names are escaped here; a value that is not finite has no place on paper and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from stillroom.report.labels import FONT, Box, place, spread, text_width
from stillroom.report.scale import Scale, finite, span, tick_labels, wide
from stillroom.report.text import escape, shorten
from stillroom.report.units import number

Point = tuple[float, float]
Shape = Literal["circle", "ring", "square", "triangle", "diamond"]

COLOURS = ("#0b62a8", "#c44e00", "#007a5a", "#9a4e86", "#8a6800")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 4")
Y_TICKS = 5
TOP, BOTTOM = 30.0, 40.0  # pixels above the plot for the name of its y axis, below for the ticks and name of x


@dataclass(frozen=True)
class Curve:
    """A line through ``points``; ``raw`` is drawn faintly behind it, ``marks`` sets a dot on each point.

    ``colour`` counts from 0; None is the colour of the text, for what is only there to compare with.
    """

    name: str
    points: Sequence[Point]
    raw: Sequence[Point] = ()
    marks: bool = False
    colour: int | None = 0


@dataclass(frozen=True)
class Dot:
    """A named point. ``colour`` is as in `Curve`."""

    name: str
    x: float
    y: float
    shape: Shape = "circle"
    colour: int | None = 0


@dataclass(frozen=True)
class Bar:
    """A named value with its interval, where there is one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


def curves(
    lines: Sequence[Curve],
    *,
    title: str,
    x_label: str,
    y_label: str,
    levels: Sequence[tuple[str, float]] = (),
    width: float = 330,
    height: float = 205,
) -> str:
    """Curves over a common axis, named at their ends; ``levels`` are horizontal lines to compare with.

    The y axis is logarithmic where the values are positive and far apart.
    """
    lines = [replace(line, points=_finite(line.points), raw=_finite(line.raw)) for line in lines]
    levels = [(name, value) for name, value in levels if finite([value])]
    values = [y for line in lines for _, y in (*line.points, *line.raw)] + [value for _, value in levels]
    steps = [x for line in lines for x, _ in (*line.points, *line.raw)]
    log = wide(values)
    ends = [(line.name, line.points[-1][1]) for line in lines if line.points]
    names = [shorten(name, 22) for name, _ in (*ends, *levels)]
    right = width - max(map(text_width, names), default=0.0) - 10
    y = Scale(*span(values, log=log), height - BOTTOM, TOP, log)
    left = _left(y)
    x = Scale(*span(steps, margin=0.0) if len(set(steps)) > 1 else span(steps), left, right)
    parts = [_axes(x, y, x_label, y_label, width, height)]
    for _, value in levels:
        parts.append(f'<path d="M{left} {y(value)}H{right}" {_stroke(None, 1)} stroke-dasharray="1 3"/>')
    several = sum(line.colour is not None for line in lines) > 1
    for line in lines:
        dash = f' stroke-dasharray="{DASHES[line.colour % len(DASHES)]}"' if line.colour and several else ""
        weight = 0.8 if line.colour is None else 1.8
        parts.append(f'<path d="{_path(line.raw, x, y)}" {_stroke(line.colour, 1)} opacity=".28"/>' if line.raw else "")
        parts.append(f'<path d="{_path(line.points, x, y)}" {_stroke(line.colour, weight)}{dash}/>')
        if line.marks:
            parts += [_mark("circle", x(a), y(b), line.colour, 2 + weight / 3) for a, b in line.points]
    shades = [line.colour for line in lines if line.points] + [None] * len(levels)
    places = spread([y(value) for _, value in (*ends, *levels)], TOP, height - BOTTOM)
    for name, spot, colour in zip(names, places, shades, strict=True):
        parts.append(_text(right + 6, spot + 4, name, fill=_colour(colour)))
    said = [
        f"{line.name} from {number(line.points[0][1])} to {number(line.points[-1][1])}" for line in lines if line.points
    ]
    said += [f"{name} at {number(value)}" for name, value in levels]
    return _svg(width, height, title, f"{y_label} over {x_label}: " + "; ".join(said), parts)


def scatter(
    dots: Sequence[Dot],
    *,
    title: str,
    x_label: str,
    y_label: str,
    links: Sequence[tuple[int, int]] = (),
    diagonal: bool = False,
    width: float = 380,
    height: float = 270,
) -> str:
    """Named points, x logarithmic where its values are positive; ``links`` joins pairs of points.

    ``diagonal`` draws y = x, for charts of one quantity against itself.
    """
    joined = [(dots[start], dots[end]) for start, end in links]
    dots = [dot for dot in dots if len(finite([dot.x, dot.y])) == 2]
    log = not diagonal and all(dot.x > 0 for dot in dots) and bool(dots)
    y = Scale(*((0.0, 1.0) if diagonal else span((dot.y for dot in dots), margin=0.12)), height - BOTTOM, TOP)
    left, right = _left(y), width - 12.0
    x = Scale(*((0.0, 1.0) if diagonal else span((dot.x for dot in dots), log=log, margin=0.12)), left, right, log)
    spots = [(x(dot.x), y(dot.y)) for dot in dots]
    names = [shorten(dot.name, 26) for dot in dots]
    boxes = place(spots, [text_width(name) for name in names], Box(left, TOP - 10, width, height - BOTTOM))
    parts = [_axes(x, y, x_label, y_label, width, height)]
    if diagonal:
        parts.append(f'<path d="M{left} {y(0)}L{right} {y(1)}" {_stroke(None, 1)} stroke-dasharray="1 3"/>')
    for start, end in (pair for pair in joined if pair[0] in dots and pair[1] in dots):
        a, b, c, d = x(start.x), y(start.y), x(end.x), y(end.y)
        parts.append(f'<path d="M{a} {b}L{c} {d}" {_stroke(None, 1)} opacity=".45"/>')
    for dot, (a, b), box, name in zip(dots, spots, boxes, names, strict=True):
        parts.append(_leader(a, b, box) if name else "")
        said = f"<title>{escape(dot.name)}: {number(dot.x)}, {number(dot.y)}</title>" if dot.name else ""
        parts.append(f"<g>{said}{_mark(dot.shape, a, b, dot.colour, 5)}</g>")
        parts.append(_text(box.left, box.bottom - 3.5, name, fill=_colour(dot.colour)) if name else "")
    said = "; ".join(f"{dot.name} {number(dot.x)}, {number(dot.y)}" for dot in dots if dot.name)
    return _svg(width, height, title, f"{y_label} against {x_label}: {said}", parts)


def bars(items: Sequence[Bar], *, title: str, unit: str = "", limit: float | None = None, width: float = 380) -> str:
    """Horizontal bars from 0, the value written at the right; ``limit`` is the end of the scale where it has one."""
    items = [item for item in items if finite([item.value])]
    names = [shorten(item.name, 30) for item in items]
    texts = [number(float(item.value), unit) for item in items]
    left = max(map(text_width, names), default=0.0) + 10
    right = width - max(map(text_width, texts), default=0.0) - 10
    ends = [end for item in items for end in (item.value, item.low, item.high) if end is not None]
    x = Scale(min([0.0, *finite(ends)]), max([limit or 0.0, *finite(ends)]) or 1.0, left, right)
    parts, row = [f'<path d="M{x(0)} 2V{24 * len(items) + 2}" {_stroke(None, 1)} opacity=".4"/>'], 24.0
    for index, (item, name, text) in enumerate(zip(items, names, texts, strict=True)):
        middle = index * row + row / 2 + 2
        start, end = sorted((x(0), x(item.value)))
        parts.append(_text(0, middle + 4, name))
        box = f'x="{start}" y="{middle - 6}" width="{end - start:.2f}" height="12"'
        parts.append(f'<rect {box} style="fill:{_colour(0)}" opacity=".75"/>')
        if item.low is not None and item.high is not None:
            a, b = x(item.low), x(item.high)
            parts.append(f'<path d="M{a} {middle}H{b}M{a} {middle - 5}v10M{b} {middle - 5}v10" {_stroke(None, 1.4)}/>')
        parts.append(_text(width, middle + 4, text, anchor="end"))
    said = "; ".join(f"{item.name} {text}" for item, text in zip(items, texts, strict=True))
    return _svg(width, row * len(items) + 4, title, said, parts)


def _svg(width: float, height: float, title: str, description: str, parts: Iterable[str]) -> str:
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    face = f'style="font:{FONT:g}px var(--sans,system-ui,sans-serif);font-variant-numeric:tabular-nums"'
    said = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {face}>{said}{"".join(parts)}</svg>'


def _axes(x: Scale, y: Scale, x_label: str, y_label: str, width: float, height: float) -> str:
    """Hairlines at the y ticks, ticks along x, and both names written level, where they can be read."""
    base, parts = height - BOTTOM, []
    ticks = y.ticks(Y_TICKS)
    for tick, label in zip(ticks, tick_labels(ticks, log=y.log), strict=True):
        parts.append(f'<path d="M{x.start} {y(tick)}H{x.end}" {_stroke(None, 1)} opacity=".12"/>')
        parts.append(_text(x.start - 6, y(tick) + 4, label, anchor="end", faint=True))
    ticks = x.ticks(max(2, int((x.end - x.start) / 70)))
    parts.append(f'<path d="M{x.start} {base}H{x.end}" {_stroke(None, 1)} opacity=".5"/>')
    for tick, label in zip(ticks, tick_labels(ticks, log=x.log), strict=True):
        parts.append(f'<path d="M{x(tick)} {base}v4" {_stroke(None, 1)} opacity=".5"/>')
        parts.append(_text(x(tick), base + 17, label, anchor="middle", faint=True))
    parts.append(_text(0, 12, shorten(y_label, 48)))
    parts.append(_text(x.end, height - 7, shorten(x_label, 48), anchor="end"))
    return "".join(parts)


def _left(y: Scale) -> float:
    """Room for the labels of the y ticks."""
    return max((text_width(label) for label in tick_labels(y.ticks(Y_TICKS), log=y.log)), default=0.0) + 8


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if len(finite(point)) == 2]


def _path(points: Sequence[Point], x: Scale, y: Scale) -> str:
    return "M" + "L".join(f"{x(a):g} {y(b):g}" for a, b in points) if points else ""


def _colour(index: int | None) -> str:
    if index is None:
        return "currentColor"
    index %= len(COLOURS)
    return f"var(--chart-{index + 1},{COLOURS[index]})"


def _stroke(index: int | None, width: float) -> str:
    return f'style="fill:none;stroke:{_colour(index)}" stroke-width="{width}" stroke-linejoin="round"'


def _mark(shape: Shape, x: float, y: float, colour: int | None, size: float) -> str:
    paint = f'style="fill:{_colour(colour)}"'
    if shape == "circle":
        return f'<circle cx="{x}" cy="{y}" r="{size}" {paint}/>'
    if shape == "ring":
        return f'<circle cx="{x}" cy="{y}" r="{size - 0.8}" {_stroke(colour, 1.6)}/>'
    corners = {
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "triangle": ((0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
        "diamond": ((0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)),
    }[shape]
    return f'<path d="M{"L".join(f"{x + a * size:.2f} {y + b * size:.2f}" for a, b in corners)}Z" {paint}/>'


def _leader(x: float, y: float, box: Box) -> str:
    """A hairline from a point to its label, where the label had to move away."""
    a, b = min(max(x, box.left), box.right), min(max(y, box.top + 3), box.bottom - 3)
    if abs(a - x) + abs(b - y) <= 14:
        return ""
    return f'<path d="M{x} {y}L{a:.2f} {b:.2f}" {_stroke(None, 0.8)} opacity=".4"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", fill: str = "currentColor", faint: bool = False
) -> str:
    fade = ' opacity=".65"' if faint else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" style="fill:{fill}"{fade}>{escape(text)}</text>'
