"""The report in a real browser: silent, self-contained, no wider than its window, and unmoved by hostile text.

.venv/bin/python -m pytest tests/report/test_browser.py
"""

from itertools import pairwise

import pytest
from tests.browser import browser, opened
from tests.report.folders import write_complete, write_hostile, write_minimal

from stillroom.report import write_report
from stillroom.report.comparison import write_comparison

NARROW, WIDE = 390, 1280


@pytest.fixture(scope="module")
def chromium():
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    runs = [write_complete(folder / "complete"), write_hostile(folder / "hostile")]
    found = {run.name: write_report(run) for run in (*runs, write_minimal(folder / "minimal"))}
    return found | {"comparison": write_comparison(runs, folder / "comparison.html")}


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["complete", "minimal", "hostile", "comparison"])
def test_silent_and_within_its_window(chromium, pages, name, dark, width):
    with opened(chromium, pages[name], width=width, dark=dark) as seen:
        assert seen.complaints == [] and seen.requests == []
        assert seen.overflow() <= 0
        assert seen.page.locator("script, img, iframe, object, embed, form").count() == 0
        assert seen.page.title() not in ("", "owned")


def test_headings_go_down_one_level_at_a_time(chromium, pages):
    with opened(chromium, pages["complete"]) as seen:
        levels = seen.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_light_and_dark_can_both_be_read(chromium, pages):
    contrast = """() => {
        const light = color => {
            const parts = color.match(/[\\d.]+/g).slice(0, 3).map(Number).map(value => value / 255)
                .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
            return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
        };
        const paper = light(getComputedStyle(document.body).backgroundColor);
        return [...document.querySelectorAll('h1, .note, dt, dd, td, svg text')].map(element => {
            const style = getComputedStyle(element);
            const ink = light(element.closest('svg') ? style.fill : style.color);
            return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
        });
    }"""
    papers = set()
    for dark in (False, True):
        with opened(chromium, pages["complete"], dark=dark) as seen:
            assert min(seen.page.evaluate(contrast)) >= 4.5  # WCAG 2, level AA
            papers.add(seen.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == 2


def test_names_in_charts_do_not_overlap_as_drawn(chromium, pages):
    overlaps = """() => {
        const found = [];
        for (const chart of document.querySelectorAll('svg')) {
            const texts = [...chart.querySelectorAll('text')];
            const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
            boxes.forEach(([one, a], place) => boxes.slice(0, place).forEach(([other, b]) => {
                const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                if (width > 1 && height > 4) found.push([one, other]);
            }));
        }
        return found;
    }"""
    for width in (NARROW, WIDE):
        with opened(chromium, pages["complete"], width=width) as seen:
            assert seen.page.evaluate(overlaps) == []


def test_a_long_text_unfolds(chromium, pages):
    with opened(chromium, pages["complete"]) as seen:
        whole = seen.page.locator("details.long .text").first
        assert not whole.is_visible()
        seen.page.locator("details.long summary").first.click()
        assert whole.is_visible() and len(whole.inner_text()) > 700
        assert not seen.page.locator("details.long .cut").first.is_visible()


def test_hostile_text_is_shown_as_it_is(chromium, pages):
    with opened(chromium, pages["hostile"]) as seen:
        seen.page.locator("details.long summary").first.click()
        shown = seen.page.locator("details.long .text").first.inner_text()
        assert "<script>document.title='owned'</script>]]>" in shown
        assert seen.page.locator("h2").count() == 9


def test_printed_on_paper(chromium, pages, tmp_path):
    with opened(chromium, pages["complete"], dark=True) as seen:
        seen.page.emulate_media(media="print")
        assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        seen.page.pdf(path=str(tmp_path / "report.pdf"), format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 20_000
