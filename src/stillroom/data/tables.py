"""Rows to an Arrow file and back as a `datasets.Dataset` that maps the file into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stillroom.errors import UserError, nearest

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

T = TypeVar("T")
BATCH = 1000


def batches(rows: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """Lists of up to ``size`` rows."""
    source = iter(rows)
    while batch := list(islice(source, size)):
        yield batch


class TableWriter:
    """Writes rows to an Arrow file, ``batch`` at a time. A column that a row lacks is null."""

    def __init__(self, path: Path, schema: pa.Schema, batch: int = BATCH) -> None:
        import pyarrow as pa

        self._batch = batch
        self._schema, self._waiting = schema, list[Mapping[str, Any]]()
        self._file = pa.OSFile(str(path), "wb")
        self._stream = pa.ipc.new_stream(self._file, schema)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one row."""
        self._waiting.append(row)
        if len(self._waiting) == self._batch:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        self._stream.write_batch(pa.RecordBatch.from_pylist(self._waiting, schema=self._schema))
        self._waiting = []

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None and self._waiting:
            self._flush()
        self._stream.close()
        self._file.close()


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write all rows to ``path``."""
    with TableWriter(path, schema) as table:
        for row in rows:
            table.add(row)


def read_table(path: Path) -> Dataset:
    """The rows of `write_table`, mapped, not read."""
    from datasets import Dataset

    return Dataset.from_file(str(path))


def sample(dataset: Dataset, limit: int | None, seed: int) -> Dataset:
    """``limit`` rows drawn without replacement, in their old order; all of them where there are no more than that."""
    if limit is None or limit >= len(dataset):
        return dataset
    import numpy as np

    chosen = np.random.default_rng(seed).permutation(len(dataset))[:limit]
    return dataset.select(np.sort(chosen))


def share(key: str, *, salt: str = "") -> float:
    """A number in [0, 1) that depends on the key and the salt alone: the place of a row, module or group in a split."""
    digest = hashlib.sha256(f"{salt}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def part_of(key: str, shares: Mapping[str, float], *, salt: str = "") -> str:
    """The split that the key falls into; ``shares`` are the splits' parts of the whole and add up to 1."""
    place, edge = share(key, salt=salt), 0.0
    for name, width in shares.items():
        edge += width
        if place < edge:
            return name
    return name


def split_rows(dataset: Dataset, by: str, shares: Mapping[str, float]) -> dict[str, Dataset]:
    """Split a data set so that rows with the same value of the column ``by`` stay together.

    The split of a row depends on that value alone: not on the order, the number of rows or a seed, so that a row never
    changes sides when the data grow.

    Args:
        dataset: the rows.
        by: the column that must not cross (a document, a patient, a repository); ``id`` where rows are independent.
        shares: split -> share of the groups, adding up to 1.

    Raises:
        UserError: there is no such column.
    """
    if by not in dataset.column_names:
        raise UserError(f"there is no column {by!r} to split by{nearest(by, dataset.column_names)}")
    if abs(sum(shares.values()) - 1) > 1e-9:
        raise ValueError(f"the shares must add up to 1; {dict(shares)} add up to {sum(shares.values())}")
    chosen: dict[str, list[int]] = {name: [] for name in shares}
    for index, value in enumerate(dataset[by]):
        chosen[part_of(str(value), shares)].append(index)
    return {name: dataset.select(indices) for name, indices in chosen.items()}
