"""What the Unicode CLDR says of the world: countries, regions, currencies, languages and cities, and their names.

Read in place from Debian's `unicode-cldr-core`. A country is here what ISO 3166 gives a code to and people live in, so
that Bermuda and Greenland are countries too; the group `UN` tells which are states. Population, GDP and literacy are
the CLDR's rounded figures; GDP is in international dollars a year (purchasing power parity), literacy in percent. A
city is one that a time zone is named after, which often is the capital and often is not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from stillroom.data import cldr_names
from stillroom.data.cldr_names import FOLDER
from stillroom.errors import UserError, nearest

GROUPS = ("EU", "EZ", "UN")
WORLD = "001"
_KINDS = ("territory", "language", "script", "currency")
_PREFERRED = (("territory", "short"), ("language", "short"), ("script", "stand-alone"))

Names = Mapping[str, Mapping[str, str]]
"""Kind (country, region, group, currency, language, script, city) -> id -> name."""


@dataclass(frozen=True)
class World:
    """Rows of tables. The columns are those of the database that `stillroom.data.facts.world` makes of them."""

    tables: Mapping[str, list[tuple[Any, ...]]]
    names: Names


def common() -> Path:
    """The folder with the CLDR's files.

    Raises:
        UserError: it is not there.
    """
    if not (FOLDER / "supplemental" / "supplementalData.xml").is_file():
        raise UserError(
            f"this needs the Unicode CLDR, which is not in {FOLDER}; on Debian: apt install unicode-cldr-core"
        )
    return FOLDER


def edition(*languages: str) -> str:
    """Changes with the files that are read: those about the world, and those with names in these languages."""
    found = hashlib.sha256()
    for path in (*_WORLD_FILES, *(f"main/{language}.xml" for language in ("en", *languages))):
        found.update(_file(path).read_bytes())
    return found.hexdigest()[:16]


_WORLD_FILES = ("supplemental/supplementalData.xml", "supplemental/likelySubtags.xml", "supplemental/windowsZones.xml")


def _file(name: str) -> Path:
    path = common() / name
    if not path.is_file():
        known = sorted(other.stem for other in path.parent.glob("*.xml"))
        raise UserError(f"the CLDR has no names in the language {path.stem!r}{nearest(path.stem, known)}")
    return path


def _tree(name: str) -> ElementTree.Element:
    return ElementTree.parse(_file(name)).getroot()


@cache
def names(language: str) -> Names:
    """What things are called in a language (``de``, ``pt``, ``zh_Hant``); what has no name there is absent."""
    if not re.fullmatch(r"[a-z]{2,3}(_[A-Za-z]+)*", language):
        raise UserError(f"a language is named like 'de' or 'zh_Hant'; found {language!r}")
    root = _tree(f"main/{language}.xml")
    known = cldr_names.names(language, prefer=_PREFERRED)
    of = {kind: {code: name for (what, code), name in known.items() if what == kind} for kind in _KINDS}
    places = of["territory"]
    return {
        "country": {key: name for key, name in places.items() if len(key) == 2 and key not in GROUPS},
        "region": {key: name for key, name in places.items() if len(key) == 3},
        "group": {key: name for key, name in places.items() if key in GROUPS},
        "language": of["language"],
        "script": of["script"],
        "currency": of["currency"],
        "city": {
            zone.get("type", ""): city.text or ""
            for zone in root.iterfind("dates/timeZoneNames/zone")
            for city in zone.iterfind("exemplarCity")
            if not city.get("alt")
        },
    }


@cache
def world() -> World:
    """All tables, with names in English. Rows that name something without an English name are left out."""
    data = _tree("supplemental/supplementalData.xml")
    english = {kind: dict(known) for kind, known in names("en").items()}
    parents = _parents(data)
    codes = {item.get("type", ""): item.get("alpha3") for item in data.iterfind("codeMappings/territoryCodes")}
    people = {item.get("type", ""): item for item in data.iterfind("territoryInfo/territory")}
    countries = [key for key in sorted(people) if codes.get(key) and key in parents and key in english["country"]]
    countries = [
        key for key in countries if len(_chain(key, parents)) > 1 and int(people[key].get("population", 0)) > 1
    ]
    # A zone that is called like a country says nothing new.
    inside, called = set(countries), set(english["country"].values())
    cities = {
        zone: (key, name)
        for zone, (key, name) in _cities(english["city"]).items()
        if key in inside and name not in called
    }
    english["city"] = {zone: name for zone, (_, name) in cities.items()}
    spoken = [row for row in _spoken(people) if row[0] in inside and row[1] in english["language"]]
    paid = [row for row in _currencies(data) if row[0] in inside and row[1] in english["currency"]]
    scripts = _scripts({row[1] for row in spoken})
    regions = {region for country in countries for region in _chain(country, parents)}
    tables: dict[str, list[tuple[Any, ...]]] = {
        "regions": [(key, english["region"][key], parents.get(key)) for key in sorted(regions)],
        "groups": [(key, english["group"][key]) for key in GROUPS],
        "scripts": [(key, english["script"][key]) for key in sorted(set(scripts.values()))],
        "languages": [(key, english["language"][key], script) for key, script in sorted(scripts.items())],
        "currencies": [(key, english["currency"][key]) for key in sorted({row[1] for row in paid})],
        "countries": [
            (key, english["country"][key], codes[key], parents[key], *_figures(people[key])) for key in countries
        ],
        "country_regions": [(key, region) for key in countries for region in _chain(key, parents)],
        "country_groups": [(key, group) for group, members in _members(data) for key in members if key in inside],
        "country_languages": spoken,
        "country_currencies": paid,
        "cities": [(zone, name, key) for zone, (key, name) in sorted(cities.items())],
    }
    return World(tables, english)


def _parents(data: ElementTree.Element) -> dict[str, str]:
    """Country or region -> the region that holds it, in the United Nations' tree that ends at the world."""
    return {
        part: group.get("type", "")
        for group in data.iterfind("territoryContainment/group")
        if group.get("type", "").isdigit() and not group.get("status") and not group.get("grouping")
        for part in group.get("contains", "").split()
    }


