"""Reading rows of a data set one by one, and putting new columns beside chosen ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stillroom.errors import UserError, nearest

if TYPE_CHECKING:
    from datasets import Dataset


def each_row(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """The rows, read a thousand at a time."""
    for batch in dataset.iter(1000):
        columns = list(batch)
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(columns, values, strict=True))


def require(dataset: Dataset, *columns: str) -> None:
    """Refuse a data set that lacks a column.

    Raises:
        UserError: which one, and what there is.
    """
    for column in columns:
        if column not in dataset.column_names:
            near = nearest(column, dataset.column_names)
            raise UserError(f"there is no column {column!r}{near} (found {', '.join(dataset.column_names) or 'none'})")


def free(dataset: Dataset, columns: Sequence[str]) -> None:
    """Refuse names for new columns that are taken.

    Raises:
        UserError: one of them is there already.
    """
    if taken := [name for name in columns if name in dataset.column_names]:
        raise UserError(f"there is a column {taken[0]!r} already; rename it, or choose another name for the new one")


def beside(
    dataset: Dataset,
    places: Sequence[int],
    columns: Mapping[str, Sequence[Any]],
    types: Mapping[str, Any] | None = None,
) -> Dataset:
    """The rows at these places, in this order and as often as they are named, with new columns.

    A column whose type is not given has the type that all of its values have, so one that begins with nulls is no
    surprise. The result is held in memory.

    Raises:
        UserError: a name is taken, or a column's values have no common type.
    """
    import pyarrow as pa
    from datasets import Dataset, Features, concatenate_datasets

    free(dataset, list(columns))
    made = {}
    for name, values in columns.items():
        try:
            made[name] = pa.array(list(values), type=(types or {}).get(name))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UserError(
                f"the column {name!r} has values of several types, which a table can't hold: {error}"
            ) from None
    if not made:
        return dataset.select(places)
    new = Dataset(pa.table(made))
    if not dataset.column_names:
        return new
    chosen = dataset.select(places)
    if not len(chosen):  # an empty choice has no table to put anything beside
        features = Features({**dataset.features, **new.features})
        return Dataset(pa.Table.from_pylist([], schema=features.arrow_schema))
    with _quiet():
        return concatenate_datasets([chosen.flatten_indices(keep_in_memory=True), new], axis=1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of `datasets`, for work that is over at once."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
