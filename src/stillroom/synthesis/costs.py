"""Tokens to money, and the accounts of a pipeline as a short table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stillroom.errors import UserError, nearest
from stillroom.synthesis.account import Account


@dataclass(frozen=True)
class Price:
    """Of a million tokens, in any one currency.

    Args:
        tokens_in: of prompts.
        tokens_out: of answers.
    """

    tokens_in: float
    tokens_out: float

    def __post_init__(self) -> None:
        if not (0 <= self.tokens_in < float("inf") and 0 <= self.tokens_out < float("inf")):
            raise UserError(f"prices are per million tokens and not negative; found {self.tokens_in, self.tokens_out}")

    def of(self, tokens_in: int, tokens_out: int) -> float:
        """What so many tokens cost."""
        return (tokens_in * self.tokens_in + tokens_out * self.tokens_out) / 1e6


def price_of(model: str, prices: Mapping[str, Price]) -> Price:
    """The price of a model from the user's table. There is no table in stillroom: prices change, and it would be wrong.

    Raises:
        UserError: the table does not have it.
    """
    if model not in prices:
        raise UserError(f"there is no price for the model {model!r}{nearest(model, prices)}; add it to the table")
    return prices[model]


def table(accounts: Iterable[Account]) -> str:
    """Steps as lines of text, with a last line for all of them, the reasons of rejects below.

    The last line adds up what was asked, spent and waited. Rows are not added up, since what one step keeps is what
    the next one gets.
    """
    steps = list(accounts)
    if not steps:
        return ""
    head = ("step", "rows", "added", "kept", "rejected", "asked", "journal", "tokens in", "tokens out", "money", "s")
    lines = [head, *(_cells(step) for step in steps)]
    if len(steps) > 1:
        whole = _cells(sum(steps[1:], start=steps[0]))
        lines.append(("all", "", "", "", *whole[4:]))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shown = ["  ".join(_set(line, widths)).rstrip() for line in lines]
    for step in steps:
        shown += [f"{step.stage}: {count:,} {reason}" for reason, count in step.rejected.most_common()]
        shown += [f"{step.stage}: {count:,} {what}" for what, count in step.noted.most_common()]
        shown += [f"{step.stage}: {step.note}"] if step.note else []
    return "\n".join(shown)


def _cells(step: Account) -> tuple[str, ...]:
    counts = (step.rows, step.added, step.kept, step.rejected.total(), step.asked, step.remembered)
    tokens = (step.tokens_in, step.tokens_out)
    numbers = [f"{number:,}" for number in (*counts, *tokens)]
    return (step.stage, *numbers, f"{step.money:,.4f}", f"{step.seconds:,.1f}")


def _set(line: tuple[str, ...], widths: list[int]) -> list[str]:
    """The name to the left, figures to the right."""
    return [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
