"""From rows to encoded rows: tokenised once, before training, with every dropped or shortened row counted.

The encoded data set is memory-mapped and cached by the fingerprints of rows and views, so a second run tokenises
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stillroom.errors import UserError
from stillroom.views.base import View, digest

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass
class Counts:
    """What became of the rows.

    rows: kept. dropped: reason -> rows. shortened: kept rows that lost tokens. tokens: in kept rows. trained: of
    these, the tokens that a token loss is computed on (all of them where the task has no such notion).
    """

    rows: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    shortened: int = 0
    tokens: int = 0
    trained: int = 0

    def __add__(self, other: Counts) -> Counts:
        dropped = dict(Counter(self.dropped) + Counter(other.dropped))
        numbers = {
            name: getattr(self, name) + getattr(other, name) for name in ("rows", "shortened", "tokens", "trained")
        }
        return Counts(dropped=dropped, **numbers)

    @property
    def trained_share(self) -> float:
        """Trained tokens over all tokens, in [0, 1]."""
        return self.trained / max(self.tokens, 1)


def encode(
    rows: Dataset, view: View, teacher_view: View | None = None, *, keep: Sequence[str] = (), name: str = "the data"
) -> tuple[Dataset, Counts]:
    """Tokenise rows for the student and, where it reads them differently, for the teacher.

    Args:
        rows: checked rows of one format.
        view: the student's.
        teacher_view: the teacher's, or None where it is the same.
        keep: columns to keep beside the encoded ones.
        name: of the rows, for messages.

    Returns:
        A data set with ``student``, maybe ``teacher``, ``length`` and the kept columns; and what became of the rows.

    Raises:
        UserError: the rows have another format than the view reads, lack a kept column, or none is left.
    """
    check_format(rows.column_names, view.formats, name, "this kind of model")
    for reader in (view, *([teacher_view] if teacher_view is not None else [])):
        reader.check(rows, name)
    if missing := [column for column in keep if column not in rows.column_names]:
        raise UserError(f"{name} has no column {missing[0]!r}; it has {', '.join(rows.column_names)}")

    def both(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        plain = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        out = {"student": [view.encode(row) for row in plain]}
        if teacher_view is not None:
            out["teacher"] = [teacher_view.encode(row) for row in plain]
        return out | {"length": [row["length"] for row in out["student"]]} | {column: batch[column] for column in keep}

    if sounds := [column for column, kind in rows.features.items() if _holds_fractions(kind)]:
        rows = rows.with_format("numpy", columns=sounds, output_all_columns=True)
    mark = digest(rows._fingerprint, view.fingerprint, teacher_view and teacher_view.fingerprint, *keep)
    encoded = rows.map(both, batched=True, remove_columns=rows.column_names, new_fingerprint=mark, desc="tokenise")
    encoded = encoded.with_format(None)
    reasons = [
        own["dropped"] or (other["dropped"] if other else "")
        for batch in encoded.select_columns(list({"student", "teacher"} & set(encoded.column_names))).iter(1000)
        for own, other in zip(batch["student"], batch.get("teacher") or [None] * len(batch["student"]), strict=True)
    ]
    kept = encoded.select([place for place, reason in enumerate(reasons) if not reason])
    counts = _count(kept, Counter(reason for reason in reasons if reason))
    if not counts.rows:
        raise UserError(f"no row of {name} is left: {_say(counts.dropped) or 'it is empty'}")
    return kept, counts


def _holds_fractions(kind: Any) -> bool:
    """Whether a column's values are flat lists of fractions, which are better read as arrays."""
    return str(getattr(getattr(kind, "feature", None), "dtype", "")).startswith("float")


def check_format(columns: Sequence[str], formats: Sequence[str], name: str, reader: str) -> None:
    """See that rows with these columns are of a format that is read.

    Args:
        columns: of the rows.
        formats: that the reader takes.
        name: of the rows, for the message.
        reader: who reads them, for the message.

    Raises:
        UserError: they are not.
    """
    from stillroom.data.rows import FORMATS, recognise

    if not any(set(FORMATS[format]) <= set(columns) for format in formats):
        found = recognise(columns)
        raise UserError(f"{name} has rows of the format {found!r}, and {reader} reads {' or '.join(formats)}")


def _count(rows: Dataset, dropped: Counter[str]) -> Counts:
    counts = Counts(rows=len(rows), dropped=dict(dropped))
    for batch in rows.select_columns(["student", "length"]).iter(1000):
        counts.tokens += sum(batch["length"])
        counts.shortened += sum(bool(row["shortened"]) for row in batch["student"])
        counts.trained += sum(sum(row.get("trained") or [True] * row["length"]) for row in batch["student"])
    return counts


def _say(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count} rows {reason}" for reason, count in dropped.items())
