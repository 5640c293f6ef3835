"""The world of `stillroom.data.cldr` as an SQLite database and as triples.

The database is built once into the cache folder. `SCHEMA` is its text, as a model is shown it that shall write SQL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from stillroom.data import cldr
from stillroom.data.cache import build_once, fingerprint
from stillroom.data.cldr import World, world

_VERSION = 1  # of the tables; a change makes the database in the cache stale

SCHEMA = """\
CREATE TABLE regions (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, parent TEXT REFERENCES regions (id));
CREATE TABLE groups (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE scripts (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE languages (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, script TEXT NOT NULL REFERENCES scripts (id));
CREATE TABLE currencies (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE countries (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, code TEXT NOT NULL UNIQUE,
  region TEXT NOT NULL REFERENCES regions (id),
  population INTEGER NOT NULL, gdp INTEGER NOT NULL, literacy REAL NOT NULL
);
CREATE TABLE country_regions (
  country TEXT REFERENCES countries (id), region TEXT REFERENCES regions (id), PRIMARY KEY (country, region)
);
CREATE TABLE country_groups (
  country TEXT REFERENCES countries (id), "group" TEXT REFERENCES groups (id), PRIMARY KEY (country, "group")
);
CREATE TABLE country_languages (
  country TEXT REFERENCES countries (id), language TEXT REFERENCES languages (id), percent REAL NOT NULL,
  status TEXT CHECK (status IN ('official', 'regional')), PRIMARY KEY (country, language)
);
CREATE TABLE country_currencies (
  country TEXT REFERENCES countries (id), currency TEXT REFERENCES currencies (id), since TEXT NOT NULL, until TEXT,
  PRIMARY KEY (country, currency, since)
);
CREATE TABLE cities (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, country TEXT NOT NULL REFERENCES countries (id));
"""


def schema() -> str:
    """The CREATE TABLE statements of the database."""
    return SCHEMA


def database() -> Path:
    """The path of the database, built now if it is not there yet. Open it with `stillroom.data.sql.execute`."""

    def build(target: Path) -> None:
        with closing(sqlite3.connect(target, isolation_level=None)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.executescript(f"BEGIN; {SCHEMA}")
            connection.execute("PRAGMA defer_foreign_keys = ON")
            for table, rows in world().tables.items():
                if rows:
                    marks = ", ".join("?" * len(rows[0]))
                    connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
            connection.execute("COMMIT")

    return build_once("facts/database", fingerprint(_VERSION, cldr.edition()), build)


class Triple(NamedTuple):
    """A fact. ``object`` is an id, or the value itself where ``object_type`` is number or text."""

    subject: str
    subject_type: str
    relation: str
    object: str
    object_type: str
    share: float | None = None  # percent of the people, of languages

    @property
    def id(self) -> str:
        """``CH|uses_currency|CHF``."""
        return f"{self.subject}|{self.relation}|{self.object}"


@cache
def triples() -> tuple[Triple, ...]:
    """All facts, each once."""
    return tuple(dict.fromkeys(_triples(world())))


def _triples(found: World) -> Iterator[Triple]:
    tables = found.tables
    for key, _, code, region, population, gdp, literacy in tables["countries"]:
        yield Triple(key, "country", "in_region", region, "region")
        yield Triple(key, "country", "has_code", code, "text")
        yield Triple(key, "country", "has_population", str(population), "number")
        yield Triple(key, "country", "has_gdp", str(gdp), "number")
        yield Triple(key, "country", "has_literacy", plain(literacy), "number")
    for key, group in tables["country_groups"]:
        yield Triple(key, "country", "member_of", group, "group")
    for key, language, percent, status in tables["country_languages"]:
        relation = {"official": "official_language", "regional": "regional_language", None: "other_language"}[status]
        yield Triple(key, "country", relation, language, "language", percent)
    now = {(key, currency) for key, currency, _, until in tables["country_currencies"] if until is None}
    for key, currency, _, _ in tables["country_currencies"]:
        used = (key, currency) in now
        yield Triple(key, "country", "uses_currency" if used else "used_currency", currency, "currency")
    for zone, _, key in tables["cities"]:
        yield Triple(key, "country", "has_city", zone, "city")
    for key, _, script in tables["languages"]:
        yield Triple(key, "language", "written_in", script, "script")
    for key, _, parent in tables["regions"]:
        if parent:
            yield Triple(key, "region", "in_region", parent, "region")


def plain(value: Any) -> str:
    """A value as text: whole numbers without a point, others as short as they can be."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
