"""SQL that somebody else wrote, a model for instance: executed without harm, and compared by its answer.

A statement is given nothing but reading: the file is opened read-only, an authoriser refuses whatever is not a plain
SELECT over tables with functions of a short list, and limits end it by time, by rows and by the length of a value.
`execute` does this in a limited process (`stillroom.verify.limited`), so that the operating system holds what SQLite
does not; `read` does it in this process, for statements that are our own.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stillroom.errors import UserError
from stillroom.verify.limited import SECONDS, Failed, limited

Rows = list[tuple[Any, ...]]

FUNCTIONS = frozenset(
    (
        *("avg", "count", "max", "min", "sum", "total"),
        *("abs", "ceil", "floor", "round", "coalesce", "ifnull", "iif", "nullif"),
        *("instr", "length", "like", "lower", "ltrim", "rtrim", "substr", "substring", "trim", "upper"),
    )
)
"""What a statement may call. Nothing of it loads code, makes long values from short ones or differs between calls."""

ROWS = 1000
_STEPS = 2000  # instructions of SQLite's machine between two looks at the clock: far below a millisecond
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 10_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 1,
}


def execute(sql: str, database: str | Path, *, seconds: float = SECONDS, rows: int = ROWS) -> Rows:
    """The rows that one SELECT statement gives, run in a limited process.

    Args:
        sql: one statement, with or without a semicolon at its end. Nothing in it is trusted.
        database: an SQLite file. It is never written to, and no other file is opened.
        seconds: of wall-clock time after which the statement is ended.
        rows: how many it may give at most.

    Raises:
        UserError: the statement is wrong, does something that is not allowed, takes too long or gives too many rows;
            or there is no such database.
    """
    given = {"sql": sql, "database": str(_found(database).absolute()), "seconds": seconds, "rows": rows}
    # The statement is ended by SQLite, which can say so; the process is the wall behind it.
    found = limited("sql", given, seconds=seconds + 1)
    if isinstance(found, Failed):
        raise UserError(f"the query {found.reason}{f' ({found.detail})' if found.detail else ''}; make it simpler")
    if "wrong" in found:
        raise UserError(found["wrong"])
    return [tuple(map(_unpacked, row)) for row in found["rows"]]


def read(sql: str, database: str | Path, *, seconds: float = SECONDS, rows: int = ROWS) -> Rows:
    """The rows that one SELECT statement of our own gives; arguments and errors are those of `execute`."""
    with closing(_open(_found(database))) as connection:
        return _read(connection, sql, seconds, rows)


def _found(database: str | Path) -> Path:
    path = Path(database)
    if not path.is_file():
        raise UserError(f"there is no database {path}")
    return path


def task(given: Mapping[str, Any]) -> Callable[[], Any]:
    """What the limited process does; the file is opened before the limits are set."""
    connection = _open(Path(given["database"]))

    def do() -> dict[str, Any]:
        try:
            rows = _read(connection, given["sql"], given["seconds"], given["rows"])
        except UserError as error:
            return {"wrong": str(error)}
        return {"rows": [[_packed(value) for value in row] for row in rows]}

    return do


def _packed(value: Any) -> Any:
    """A value for JSON, which has no bytes."""
    return {"bytes": value.hex()} if isinstance(value, bytes) else value


def _unpacked(value: Any) -> Any:
    return bytes.fromhex(value["bytes"]) if isinstance(value, dict) else value


def _open(path: Path) -> sqlite3.Connection:
    """The file, read-only; what SQLite would write for itself stays in memory."""
    address = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    connection = sqlite3.connect(address, uri=True, isolation_level=None)
    connection.execute("PRAGMA temp_store = MEMORY")
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    return connection


def _read(connection: sqlite3.Connection, sql: str, seconds: float, rows: int) -> Rows:
    refused: list[str] = []
    deadline = time.monotonic() + seconds
    connection.set_authorizer(lambda *what: _allow(what, refused))
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        cursor = connection.execute(sql)
        found = cursor.fetchmany(rows + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        raise UserError(_reason(error, refused, seconds)) from None
    if cursor.description is None:
        raise UserError("the query is empty; write one SELECT statement")
    if len(found) > rows:
        raise UserError(f"the query gives more than {rows} rows; narrow it")
    return found


def _allow(what: Sequence[Any], refused: list[str]) -> int:
    """SQLite asks for every action of a statement when it compiles it: what it is, and of which table or function."""
    action, first, second = what[:3]
    if action == sqlite3.SQLITE_SELECT:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_READ and not str(first).lower().startswith(("sqlite_", "pragma_")):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and str(second).lower() in FUNCTIONS:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION:
        refused.append(f"the function {second}")
    elif action == sqlite3.SQLITE_RECURSIVE:
        refused.append("recursion")
    elif action == sqlite3.SQLITE_READ:
        refused.append(f"reading {first}")
    else:
        refused.append("anything but SELECT")
    return sqlite3.SQLITE_DENY


def _reason(error: Exception, refused: Sequence[str], seconds: float) -> str:
    if refused:
        return f"the query is refused: {refused[0]} is not allowed; only plain SELECT statements are"
    if "interrupted" in str(error):
        return f"the query takes longer than {seconds:g} seconds; make it simpler"
    return f"the query can't be run ({error}); correct it"


def same_answer(first: Rows, second: Rows, *, ordered: bool = False) -> bool:
    """Whether two results say the same: execution accuracy, one pair at a time.

    Rows count as often as they come, and columns in their order. Numbers are equal within a relative 1e-6, whether
    whole or not; 0 and 0.0 are, and 1 and '1' are not.

    Args:
        first: rows of one query.
        second: rows of the other.
        ordered: the order of the rows counts too, as it does where the question asks for one (ORDER BY).
    """
    if len(first) != len(second):
        return False
    if ordered:
        return all(map(_same_row, first, second))
    left = list((Counter(map(tuple, first)) - Counter(map(tuple, second))).elements())
    right = list((Counter(map(tuple, second)) - Counter(map(tuple, first))).elements())
    for row in left:
        match = next((place for place, other in enumerate(right) if _same_row(row, other)), None)
        if match is None:
            return False
        del right[match]
    return True


def _same_row(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return len(first) == len(second) and all(map(_same, first, second))


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, (int, float)) and isinstance(second, (int, float)):
        return math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-9)
    return type(first) is type(second) and bool(first == second)
