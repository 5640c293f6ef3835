"""Files as streams of rows, each with the place to name when something is wrong with it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stillroom.errors import UserError

Placed = tuple[str, Any]
"""A row and its place: ``("chat.jsonl line 17", {...})``."""


def read_rows(path: Path) -> Iterator[Placed]:
    """The rows of a file, one at a time, by its ending.

    `.jsonl`: an object a line. `.json`: a list of objects. `.csv`: a header and rows; all is text but a ``label`` of
    digits, which is the number of a class; an empty cell is a missing value. `.parquet`: the columns' own types.

    Raises:
        UserError: the ending is not known, or the file can't be read as what it says it is.
    """
    if path.suffix not in READERS:
        raise UserError(f"{path.name}: files of rows end in {', '.join(READERS)}")
    try:
        yield from READERS[path.suffix](path)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path.name}: not UTF-8 text ({error.reason}, byte 0x{error.object[error.start]:02x})"
        ) from None


def _jsonl(path: Path) -> Iterator[Placed]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path.name} line {number}"
            try:
                yield where, json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{where}: not valid JSON: {error.msg} at character {error.colno}") from None


def _json(path: Path) -> Iterator[Placed]:
    """One row at a time from the text of the list, so that the list of all rows never exists."""
    text = path.read_text(encoding="utf-8-sig")
    decode = json.JSONDecoder().raw_decode
    line, seen = 1, 0

    def skip(place: int, characters: str) -> int:
        while place < len(text) and text[place] in characters:
            place += 1
        return place

    place = skip(0, " \t\r\n")
    if text[place : place + 1] != "[":
        raise UserError(f"{path.name}: a .json file must hold a list of rows; rows on lines of their own are .jsonl")
    place = skip(place + 1, " \t\r\n")
    while text[place : place + 1] != "]":
        line, seen = line + text.count("\n", seen, place), place
        where = f"{path.name} line {line}"
        try:
            row, place = decode(text, place)
        except json.JSONDecodeError as error:
            raise UserError(f"{path.name} line {error.lineno}: not valid JSON: {error.msg}") from None
        yield where, row
        place = skip(place, " \t\r\n")
        if text[place : place + 1] not in (",", "]"):
            raise UserError(f"{where}: not valid JSON: after this row a comma or the end of the list is missing")
        place = skip(place, ", \t\r\n")


def _csv(path: Path) -> Iterator[Placed]:
    csv.field_size_limit(2**31 - 1)  # the default refuses texts of more than 128 KiB
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        start = reader.line_num + 1
        for values in reader:
            where, start = f"{path.name} line {start}", reader.line_num + 1
            if not values:
                continue
            if len(values) != len(header):
                raise UserError(f"{where}: {len(values)} values, where the header names {len(header)} columns")
            row: dict[str, Any] = {name: value or None for name, value in zip(header, values, strict=True)}
            if (row.get("label") or "").isdecimal():
                row["label"] = int(row["label"])
            yield where, row


def _parquet(path: Path) -> Iterator[Placed]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path.name}: not a Parquet file: {error}") from None
    number = 0
    for batch in file.iter_batches(batch_size=1000):
        for row in batch.to_pylist():
            number += 1
            yield f"{path.name} row {number}", row


READERS: dict[str, Callable[[Path], Iterator[Placed]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
