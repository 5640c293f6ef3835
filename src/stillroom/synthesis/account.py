"""What a step did, in figures that add up: rows in and out, each dropped one under its reason, tokens, time, money."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)


@dataclass
class Account:
    """The counts of one step, or of several added up.

    Attributes:
        stage: the step's name.
        rows: that came in.
        added: that the step made beyond one for each that came in (further samples, list items, repeats).
        kept: that went on.
        rejected: reason -> rows that did not.
        asked: requests sent to a model, repeated ones included.
        answered: answers that came in this run.
        remembered: answers that the journal had; nothing was asked or paid for them now.
        tokens_in: of prompts, as the server counts them, in this run.
        tokens_out: of answers, likewise.
        seconds: of wall clock.
        money: in the currency of the prices.
        noted: observations that are no rejects, such as a judge that contradicted itself.
        note: why the step ended early and how to go on; empty where it came to its end.
    """

    stage: str = ""
    rows: int = 0
    added: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    answered: int = 0
    remembered: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    money: float = 0.0
    noted: Counter[str] = field(default_factory=Counter)
    note: str = ""

    @property
    def adds_up(self) -> bool:
        """Whether every row that came in or was added is kept or has a reason."""
        return self.rows + self.added == self.kept + self.rejected.total()

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return vars(self) | {"rejected": dict(self.rejected), "noted": dict(self.noted)}

    def __add__(self, other: Account) -> Account:
        """Both steps side by side, on rows of their own; for steps one after the other see `chain`."""
        return Account(
            stage=_joined(" + ", self.stage, other.stage),
            rows=self.rows + other.rows,
            added=self.added + other.added,
            kept=self.kept + other.kept,
            rejected=self.rejected + other.rejected,
            asked=self.asked + other.asked,
            answered=self.answered + other.answered,
            remembered=self.remembered + other.remembered,
            tokens_in=self.tokens_in + other.tokens_in,
            tokens_out=self.tokens_out + other.tokens_out,
            seconds=self.seconds + other.seconds,
            money=self.money + other.money,
            noted=self.noted + other.noted,
            note=_joined("; ", self.note, other.note),
        )

    def __str__(self) -> str:
        parts = [f"{self.stage or 'step'}: {self.kept} of {self.rows + self.added} rows kept"]
        parts += [f"{count} {reason}" for reason, count in (self.rejected + self.noted).most_common()]
        if self.asked or self.remembered:
            parts.append(f"{self.asked} requests, {self.remembered} answers from the journal")
        return ", ".join(parts) + (f"; {self.note}" if self.note else "")


def chain(accounts: Iterable[Account], stage: str = "all") -> Account:
    """Steps one after the other, each on the rows that the one before kept, as one step from the first to the last.

    Raises:
        ValueError: a step did not get the rows that the one before kept.
    """
    steps = list(accounts)
    if not steps:
        return Account(stage)
    for before, after in pairwise(steps):
        if before.kept != after.rows:
            raise ValueError(f"{before.stage!r} kept {before.kept} rows and {after.stage!r} got {after.rows}")
    whole = sum(steps[1:], start=steps[0])
    whole.stage, whole.rows, whole.kept = stage, steps[0].rows, steps[-1].kept
    return whole


class Outcome(NamedTuple):
    """What a step gives: the rows that go on, and its account."""

    dataset: Dataset
    account: Account


@contextmanager
def accounted(stage: str) -> Iterator[Account]:
    """An account whose seconds run inside the block; it is logged at the end."""
    account, started = Account(stage), time.monotonic()
    try:
        yield account
    finally:
        account.seconds = time.monotonic() - started
    log.log(logging.WARNING if account.note else logging.INFO, "%s", account)


def _joined(between: str, *parts: str) -> str:
    return between.join(part for part in parts if part)
