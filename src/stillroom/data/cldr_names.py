"""What territories, languages, scripts and currencies are called, by the Unicode CLDR (UTS 35, part 2)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
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


def names(language: str, prefer: Collection[tuple[str, str]] = ()) -> Mapping[tuple[str, str], str]:
    """(kind, code) -> name in the language; kinds are territory, language, script and currency.

    Names that nobody has confirmed are left out, and so are forms for use in a list. What a regional language does not
    name has the name that its parent gives.

    Args:
        language: that has a file.
        prefer: (kind, form) of names that take the place of a plain one, such as ``("territory", "short")`` (Hong
            Kong); abbreviations (UK) never do.
    """
    parent, _, last = language.rpartition("_")
    found = dict(names(parent, prefer)) if parent and len(last) != _SCRIPT else {}
    root = ElementTree.parse(path(language)).getroot()
    plain = {place: name for place, form, name in _named(root) if form is None}
    better = {
        place: name
        for place, form, name in _named(root)
        if (place[0], form) in prefer and place in plain and not name.isupper() and "." not in name
    }
    return {**found, **plain, **better}


def _named(root: ElementTree.Element) -> Iterator[tuple[tuple[str, str], str | None, str]]:
    """(kind, code), which form of the name (None for the plain one), the name."""
    found = [
        ((kind, item.get("type", "")), item)
        for kind, plural in _KINDS.items()
        for item in root.iterfind(f"localeDisplayNames/{plural}/{kind}")
    ]
    found += [
        (("currency", currency.get("type", "")), item)
        for currency in root.iterfind("numbers/currencies/currency")
        for item in currency.iterfind("displayName")
        if not item.get("count")
    ]
    for place, item in found:
        name = (item.text or "").strip()
        if name and name != INHERITED and item.get("draft") not in UNSURE:
            yield place, item.get("alt"), name
