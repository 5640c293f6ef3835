"""Templates to text. What a template is given is data, never markup, unless it comes as `Markup` that was made here."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stillroom.report import units
from stillroom.report.text import clean, shorten

MARKDOWN = re.compile(r"([\\`*_\[\]|~$])")


def html(template: str, **content: Any) -> str:
    """Fill an HTML template; every plain string is cleaned and escaped."""
    return _html().get_template(template).render(**content)


def markdown(template: str, **content: Any) -> str:
    """Fill a Markdown template; every plain string is made one line of literal text."""
    return _markdown().get_template(template).render(**content)


def save(text: str, path: Path) -> Path:
    """Write a text under a temporary name, then rename it, so that the file is complete or absent."""
    aside = path.with_name(path.name + ".part")
    aside.write_text(text, "utf-8")
    return aside.replace(path)


@cache
def _html() -> Environment:
    environment = _environment(autoescape=True, finalize=lambda value: clean(value) if type(value) is str else value)
    style = Path(__file__).parent / "templates" / "style.css"
    environment.globals["style"] = Markup(style.read_text("utf-8"))
    environment.filters.update(
        number=units.number, share=units.share, duration=units.duration, shorten=shorten, date=_date
    )
    return environment


@cache
def _markdown() -> Environment:
    environment = _environment(
        autoescape=False, finalize=lambda value: _literal(value) if type(value) is str else value
    )
    environment.filters.update(number=units.number, share=units.share, fenced=_fenced, yaml=_yaml)
    return environment


def _environment(**settings: Any) -> Environment:
    loader = PackageLoader("stillroom.report")
    return Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **settings)


def _date(started: str) -> str:
    """``2025-03-04 09:12`` of an ISO date and time."""
    return started[:16].replace("T", " ")


def _literal(text: str) -> str:
    line = re.sub(r"[\n\t]+", " ", clean(text))
    return MARKDOWN.sub(r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _fenced(text: str, language: str) -> Markup:
    """A code block whose fence is longer than any run of backticks in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{clean(text).rstrip()}\n{fence}")


def _yaml(value: Any) -> Markup:
    """As YAML, with what isn't printable escaped."""
    return Markup(yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip())
