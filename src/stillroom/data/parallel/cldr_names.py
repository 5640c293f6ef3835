"""What territories, languages, scripts and currencies are called, by the Unicode CLDR (UTS 35, part 2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

FOLDER = Path("/usr/share/unicode/cldr/common")
"""Where Debian's `unicode-cldr-core` puts its files."""

INHERITED = "↑↑↑"  # stands for the name that the parent has
UNSURE = ("unconfirmed", "provisional")
_SCRIPT = 4  # the length of a script's code; a language in another script doesn't inherit names

_KINDS = {"territory": "territories", "language": "languages", "script": "scripts"}


def folder() -> Path:
    """The folder with a file for each language."""
    return FOLDER / "main"


def path(language: str) -> Path:
    """A language's file, which need not be there."""
    return folder() / f"{language}.xml"


def languages() -> frozenset[str]:
    """The languages that have a file (``de``, ``pt_PT``, ``zh_Hant``); none where the CLDR is not installed."""
    return frozenset(item.stem for item in folder().glob("*.xml") if item.stem != "root")


def names(language: str) -> dict[tuple[str, str], str]:
    """(kind, code) -> name in the language; kinds are territory, language, script and currency.

    Plain names only: no abbreviations, no forms for use in a list, none that nobody has confirmed.
    """
    parent, _, last = language.rpartition("_")
    found = names(parent) if parent and len(last) != _SCRIPT else {}
    root = ElementTree.parse(path(language)).getroot()
    own = {place: name.strip() for place, name in _named(root) if name.strip() and name != INHERITED}
    return {**found, **own}


def _named(root: ElementTree.Element) -> Iterator[tuple[tuple[str, str], str]]:
    for kind, plural in _KINDS.items():
        for item in root.iterfind(f"localeDisplayNames/{plural}/{kind}"):
            if _is_plain(item):
                yield (kind, item.get("type", "")), item.text or ""
    for currency in root.iterfind("numbers/currencies/currency"):
        for item in currency.iterfind("displayName"):
            if _is_plain(item) and not item.get("count"):
                yield ("currency", currency.get("type", "")), item.text or ""


def _is_plain(item: ElementTree.Element) -> bool:
    return not item.get("alt") and item.get("draft") not in UNSURE
