"""Keeping rows by rules, with a reason for each row that is dropped.

A filter is a function from a row to a reason, or to None if the row may stay. Reasons are counted, so there should be
few of them: say what is wrong with the row, not how wrong it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.errors import UserError, nearest
from stillroom.synthesis.account import Outcome, accounted
from stillroom.synthesis.columns import each_row
from stillroom.synthesis.rejects import Rejects

if TYPE_CHECKING:
    from datasets import Dataset

Row = Mapping[str, Any]
Filter = Callable[[Row], str | None]


def keep(
    dataset: Dataset,
    filters: Sequence[Filter],
    *,
    rejects: str | Path | None = None,
    stage: str = "filter",
) -> Outcome:
    """The rows that no filter has a reason against.

    Filters are asked in their order and the first reason counts, so cheap ones come first.

    Args:
        dataset: the rows.
        filters: row -> reason, or None.
        rejects: file for the dropped rows.
        stage: name in the account.

    Raises:
        TypeError: a filter gave something other than a text or None. (A filter that raises ends the step; the error
            names the row.)
    """
    kept = []
    with accounted(stage) as account, Rejects(rejects, stage) as aside:
        for place, row in enumerate(each_row(dataset)):
            account.rows += 1
            reason = _first_reason(row, filters, place)
            if reason is None:
                kept.append(place)
            else:
                account.rejected[reason] += 1
                aside.add(row, reason)
        account.kept = len(kept)
    return Outcome(dataset.select(kept), account)


def _first_reason(row: Row, filters: Sequence[Filter], place: int) -> str | None:
    for rule in filters:
        try:
            reason = rule(row)
        except Exception as error:
            error.add_note(f"in the filter {_name(rule)}, at row {place} (id {row.get('id')!r})")
            raise
        if reason is None:
            continue
        if not isinstance(reason, str) or not reason:
            raise TypeError(
                f"the filter {_name(rule)} gave {reason!r}; a filter gives a reason, or None to keep the row"
            )
        return reason
    return None


def _name(rule: Filter) -> str:
    return getattr(rule, "__qualname__", repr(rule))


# --- filters that many pipelines share ------------------------------------------------------------------------------


def length(column: str, *, least: int = 0, most: int | None = None, unit: str = "words") -> Filter:
    """Between ``least`` and ``most`` words or characters, both included."""
    if unit not in ("words", "characters"):
        raise ValueError("unit is 'words' or 'characters'")

    def rule(row: Row) -> str | None:
        text = _text(row, column)
        size = len(text.split()) if unit == "words" else len(text)
        if size < least:
            return f"{column} has fewer than {least} {unit}"
        return f"{column} has more than {most} {unit}" if most is not None and size > most else None

    return rule


def finished(column: str = "reply") -> Filter:
    """Not cut off: the writer came to an end by itself."""

    def rule(row: Row) -> str | None:
        call = _value(row, f"{column}_call")
        return f"{column} was cut off" if call["finish_reason"] == "length" else None

    return rule


def sentence(column: str) -> Filter:
    """Ends like a sentence: with a full stop, a question or exclamation mark, or an ellipsis, quotes left aside."""

    def rule(row: Row) -> str | None:
        ends = _text(row, column).rstrip().rstrip("\"'”’»)").endswith((".", "!", "?", "…", "。", "！", "？"))
        return None if ends else f"{column} ends in the middle of a sentence"

    return rule


def lacks(column: str, *words: str) -> Filter:
    """Holds none of these words or phrases, whole words in any case: ``lacks("question", "the text", "figure")``."""
    form = _phrases(words)

    def rule(row: Row) -> str | None:
        found = form.search(_text(row, column))
        return f"{column} says {' '.join(found[0].casefold().split())!r}" if found else None

    return rule


def mentions(column: str, *names: str) -> Filter:
    """Holds what the columns ``names`` hold, as whole words in any case: a text about a head and a tail names both."""

    def rule(row: Row) -> str | None:
        text = _text(row, column)
        for name in names:
            if not _phrases([_text(row, name)]).search(text):
                return f"{column} does not mention the {name}"
        return None

    return rule


def above(column: str, threshold: float) -> Filter:
    """A number strictly above the threshold. None and NaN are not."""

    def rule(row: Row) -> str | None:
        value = _value(row, column)
        return None if value is not None and value > threshold else f"{column} is not above {threshold:g}"

    return rule


def equal(column: str, other: str, same: Callable[[Any, Any], bool] | None = None) -> Filter:
    """Agrees with another column: rejection sampling by a known answer. ``same`` compares; ``==`` if not given."""

    def rule(row: Row) -> str | None:
        one, two = _value(row, column), _value(row, other)
        return None if (same(one, two) if same else one == two) else f"{column} differs from {other}"

    return rule


def different(column: str, other: str) -> Filter:
    """Says something else than another column: no copy, apart from case and white space."""

    def rule(row: Row) -> str | None:
        one, two = (" ".join(_text(row, name).casefold().split()) for name in (column, other))
        return f"{column} repeats {other}" if one == two else None

    return rule


def _value(row: Row, column: str) -> Any:
    if column not in row:
        raise UserError(f"there is no column {column!r} to filter by{nearest(column, row)}")
    return row[column]


def _text(row: Row, column: str) -> str:
    value = _value(row, column)
    return value if isinstance(value, str) else "" if value is None else str(value)


def _phrases(words: Iterable[str]) -> re.Pattern[str]:
    """Any of them, not as a part of a longer word; white space in them stands for any white space."""
    forms = [r"\s+".join(map(re.escape, word.split())) for word in words if word.strip()]
    return re.compile(rf"(?<!\w)(?:{'|'.join(forms)})(?!\w)" if forms else r"(?!)", re.IGNORECASE)
