"""A real browser for tests of pages: Chromium without a window, where it is installed.

Debian: ``apt-get install chromium``; the driver: ``pip install playwright`` (its own browsers are not needed).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Nothing of its own may leave the machine, so that whatever does was asked for by the page.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@dataclass
class Opened:
    """A page in the browser, and what it did: requests beside the file itself, messages on the console, errors."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def find() -> str:
    """The path of the installed Chromium; without one, or without its driver, the test is skipped."""
    pytest.importorskip("playwright", reason="no browser driver: pip install playwright")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no browser: apt-get install chromium")
    return path


@contextmanager
def browser() -> Iterator[Any]:
    """A Chromium with a fresh profile."""
    path = find()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()


@contextmanager
def opened(running: Any, file: Path, *, width: int = 1280, dark: bool = False) -> Iterator[Opened]:
    """Open a local page and watch it."""
    page = running.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    seen = Opened(page)
    address = file.resolve().as_uri()
    page.on("request", lambda request: seen.requests.append(request.url) if request.url != address else None)
    page.on("console", lambda message: seen.complaints.append(message.text))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (seen.complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.goto(address, wait_until="load")
    yield seen
    page.close()


def screenshot(file: Path, image: Path, *, width: int = 1280, dark: bool = False) -> Path:
    """A picture of the whole page, to be looked at by a person."""
    with browser() as running, opened(running, file, width=width, dark=dark) as seen:
        seen.page.screenshot(path=str(image), full_page=True)
    return image
