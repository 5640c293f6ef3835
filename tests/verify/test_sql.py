"""SQL in the limited process: values of every kind come back, and the wall behind SQLite's own limits.

What is refused and ended by SQLite is in tests/data/test_data_facts.py.

.venv/bin/python -m pytest tests/verify/test_sql.py
"""

import sqlite3
import time

import pytest

from stillroom.errors import UserError
from stillroom.verify import sql as verify_sql
from stillroom.verify.limited import limited
from stillroom.verify.sql import execute, read


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x, y)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, "long " * 40 + str(n % 7)) for n in range(3000)])
        connection.execute("CREATE TABLE kinds (a, b, c, d, e)")
        connection.execute("INSERT INTO kinds VALUES (?, ?, ?, ?, ?)", (2**62, 0.1, None, b"\x00\xff", "ü\ufffe"))
    connection.close()
    return path


def test_all_kinds_of_values_are_the_same_from_either_process(small):
    query = "SELECT * FROM kinds"
    assert execute(query, small) == read(query, small) == [(2**62, 0.1, None, b"\x00\xff", "ü\ufffe")]


def test_a_sort_that_needs_room_takes_it_in_memory(small):
    """Nothing can be opened in the process, a temporary file neither."""
    query = "SELECT a.x, upper(b.y) AS u FROM t AS a, t AS b WHERE b.x < 20 ORDER BY u, a.x DESC LIMIT 9"
    assert execute(query, small, seconds=20)[0][0] == 2999


def test_what_sqlite_does_not_end_is_ended_by_the_process(small):
    """Its clock is looked at between instructions; here it never gets to its end."""
    given = {"sql": "SELECT count(*) FROM t AS a, t AS b, t AS c", "database": str(small), "seconds": 60, "rows": 5}
    started = time.monotonic()
    found = limited("sql", given, seconds=0.5)
    assert found.reason == "takes too long" and time.monotonic() - started < 5


def test_a_result_that_is_too_long_is_said(small):
    with pytest.raises(UserError, match="takes too much memory"):
        execute("SELECT a.y, b.y, a.y, b.y, a.y, b.y FROM t AS a, t AS b", small, rows=9_000_000)
    assert verify_sql.same_answer([(1,)], execute("SELECT 1", small))
