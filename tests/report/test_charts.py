"""Charts: the right places by hand, well-formed SVG, no overlapping names, nothing from the data becomes markup.

.venv/bin/python -m pytest tests/report/test_charts.py
"""

import math
import random
import re
from xml.etree import ElementTree

import pytest
from tests.report.folders import HOSTILE

from stillroom.report.charts import Bar, Curve, Dot, bars, curves, scatter
from stillroom.report.labels import LINE, Box, place, spread, text_width
from stillroom.report.scale import Scale, linear_ticks, span, tick_labels

SVG = "{http://www.w3.org/2000/svg}"
AXES = {"title": "A title", "x_label": "step", "y_label": "loss"}


def parsed(svg):
    root = ElementTree.fromstring(svg)
    assert root.tag == SVG + "svg" and root.get("role") == "img"
    assert root[0].tag == SVG + "title" and root[1].tag == SVG + "desc"
    return root


def texts(root):
    return [element.text for element in root.iter(SVG + "text")]


def test_ticks_are_round():
    assert linear_ticks(0.0, 1.0, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert linear_ticks(3.1, 8.9, 5) == pytest.approx([4, 6, 8])
    assert linear_ticks(-130, 270, 4) == pytest.approx([-100, 0, 100, 200])
    assert Scale(1, 1000, 0, 1, log=True).ticks() == pytest.approx([1, 10, 100, 1000])
    assert Scale(20, 400, 0, 1, log=True).ticks(4) == pytest.approx([30, 100, 300])


def test_tick_labels():
    assert tick_labels([0, 0.25, 0.5]) == ["0", "0.25", "0.50"]
    assert tick_labels([0, 500, 1000]) == ["0", "500", "1,000"]
    assert tick_labels([0, 5000, 10000]) == ["0", "5k", "10k"]
    assert tick_labels([3e7, 1e8, 1e9], log=True) == ["30M", "100M", "1B"]
    assert tick_labels([-0.5, 0.5]) == ["−0.5", "0.5"]


def test_scale():
    assert Scale(0, 10, 100, 200)(2.5) == 125
    assert Scale(10, 1000, 0, 100, log=True)(100) == 50
    assert Scale(0, 10, 100, 0)(40) == 0  # outside: on the border


@pytest.mark.parametrize("values", [[], [5.0], [0.0, 0.0], [math.nan, math.inf], [1e300, -1e300], [1e16, 1e16 + 2]])
def test_span_is_never_empty(values):
    low, high = span(values)
    assert math.isfinite(low) and math.isfinite(high) and low < high
    assert linear_ticks(low, high, 5)


def test_a_curve_goes_through_its_points():
    root = parsed(curves([Curve("", [(0, 0.0), (5, 1.0), (10, 0.0)])], **AXES, width=300, height=200))
    path = next(p.get("d") for p in root.iter(SVG + "path") if p.get("d").count("L") == 2)
    (x0, y0), (x1, y1), (x2, y2) = (tuple(map(float, pair.split())) for pair in path[1:].split("L"))
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.02)
    assert y0 == y2 > y1  # y grows downwards
    # 0 and 1 lie 6 % inside a plot of 200 - 30 - 40 pixels: 130 / 1.12 apart.
    assert y0 - y1 == pytest.approx(130 / 1.12, abs=0.05)


def test_curves_far_apart_get_a_logarithmic_axis():
    assert {"1", "10", "100"} <= set(texts(parsed(curves([Curve("a", [(0, 200.0), (9, 0.5)])], **AXES))))
    assert "0" in texts(parsed(curves([Curve("a", [(0, 200.0), (9, -0.5)])], **AXES)))


def test_several_curves_differ_in_dash_as_well_as_colour():
    lines = [Curve(name, [(0, place), (1, place)], colour=place) for place, name in enumerate("abc")]
    root = parsed(curves(lines, **AXES, levels=[("teacher", 2.5)]))
    drawn = [p for p in root.iter(SVG + "path") if p.get("stroke-width") == "1.8"]
    assert len({p.get("stroke-dasharray") for p in drawn}) == len({p.get("style") for p in drawn}) == 3
    assert {"a", "b", "c", "teacher"} <= set(texts(root))
    assert "teacher at 2.50" in root[1].text


