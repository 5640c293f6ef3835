"""The questions of `facts`: skeletons with their SQL and their logical form, filled, executed and checked twice.

A question is kept if its SQL gives an answer, if the answer is one (no ties), and if the logical form, evaluated
without SQL, gives the same. The countries of a question are those that it names, answers with or passes through (the
country of a city); all of them are in one split, or the question is dropped. Countries that are only counted, added up
or beaten by another one are not among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from stillroom.data.cldr import WORLD, world
from stillroom.data.facts import logic
from stillroom.data.facts.world import database
from stillroom.data.progress import Tick
from stillroom.data.tables import part_of, share
from stillroom.verify.sql import read, same_answer

Slots = dict[str, str]

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
MOST = {"train": 100, "validation": 30, "test": 30}
"""Questions of a skeleton, paraphrases not counted."""

THRESHOLDS = (100_000, 1_000_000, 5_000_000, 20_000_000, 50_000_000, 100_000_000)
_OTHERS = 12  # countries that one is compared with


@dataclass(frozen=True)
class Skeleton:
    """A kind of question. ``{slot}`` is a quoted name in ``sql`` and a thing like ``country:peru`` in ``form``."""

    kind: str
    sql: str
    form: str
    fill: Callable[[], Iterator[Slots]]


@cache
def split_of(country: str) -> str:
    """The split that a country is in, by its id."""
    return part_of(country, SHARES, salt="country")


def _rows(table: str) -> list[tuple[Any, ...]]:
    return world().tables[table]


def _each(slot: str, table: str) -> Callable[[], Iterator[Slots]]:
    return lambda: ({slot: row[0]} for row in _rows(table) if row[0] != WORLD)


def _pairs() -> Iterator[Slots]:
    """Every country and some others of its split."""
    keys = [row[0] for row in _rows("countries")]
    for country in keys:
        mates = [other for other in keys if other > country and split_of(other) == split_of(country)]
        for other in sorted(mates, key=lambda other: share(f"{country} {other}"))[:_OTHERS]:
            swap = share(f"{country} {other}", salt="order") < 0.5
            yield {"country": other, "other": country} if swap else {"country": country, "other": other}


def _money_pairs() -> Iterator[Slots]:
    """Pairs of countries of one split with the same currency, and as many with different ones."""
    used: dict[str, set[str]] = {}
    for country, currency, _, until in _rows("country_currencies"):
        if until is None:
            used.setdefault(country, set()).add(currency)
    keys = sorted(used, key=share)
    for country in keys:
        mates = [other for other in keys if other > country and split_of(other) == split_of(country)]
        same = [other for other in mates if used[other] & used[country]]
        for other, stranger in zip(same, [other for other in mates if not used[other] & used[country]], strict=False):
            yield {"country": country, "other": other}
            yield {"country": country, "other": stranger}


def _spoken() -> Iterator[Slots]:
    return ({"country": row[0], "language": row[1]} for row in _rows("country_languages"))


def _official() -> list[tuple[str, str]]:
    return [row[:2] for row in _rows("country_languages") if row[3] == "official"]


def _official_or_not() -> Iterator[Slots]:
    """Of each country one official language and one that is not: preferably one that is spoken there."""
    official = set(_official())
    everywhere = sorted({language for _, language in official})
    for country, *_ in _rows("countries"):
        own = [language for key, language in official if key == country]
        spoken = [row[1] for row in _rows("country_languages") if row[0] == country and row[1] not in own]
        strange = spoken or [language for language in everywhere if language not in own]
        for languages in (own, strange):
            if own and languages:
                yield {"country": country, "language": min(languages, key=lambda name: share(f"{country} {name}"))}


def _region_and(slot: str, pairs: Callable[[], Sequence[tuple[str, str]]]) -> Callable[[], Iterator[Slots]]:
    """A region of which some country has this."""

    def fill() -> Iterator[Slots]:
        around: dict[str, list[str]] = {}
        for country, region in _rows("country_regions"):
            around.setdefault(country, []).append(region)
        found = {(region, thing) for country, thing in pairs() for region in around[country] if region != WORLD}
        return ({"region": region, slot: thing} for region, thing in sorted(found))

    return fill


def _inside_or_not() -> Iterator[Slots]:
    """Of each country one region around it and one elsewhere."""
    regions = sorted({row[0] for row in _rows("regions")} - {WORLD})
    for country, *_ in _rows("countries"):
        own = {region for key, region in _rows("country_regions") if key == country}
        for choice in ([key for key in regions if key in own], [key for key in regions if key not in own]):
            yield {"country": country, "region": min(choice, key=lambda region: share(f"{country} {region}"))}


def _above() -> Iterator[Slots]:
    regions = (row[0] for row in _rows("regions") if row[0] != WORLD)
    return ({"region": region, "number": str(number)} for region, number in product(regions, THRESHOLDS))


_COUNTRY = "SELECT {} FROM countries WHERE name = {{country}}"
_LANGUAGES = (
    "SELECT {} FROM countries AS c JOIN country_languages AS x ON x.country = c.id "
    "JOIN languages AS l ON l.id = x.language WHERE {}"
)
_IN_REGION = (
    "SELECT {} FROM countries AS c JOIN country_regions AS x ON x.country = c.id "
    "JOIN regions AS r ON r.id = x.region WHERE r.name = {{region}}"
)
_BOTH = (
    "SELECT {} FROM countries AS c JOIN country_regions AS x ON x.country = c.id "
    "JOIN regions AS r ON r.id = x.region JOIN country_languages AS y ON y.country = c.id "
    "JOIN languages AS l ON l.id = y.language "
    "WHERE r.name = {{region}} AND l.name = {{language}} AND y.status = 'official'"
)
_CITY = "SELECT {} FROM cities AS t JOIN countries AS c ON c.id = t.country {}WHERE t.name = {{city}}"
_EITHER = "(argmax $0 country (or (= $0 {{country}}) (= $0 {{other}})) ({} $0))"

SKELETONS: dict[str, Skeleton] = {
    "population": Skeleton(
        "lookup", _COUNTRY.format("population"), "(population {country})", _each("country", "countries")
    ),
    "literacy": Skeleton("lookup", _COUNTRY.format("literacy"), "(literacy {country})", _each("country", "countries")),
    "code": Skeleton("lookup", _COUNTRY.format("code"), "(code {country})", _each("country", "countries")),
    "currency": Skeleton(
        "join",
        "SELECT m.name FROM countries AS c JOIN country_currencies AS x ON x.country = c.id "
        "JOIN currencies AS m ON m.id = x.currency WHERE c.name = {country} AND x.until IS NULL",
        "(lambda $0 currency (uses {country} $0))",
        _each("country", "countries"),
    ),
    "official_languages": Skeleton(
        "join",
        _LANGUAGES.format("l.name", "c.name = {country} AND x.status = 'official'"),
        "(lambda $0 language (official {country} $0))",
        _each("country", "countries"),
    ),
    "main_language": Skeleton(
        "superlative",
        _LANGUAGES.format("l.name", "c.name = {country} ORDER BY x.percent DESC LIMIT 1"),
        "(argmax $0 language (spoken {country} $0) (share {country} $0))",
        _each("country", "countries"),
    ),
    "count_official": Skeleton(
        "count",
        "SELECT COUNT(*) FROM countries AS c JOIN country_languages AS x ON x.country = c.id "
        "WHERE c.name = {country} AND x.status = 'official'",
        "(count $0 language (official {country} $0))",
        _each("country", "countries"),
    ),
    "region": Skeleton(
        "join",
        "SELECT r.name FROM countries AS c JOIN regions AS r ON r.id = c.region WHERE c.name = {country}",
        "(lambda $0 region (located {country} $0))",
        _each("country", "countries"),
    ),
    "share": Skeleton(
        "join",
        _LANGUAGES.format("x.percent", "c.name = {country} AND l.name = {language}"),
        "(share {country} {language})",
        _spoken,
    ),
    "is_official": Skeleton(
        "yes or no",
        "SELECT EXISTS ("
        + _LANGUAGES.format("1", "c.name = {country} AND l.name = {language} AND x.status = 'official'")
        + ")",
        "(official {country} {language})",
        _official_or_not,
    ),
    "more_people": Skeleton(
        "comparison",
        "SELECT name FROM countries WHERE name IN ({country}, {other}) ORDER BY population DESC LIMIT 1",
        _EITHER.format("population"),
        _pairs,
    ),
    "richer": Skeleton(
        "comparison",
        "SELECT name FROM countries WHERE name IN ({country}, {other}) ORDER BY gdp DESC LIMIT 1",
        _EITHER.format("gdp"),
        _pairs,
    ),
    "city_country": Skeleton(
        "join", _CITY.format("c.name", ""), "(lambda $0 country (city $0 {city}))", _each("city", "cities")
    ),
    "city_currency": Skeleton(
        "two hops",
        _CITY.format(
            "m.name", "JOIN country_currencies AS x ON x.country = c.id JOIN currencies AS m ON m.id = x.currency "
        )
        + " AND x.until IS NULL",
        "(lambda $0 currency (exists $1 country (and (city $1 {city}) (uses $1 $0))))",
        _each("city", "cities"),
    ),
    "city_languages": Skeleton(
        "two hops",
        _CITY.format(
            "l.name", "JOIN country_languages AS x ON x.country = c.id JOIN languages AS l ON l.id = x.language "
        )
        + " AND x.status = 'official'",
        "(lambda $0 language (exists $1 country (and (city $1 {city}) (official $1 $0))))",
        _each("city", "cities"),
    ),
    "count_in_region": Skeleton(
        "count", _IN_REGION.format("COUNT(*)"), "(count $0 country (in $0 {region}))", _each("region", "regions")
    ),
    "largest_in_region": Skeleton(
        "superlative",
        _IN_REGION.format("c.name") + " ORDER BY c.population DESC LIMIT 1",
        "(argmax $0 country (in $0 {region}) (population $0))",
        _each("region", "regions"),
    ),
    "people_in_region": Skeleton(
        "sum",
        _IN_REGION.format("SUM(c.population)"),
        "(sum $0 country (in $0 {region}) (population $0))",
        _each("region", "regions"),
    ),
    "countries_by_language": Skeleton(
        "conjunction",
        _BOTH.format("c.name"),
        "(lambda $0 country (and (in $0 {region}) (official $0 {language})))",
        _region_and("language", _official),
    ),
    "count_by_language": Skeleton(
        "conjunction, count",
        _BOTH.format("COUNT(*)"),
        "(count $0 country (and (in $0 {region}) (official $0 {language})))",
        _region_and("language", _official),
    ),
    "count_users": Skeleton(
        "count",
        "SELECT COUNT(DISTINCT x.country) FROM country_currencies AS x JOIN currencies AS m ON m.id = x.currency "
        "WHERE m.name = {currency} AND x.until IS NULL",
        "(count $0 country (uses $0 {currency}))",
        lambda: (
            {"currency": key} for key in sorted({row[1] for row in _rows("country_currencies") if row[3] is None})
        ),
    ),
    "script": Skeleton(
        "join",
        "SELECT s.name FROM languages AS l JOIN scripts AS s ON s.id = l.script WHERE l.name = {language}",
        "(lambda $0 script (written {language} $0))",
        _each("language", "languages"),
    ),
    "country_scripts": Skeleton(
        "two hops",
        "SELECT DISTINCT s.name FROM countries AS c JOIN country_languages AS x ON x.country = c.id "
        "JOIN languages AS l ON l.id = x.language JOIN scripts AS s ON s.id = l.script "
        "WHERE c.name = {country} AND x.status = 'official'",
        "(lambda $0 script (exists $1 language (and (official {country} $1) (written $1 $0))))",
        _each("country", "countries"),
    ),
    "richest_by_language": Skeleton(
        "superlative, join",
        _LANGUAGES.format("c.name", "l.name = {language} AND x.status = 'official' ORDER BY c.gdp DESC LIMIT 1"),
        "(argmax $0 country (official $0 {language}) (gdp $0))",
        lambda: ({"language": key} for key in sorted({language for _, language in _official()})),
    ),
    "members_in_region": Skeleton(
        "conjunction, count",
        'SELECT COUNT(*) FROM country_groups AS y JOIN groups AS g ON g.id = y."group" '
        "JOIN country_regions AS x ON x.country = y.country JOIN regions AS r ON r.id = x.region "
        "WHERE g.name = {group} AND r.name = {region}",
        "(count $0 country (and (member $0 {group}) (in $0 {region})))",
        _region_and("group", lambda: [row[:2] for row in _rows("country_groups")]),
    ),
    "count_above": Skeleton(
        "comparison, count",
        _IN_REGION.format("COUNT(*)") + " AND c.population > {number}",
        "(count $0 country (and (in $0 {region}) (> (population $0) {number})))",
        _above,
    ),
    "within": Skeleton(
        "containment",
        "SELECT EXISTS (" + _IN_REGION.format("1") + " AND c.name = {country})",
        "(in {country} {region})",
        _inside_or_not,
    ),
    "same_currency": Skeleton(
        "two hops, yes or no",
        "SELECT EXISTS (SELECT 1 FROM countries AS a JOIN country_currencies AS x ON x.country = a.id "
        "JOIN country_currencies AS y ON y.currency = x.currency JOIN countries AS b ON b.id = y.country "
        "WHERE a.name = {country} AND b.name = {other} AND x.until IS NULL AND y.until IS NULL)",
        "(exists $0 currency (and (uses {country} $0) (uses {other} $0)))",
        _money_pairs,
    ),
}

_TABLES = {
    **{"country": "countries", "other": "countries", "region": "regions", "group": "groups", "city": "cities"},
    **{"language": "languages", "currency": "currencies", "script": "scripts"},
}


def checked(progress: Tick = lambda done, total: None) -> Iterator[dict[str, Any]]:
    """All questions that are kept, in no language yet.

    Yields:
        id; skeleton and kind; slots, slot -> id; sql; form; answer_type, a type of things, ``number``, ``text`` or
        ``truth``; answers, ids or values as text; countries, ids; split, by country.
    """
    facts = database()
    for done, (name, skeleton) in enumerate(SKELETONS.items(), 1):
        kept = Counter[str]()
        for slots in sorted(skeleton.fill(), key=lambda slots: share(str(sorted(slots.items())), salt=name)):
            if all(kept[split] >= most for split, most in MOST.items()):
                break
            named = {split_of(key) for slot, key in slots.items() if slot in ("country", "other")}
            if any(kept[split] >= MOST[split] for split in named):
                continue
            found = _filled(name, skeleton, slots, facts)
            if found and kept[found["split"]] < MOST[found["split"]] and _checked(found):
                kept[found["split"]] += 1
                yield found
        progress(done, len(SKELETONS))


def _filled(name: str, skeleton: Skeleton, slots: Slots, facts: Path) -> dict[str, Any] | None:
    """The question, or None where its answer is no answer or its countries are in different splits."""
    things = {slot: _label(slot, key) for slot, key in slots.items()}
    sql = skeleton.sql.format(**{slot: _quoted(slot, thing) for slot, thing in things.items()})
    form = skeleton.form.format(**{slot: _entity(slot, thing) for slot, thing in things.items()})
    kind = logic.type_of(logic.parse(form)).removeprefix("set of ")
    rows = read(sql, facts)
    values = [row[0] for row in rows]
    if not values or (values == [0] and kind == "number"):
        return None
    ids = [_ids(kind).get(value, value) for value in values]
    countries = {key for slot, key in slots.items() if slot in ("country", "other")}
    countries.update(ids if kind == "country" else ())
    countries.update(_rows_by_id("cities")[slots["city"]][2:] if "city" in slots else ())
    splits = {split_of(country) for country in countries}
    if len(splits) > 1:
        return None
    group = splits.pop() if splits else part_of("|".join(slots.values()), SHARES, salt="thing")
    return {
        "id": f"{name}-{'-'.join(slots.values())}",
        "skeleton": name,
        "kind": skeleton.kind,
        "slots": slots,
        "sql": sql,
        "form": form,
        "answer_type": kind,
        "answers": ids,
        "countries": sorted(countries),
        "split": group,
    }


def _checked(found: Mapping[str, Any]) -> bool:
    """Whether the answer is the only one. SQL names one of those that tie for the first place, the form all of them.

    Raises:
        AssertionError: the logical form says something else than the SQL.
    """
    said = logic.answer(found["form"])
    if found["form"].startswith("(argmax") and len(said) > 1:
        return False
    if not same_answer([(value,) for value in said], [(value,) for value in found["answers"]]):
        raise AssertionError(f"{found['sql']} gives {found['answers']}, and {found['form']} gives {said}")
    return True


def _quoted(slot: str, thing: str) -> str:
    return thing if slot == "number" else "'" + thing.replace("'", "''") + "'"


def _entity(slot: str, thing: str) -> str:
    return thing if slot == "number" else logic.entity("country" if slot == "other" else slot, thing)


def _label(slot: str, key: str) -> str:
    return key if slot == "number" else str(_rows_by_id(_TABLES[slot])[key][1])


def _rows_by_id(table: str) -> dict[str, tuple[Any, ...]]:
    if table not in _BY_ID:
        _BY_ID[table] = {row[0]: row for row in _rows(table)}
    return _BY_ID[table]


_BY_ID: dict[str, dict[str, tuple[Any, ...]]] = {}


def _ids(kind: str) -> Mapping[Any, str]:
    """Name -> id of the things of a type; nothing for numbers, texts and truths."""
    return {row[1]: key for key, row in _rows_by_id(_TABLES[kind]).items()} if kind in _TABLES else {}
