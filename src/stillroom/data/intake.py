"""From a stream of rows to a table: checked, with ids, with one type a column.

The stream is read twice: once to check the rows and learn the columns' types, once to write. So a corpus of any size
passes through a thousand rows at a time, and a column that is empty, or holds whole numbers, for the first million rows
is no surprise.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.progress import patient_bar
from stillroom.data.readers import Placed
from stillroom.data.rows import FORMATS, Row, check, describe, recognise, row_id
from stillroom.data.tables import batches, read_table, write_table
from stillroom.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, Features

Stream = Callable[[], Iterator[Placed]]
_VERSION = 1  # of how rows become a table; a change makes cached tables stale


@dataclass(frozen=True)
class Want:
    """What the caller said about the rows; see `stillroom.data.files.load`."""

    format: str | None = None
    classes: tuple[str, ...] | None = None
    prompt_only: bool = False


@dataclass
class Survey:
    """What the first reading found."""

    format: str
    classes: tuple[str, ...] | None
    rows: int = 0
    schema: pa.Schema | None = None
    labels: set[str | int] = field(default_factory=set)
    ids: array = field(default_factory=lambda: array("Q"))
    contents: array = field(default_factory=lambda: array("Q"))


def checked_table(stream: Stream, state: Any, want: Want, name: str) -> Dataset:
    """The stream's rows as a data set, made once for each ``state``.

    Args:
        stream: gives the rows from the start, each time it is called.
        state: what tells this content from any other (paths, sizes and times of change).
        want: what the rows must be.
        name: how to call the whole in a message.

    Raises:
        UserError: a row is wrong, two different rows have the same id, or there is no row.
    """

    def build(target: Path) -> None:
        survey = _survey(stream, want, name)
        rows = (_settled(row, survey.format, survey.classes) for _, row in stream())
        write_table(target, rows, _features(survey).arrow_schema)

    key = fingerprint(_VERSION, state, want.format, want.classes, want.prompt_only)
    return read_table(build_once("files", key, build))


def _survey(stream: Stream, want: Want, name: str) -> Survey:
    survey = Survey(want.format or "", want.classes)
    with patient_bar(f"reading {name}") as tick:
        for batch in batches(stream()):
            settled = []
            for where, row in batch:
                if not survey.format and isinstance(row, dict):
                    survey.format = recognise([column for column, value in row.items() if value is not None])
                check(row, survey.format, where, classes=want.classes, prompt_only=want.prompt_only)
                _note(survey, row, where)
                settled.append(_settled(row, survey.format))
            survey.schema = _merged(survey.schema, settled, f"{batch[0][0]} to {batch[-1][0]}")
            survey.rows += len(batch)
            tick(survey.rows, None)
    if not survey.rows:
        raise UserError(f"{name} holds no rows")
    _refuse_shared_ids(survey, stream)
    if want.classes is None and survey.labels and all(isinstance(label, str) for label in survey.labels):
        survey.classes = tuple(sorted(map(str, survey.labels)))
    return survey


def _note(survey: Survey, row: Row, where: str) -> None:
    """Remember the row's label and id."""
    if "label" in FORMATS[survey.format] and survey.classes is None:
        survey.labels.add(row["label"])
        if len({type(label) for label in survey.labels}) > 1:
            raise UserError(f"{where}: labels are names in some rows and numbers in others; use one, or give 'classes'")
    own = row.get("id")
    survey.ids.append(int(fingerprint(str(own)), 16) if own is not None else 0)
    survey.contents.append(int(row_id({**row, "id": None}), 16) if own is not None else 0)


def _refuse_shared_ids(survey: Survey, stream: Stream) -> None:
    """Caches are kept by id, so two different rows under one id would get each other's labels."""
    import numpy as np

    ids, contents = np.array(survey.ids), np.array(survey.contents)
    order = np.argsort(ids, kind="stable")
    clash = (np.diff(ids[order]) == 0) & (np.diff(contents[order]) != 0)
    if clash.any():
        at = int(np.argmax(clash))
        (first, row), (second, _) = (next(islice(stream(), int(order[n]), None)) for n in (at, at + 1))
        raise UserError(f"{first} and {second} have the same id {str(row['id'])!r} but differ; ids must be unique")


def _settled(row: Row, format: str, classes: tuple[str, ...] | None = None) -> dict[str, Any]:
    """The row as it is written: with an id, each column in one shape, and the label's number where names have one."""
    out = {**row, "id": row_id(row)}
    if "negative" in FORMATS[format] and isinstance(out["negative"], str):
        out["negative"] = [out["negative"]]
    for column in {"image", "mask"} & set(FORMATS[format]):
        out[column] = _stored_image(out[column])
    if "label" in FORMATS[format] and isinstance(out["label"], str):
        out["label"] = classes.index(out["label"]) if classes else None
    return out


def _stored_image(image: Any) -> Any:
    """An image as `datasets.Image` stores it; numbers stay numbers."""
    if isinstance(image, str):
        return {"bytes": None, "path": image}
    if isinstance(image, bytes):
        return {"bytes": image, "path": None}
    return image


def _features(survey: Survey) -> Features:
    import datasets
    import pyarrow as pa

    assert survey.schema is not None
    features = datasets.Features.from_arrow_schema(survey.schema)
    for column in {"image", "mask"} & set(FORMATS[survey.format]):
        if pa.types.is_struct(survey.schema.field(column).type):
            features[column] = datasets.Image()
    if "label" in FORMATS[survey.format]:
        names = survey.classes
        features["label"] = datasets.ClassLabel(names=list(names)) if names else datasets.Value("int64")
    return features


def _merged(schema: pa.Schema | None, rows: list[dict[str, Any]], where: str) -> pa.Schema:
    """The schema that holds what was seen so far and these rows too."""
    import pyarrow as pa

    columns = dict.fromkeys(name for row in rows for name in row)
    types = {}
    for name in columns:
        values = [row.get(name) for row in rows]
        try:
            types[name] = pa.array(values).type
            if schema is not None and name in schema.names:
                both = [pa.schema([(name, schema.field(name).type)]), pa.schema([(name, types[name])])]
                types[name] = pa.unify_schemas(both, promote_options="permissive").field(name).type
        except (pa.ArrowException, OverflowError):
            kinds = sorted({describe(value) for value in values if value is not None})
            found = " and ".join(kinds) if len(kinds) > 1 else f"{kinds[0]} of a kind that earlier rows don't have"
            raise UserError(f"{where}: column {name!r} must hold one kind of value; found {found}") from None
    kept = {field.name: field.type for field in schema} if schema is not None else {}
    return pa.schema(list({**kept, **types}.items()))
