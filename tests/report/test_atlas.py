"""The atlas in a real browser: it fits its window, filters, can be linked to, and is whole without its script.

.venv/bin/python -m pytest tests/report/test_atlas.py
"""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.browser import browser, opened

from stillroom import catalog

ROOT = Path(__file__).parent.parent.parent
NARROW, MIDDLE, WIDE = 390, 800, 1280
SHOWN = (
    "[...document.querySelectorAll('.atlas tbody tr')].filter(row => row.offsetParent || row.getClientRects().length)"
)


@pytest.fixture(scope="module")
def chromium():
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return folder


def slugs(seen):
    return seen.page.evaluate(f"{SHOWN}.map(row => row.cells[0].textContent.trim())")


@pytest.mark.parametrize("width", [NARROW, MIDDLE, WIDE])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["atlas", "taxonomy"])
def test_within_its_window_and_asking_no_other_host(chromium, site, name, dark, width):
    with opened(chromium, site / name / "index.html", width=width, dark=dark) as seen:
        assert seen.overflow() <= 0
        assert [request for request in seen.requests if not request.startswith("file:")] == []
        too_wide = "[...document.querySelectorAll('.atlas td')].filter(c => c.scrollWidth > c.clientWidth + 1).length"
        assert seen.page.evaluate(too_wide) == 0


def test_every_system_stands_there_once_measured_ones_first(chromium, site):
    with opened(chromium, site / "atlas/index.html") as seen:
        found = slugs(seen)
        assert sorted(found) == sorted(system.slug for system in catalog.systems())
        places = [("reproduced", "implemented", "planned").index(catalog.find(slug).state) for slug in found]
        assert places == sorted(places)
        assert seen.page.inner_text(".atlas-count") == "222 of 222 systems"


def test_filters_leave_what_was_asked_for(chromium, site):
    """Who has the weights has all the rest; who has text alone is left with what needs no more."""
    with opened(chromium, site / "atlas/index.html", width=NARROW) as seen:
        seen.page.select_option("select[name=ship]", "reranker")
        seen.page.select_option("select[name=have]", "numbers")
        asked = {"access": ("grey-box", "black-box"), "ships": "reranker"}
        assert set(slugs(seen)) == {system.slug for system in catalog.systems(where=asked)}
        seen.page.select_option("select[name=have]", "text")
        alone = catalog.systems(where={"access": "black-box", "ships": "reranker"})
        assert set(slugs(seen)) == {system.slug for system in alone}
        assert seen.page.inner_text(".atlas-count") == f"{len(alone)} of 222 systems"
        assert seen.overflow() <= 0


def test_words_and_results_filter_too_and_the_address_says_so(chromium, site):
    with opened(chromium, site / "atlas/index.html") as seen:
        seen.page.fill("input[name=words]", "Relational KNOWLEDGE")
        assert slugs(seen) == ["rkd"]
        assert seen.page.url.endswith("#words=Relational+KNOWLEDGE")
        seen.page.fill("input[name=words]", "")
        seen.page.select_option("select[name=result]", "built")
        assert set(slugs(seen)) == {system.slug for system in catalog.systems(state="implemented")}
        seen.page.select_option("select[name=result]", "holds")
        holding = {s.slug for s in catalog.systems(state="reproduced") if (s.result or {}).get("verdict") == "holds"}
        assert set(slugs(seen)) == holding
        seen.page.evaluate("location.hash = '#ship=graph-model'")
        seen.page.wait_for_function("document.querySelector('.atlas-count').textContent.startsWith('4 ')")


def test_every_option_leaves_something(chromium, site):
    with opened(chromium, site / "atlas/index.html") as seen:
        for name in ("have", "ship"):
            options = seen.page.eval_on_selector_all(f"select[name={name}] option", "all => all.map(one => one.value)")
            for value in options:
                seen.page.select_option(f"select[name={name}]", value)
                assert slugs(seen), (name, value)
            seen.page.select_option(f"select[name={name}]", "")
        assert len(options) == 1 + len(catalog.axes()["ships"].names)


def test_a_name_leads_to_the_page_of_the_method(chromium, site):
    with opened(chromium, site / "atlas/index.html") as seen:
        address = seen.page.get_attribute(".atlas tbody a", "href")
        assert (site / "atlas" / address / "index.html").resolve().is_file()


def test_without_its_script_it_is_a_table_of_every_system(chromium, site):
    context = chromium.new_context(java_script_enabled=False, viewport={"width": NARROW, "height": 900})
    page = context.new_page()
    page.goto((site / "atlas/index.html").as_uri())
    assert page.locator(".atlas tbody tr").count() == 222 and page.locator("select").count() == 0
    assert page.locator(".atlas tbody tr").last.is_visible()
    context.close()


def test_light_and_dark_can_both_be_read(chromium, site):
    contrast = """() => {
        const parts = color => color.match(/[\\d.]+/g).map(Number);
        const light = ([r, g, b]) => [r, g, b].map(value => value / 255)
            .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
            .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
        const paper = parts(getComputedStyle(document.body).backgroundColor);
        const over = ([r, g, b, a = 1]) => [r, g, b].map((value, place) => a * value + (1 - a) * paper[place]);
        const inks = [...document.querySelectorAll('.atlas td, .atlas-find label, .atlas-find select, .atlas-count')]
            .map(element => getComputedStyle(element).color);
        return [...new Set(inks)].map(ink => {
            const [one, other] = [light(over(parts(ink))), light(paper)];
            return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        });
    }"""
    for dark in (False, True):
        with opened(chromium, site / "atlas/index.html", dark=dark) as seen:
            assert min(seen.page.evaluate(contrast)) >= 4.5  # WCAG 2, level AA
