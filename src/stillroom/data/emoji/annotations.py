"""Names, keywords and groups of emoji in some hundred languages, from Debian's `unicode-cldr-core`.

Read from the package's own files: `annotations` and `annotationsDerived` (names, keywords; sequences with skin tones
and flags are in the second) and `properties/labels.txt` (groups such as "Food & Drink" and subgroups such as
"food-fruit"). The labels stop at emoji of 2018; `labels` says how a newer one gets its own.

Emoji are written without the variation selector U+FE0F, here and in all of this data source.

Source: Unicode Technical Standard 35, part 2, appendix "Annotations".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from stillroom.data.cldr_names import FOLDER as CLDR
from stillroom.data.cldr_names import INHERITED
from stillroom.errors import UserError, nearest

INSTALL_NAMES = "the names of emoji are read from files that are not here: apt-get install unicode-cldr-core"
SELECTOR = "\ufe0f"

_FOLDERS = ("annotations", "annotationsDerived")


@dataclass(frozen=True)
class Said:
    """What a language says of an emoji."""

    name: str
    keywords: tuple[str, ...]


def languages() -> list[str]:
    """The languages that there are files of, as CLDR writes them: ``de``, ``en_GB``, ``zh_Hant``."""
    return sorted(path.stem for path in _folder().glob("*.xml") if path.stem != "root")


@cache
def names(language: str) -> Mapping[str, Said]:
    """Every character or sequence that the language has a name for -> its name and keywords, in the file's order.

    What ``en_GB`` does not say is said by ``en_001`` and then by ``en``; nothing is taken from another language.

    Raises:
        UserError: there is no such language, or the package is missing.
    """
    known = languages()
    if language not in known:
        short = ", ".join(code for code in known if len(code) == 2)
        near = nearest(language.replace("-", "_"), known)
        raise UserError(f"emoji have no names in {language!r}{near}; languages: {short}, and some regions of these")
    name, keywords = dict[str, str](), dict[str, str]()
    for ancestor in reversed(list(_lineage(language))):
        for folder in _FOLDERS:
            for text, kind, value in _annotations(CLDR / folder / f"{ancestor}.xml"):
                (name if kind == "tts" else keywords)[text] = value
    return {text: Said(said, _split(keywords.get(text, ""))) for text, said in name.items()}


def _folder() -> Path:
    folder = CLDR / "annotations"
    if not (folder / "en.xml").is_file():
        raise UserError(INSTALL_NAMES)
    return folder


def _annotations(path: Path) -> Iterator[tuple[str, str | None, str]]:
    if path.is_file():
        for element in ElementTree.parse(path).iter("annotation"):
            if element.text and element.text != INHERITED:
                yield element.attrib["cp"].replace(SELECTOR, ""), element.get("type"), element.text


def _split(keywords: str) -> tuple[str, ...]:
    return tuple(word for part in keywords.split("|") if (word := part.strip()))


def _lineage(language: str) -> Iterator[str]:
    """The language and those that it inherits from, nearest first: the one that CLDR names, else without its end."""
    while language and language != "root":
        yield language
        language = _parents().get(language, language.rpartition("_")[0])


@cache
def _parents() -> Mapping[str, str]:
    path = CLDR / "supplemental" / "supplementalData.xml"
    elements = ElementTree.parse(path).iter("parentLocale")
    return {child: found.attrib["parent"] for found in elements for child in found.attrib["locales"].split()}


def labels(bases: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Group and subgroup of emoji, as `labels.txt` lists them.

    One that is not listed has those of another variant of its base; else those of the emoji that stands before its base
    in CLDR's own order, in which subgroups follow each other. An emoji newer than the order has none and is left out.

    Args:
        bases: emoji -> the form that stands for all its variants.
    """
    listed = _listed()
    of_base = {bases[text]: label for text, label in listed.items() if text in bases}
    before: dict[str, tuple[str, str]] = {}
    last = None
    for text in _order():
        last = listed.get(text, last)
        if last is not None:
            before.setdefault(text, last)
    found = {text: listed.get(text) or of_base.get(base) or before.get(base) for text, base in bases.items()}
    return {text: label for text, label in found.items() if label is not None}


def _order() -> Iterator[str]:
    """Emoji in the order of CLDR's collation rules, whose lines are like ``<*😀😃`` or ``< ❤‍🔥 = ❤️‍🔥``."""
    path = CLDR / "collation" / "root.xml"
    if not path.is_file():
        raise UserError(INSTALL_NAMES)
    rules = path.read_text("utf-8").partition("<collation type='emoji'>")[2].partition("</collation>")[0]
    for line in rules.replace(SELECTOR, "").splitlines():
        if line.startswith("<*"):
            yield from line[2:]
        elif not line.startswith(("#", "&")):
            yield from (text for part in re.split("[<=]+", line) if (text := part.strip()))


_MEMBER = re.compile(r"\{([^}]*)\}|(.)-(.)|(.)")


def _listed() -> dict[str, tuple[str, str]]:
    """Emoji -> group and subgroup, where the package lists them: ``[☘🌱-🌵{🏴‍☠️}] ; Animals & Nature ; plant-other``."""
    path = CLDR / "properties" / "labels.txt"
    if not path.is_file():
        raise UserError(INSTALL_NAMES)
    found = dict[str, tuple[str, str]]()
    for line in path.read_text("utf-8").splitlines():
        members, *labels = (part.strip() for part in line.split(";"))
        if len(labels) == 2 and members.startswith("["):
            for text in _members(members[1:-1]):
                found.setdefault(text, (labels[0], labels[1]))
    return found


def _members(text: str) -> Iterator[str]:
    for sequence, first, last, single in _MEMBER.findall(text):
        if first:
            yield from map(chr, range(ord(first), ord(last) + 1))
        else:
            yield (sequence or single).replace(SELECTOR, "")