def _chain(key: str, parents: Mapping[str, str]) -> list[str]:
    """The regions around a country, the smallest first, the world last."""
    found = []
    while key in parents:
        key = parents[key]
        found.append(key)
    return found


def _members(data: ElementTree.Element) -> Iterator[tuple[str, list[str]]]:
    for group in data.iterfind("territoryContainment/group"):
        if group.get("type") in GROUPS and group.get("grouping"):
            yield group.get("type", ""), group.get("contains", "").split()


def _figures(item: ElementTree.Element) -> tuple[int, int, float]:
    return int(item.get("population", 0)), int(float(item.get("gdp", 0))), float(item.get("literacyPercent", 0))


_STATUS = {"official": "official", "de_facto_official": "official", "official_regional": "regional"}


def _spoken(people: Mapping[str, ElementTree.Element]) -> list[tuple[str, str, float, str | None]]:
    """Country, language, percent of the people, status. Of a language in two scripts the larger figure counts."""
    found = dict[tuple[str, str], tuple[float, str | None]]()
    for country, item in people.items():
        for spoken in item.iterfind("languagePopulation"):
            key = country, spoken.get("type", "").partition("_")[0]
            percent, status = found.get(key, (0.0, None))
            own = _STATUS.get(spoken.get("officialStatus", ""))
            better = own if status is None or own == "official" else status
            found[key] = max(percent, float(spoken.get("populationPercent", 0))), better
    return [(*key, *rest) for key, rest in sorted(found.items())]


def _currencies(data: ElementTree.Element) -> list[tuple[str, str, str, str | None]]:
    """Country, currency, since and until (ISO dates; null while it is in use), of what was or is legal tender."""
    found = {
        (region.get("iso3166", ""), item.get("iso4217", ""), item.get("from", ""), item.get("to"))
        for region in data.iterfind("currencyData/region")
        for item in region.iterfind("currency")
        if item.get("tender") != "false" and item.get("from")
    }
    return sorted(found, key=lambda row: (row[:3], row[3] or "9999"))


def _scripts(languages: set[str]) -> dict[str, str]:
    """Language -> the script that it is mostly written in, of those languages where the CLDR knows it."""
    found = {}
    for item in _tree("supplemental/likelySubtags.xml").iterfind("likelySubtags/likelySubtag"):
        parts = item.get("to", "").split("_")
        if item.get("from") in languages and len(parts) == 3:
            found[item.get("from", "")] = parts[1]
    return found


def _cities(english: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Time zone -> country and the city that it is named after."""
    found = {}
    for item in _tree("supplemental/windowsZones.xml").iterfind("windowsZones/mapTimezones/mapZone"):
        for zone in item.get("type", "").split():
            name = english.get(zone) or zone.rpartition("/")[2].replace("_", " ")
            if len(item.get("territory", "")) == 2 and zone.count("/") == 1 and not zone.startswith("Etc/"):
                found[zone] = item.get("territory", ""), name
    return found