def test_what_is_not_finite_is_left_out():
    values = [(0, 1.0), (1, math.nan), (2, math.inf), (3, -math.inf), (4, 2.0)]
    svg = curves([Curve("a", values, raw=values), Curve("b", [(0, math.nan)])], **AXES, levels=[("c", math.nan)])
    assert not re.search(r"\b(nan|inf)\b", svg, re.I)
    assert {"a"} == {"a", "b", "c"} & set(texts(parsed(svg)))
    assert not re.search(r"\b(nan|inf)\b", scatter([Dot("a", math.nan, 1.0), Dot("b", 1.0, 2.0)], **AXES), re.I)
    assert not re.search(r"\b(nan|inf)\b", bars([Bar("a", math.nan), Bar("b", 1.0)], title="t"), re.I)


@pytest.mark.parametrize("draw", [lambda: curves([], **AXES), lambda: scatter([], **AXES), lambda: bars([], title="t")])
def test_nothing_to_draw(draw):
    parsed(draw())


def test_dots_have_shapes_and_values():
    dots = [Dot("teacher", 4e9, 0.75, "square", None), Dot("student", 6e8, 0.7), Dot("start", 6e8, 0.4, "ring")]
    root = parsed(scatter(dots, **AXES, links=[(2, 1)]))
    assert {"teacher", "student", "start"} <= set(texts(root))
    assert "student: 600,000,000, 0.700" in [element.text for element in root.iter(SVG + "title")]
    filled, ring = root.findall(f".//{SVG}circle")
    assert filled.get("cx") == ring.get("cx") and float(filled.get("cy")) < float(ring.get("cy"))


def test_a_link_to_a_dot_without_a_place_is_left_out():
    dots = [Dot("gone", math.nan, 1.0), Dot("a", 1.0, 2.0), Dot("b", 2.0, 3.0)]
    alone, linked = (scatter(dots, **AXES, links=links) for links in ([(0, 1)], [(1, 2)]))
    assert linked.count("<path") == alone.count("<path") + 1


def test_bars_are_as_long_as_their_values():
    root = parsed(bars([Bar("a", 0.5, 0.4, 0.6), Bar("b", 0.25)], title="t", limit=1.0))
    first, second = (float(bar.get("width")) for bar in root.iter(SVG + "rect"))
    assert first == pytest.approx(2 * second, abs=0.03)
    whisker = next(p.get("d") for p in root.iter(SVG + "path") if p.get("stroke-width") == "1.4")
    low, high = float(whisker[1:].split()[0]), float(whisker.split("H")[1].split("M")[0])
    assert high - low == pytest.approx(0.4 * first, abs=0.05)  # 0.6 - 0.4 of a bar of 0.5
    assert {"0.500", "0.250"} <= set(texts(root))


def test_bars_below_zero_start_at_zero():
    root = parsed(bars([Bar("a", -1.0), Bar("b", 1.0)], title="t"))
    below, above = root.iter(SVG + "rect")
    assert float(below.get("x")) + float(below.get("width")) == pytest.approx(float(above.get("x")), abs=0.02)


def overlaps(boxes):
    return [(a, b) for place, a in enumerate(boxes) for b in boxes[:place] if a.overlap(b) > 0]


def test_names_do_not_overlap():
    room = Box(0, 0, 400, 280)
    luck = random.Random(0)
    crowds = [[(200, 140)] * 12, [(200, 100 + 3 * n) for n in range(12)]]
    crowds += [[(luck.uniform(20, 380), luck.uniform(20, 260)) for _ in range(10)] for _ in range(50)]
    for points in crowds:
        boxes = place(points, [text_width("a system")] * len(points), room)
        assert not overlaps(boxes)
        assert all(box.overlap(room) == box.area() for box in boxes)


def test_names_at_the_ends_of_curves_are_moved_apart_in_order():
    moved = spread([50, 51, 52, 10], 0, 100)
    assert moved[3] < moved[0] < moved[1] < moved[2]
    assert min(b - a for a, b in zip(sorted(moved), sorted(moved)[1:], strict=False)) >= LINE
    crowded = spread([99] * 20, 0, 100)
    assert min(crowded) >= -1e-9 and max(crowded) <= 100


def test_hostile_names():
    names = {"title": HOSTILE, "x_label": HOSTILE, "y_label": HOSTILE}
    for svg in (
        curves([Curve(HOSTILE, [(0, 1), (1, 2)])], **names, levels=[(HOSTILE, 1.5)]),
        scatter([Dot(HOSTILE, 1, 2), Dot(HOSTILE, 2, 3)], **names),
        bars([Bar(HOSTILE, 1.0)], title=HOSTILE),
    ):
        root = parsed(svg)
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
            *("svg", "title", "desc", "text", "path", "g", "circle", "rect")
        }
        assert "<script>" in root[0].text
        assert all(len(text or "") <= 60 for text in texts(root))
