"""How fast and how much a run may ask: a pace in requests and tokens a minute, a budget in requests, tokens and money.

Both must know what a question costs before it is asked. A prompt is taken for a third of its bytes until the server
has counted some, then for the server's own share of tokens to bytes so far; an answer is taken for the longest one
allowed. When the answer is there, the guess gives way to the server's count.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Condition, Event, Lock
from typing import Any

from stillroom.errors import UserError
from stillroom.synthesis.costs import Price
from stillroom.teachers.chat import Message, NotAskedError

FIRST_GUESS = 1 / 3  # tokens a byte


class Pace:
    """Spreads requests evenly: a request of t tokens keeps the next one away for its share of the minute.

    In any minute there are at most ``requests_per_minute`` + 1 requests, and at most ``tokens_per_minute`` tokens and
    those of one more request. There is no burst at the start, because servers that allow 600 a minute often mean 10 a
    second. Several endpoints may share a pace.

    Args:
        requests_per_minute: None for any number.
        tokens_per_minute: of prompts and answers together; None for any number.
    """

    def __init__(self, requests_per_minute: float | None = None, tokens_per_minute: float | None = None) -> None:
        if any(rate is not None and rate <= 0 for rate in (requests_per_minute, tokens_per_minute)):
            raise ValueError("a pace must be above 0; use None for no limit")
        self._gap = 60 / requests_per_minute if requests_per_minute else 0.0
        self._per_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._next, self._lock = 0.0, Lock()

    def take(self, tokens: int, now: float) -> float:
        """The moment at which a request of so many tokens may start; the next one starts after it."""
        with self._lock:
            start = max(self._next, now)
            self._next = start + self._keeps_away(tokens)
        return start

    def settle(self, guessed: int, counted: int) -> None:
        """The request took another number of tokens than was guessed."""
        with self._lock:
            self._next += self._keeps_away(counted) - self._keeps_away(guessed)

    def _keeps_away(self, tokens: int) -> float:
        return max(self._gap, tokens * self._per_token)


@dataclass(frozen=True)
class Budget:
    """What may be spent at most; None for any amount.

    Args:
        requests: sent, repeated ones included.
        tokens: of prompts and answers together.
        money: in the currency of the price.
    """

    requests: int | None = None
    tokens: int | None = None
    money: float | None = None


@dataclass(frozen=True)
class _Ticket:
    tokens_in: int
    tokens_out: int
    size: int


class Limits:
    """A pace and a budget in front of one model; the ``gate`` of an `Endpoint`.

    Answers in the journal count too, so the budget is that of the whole data set, however often its run was stopped
    (of a question that an earlier run had to repeat, one request is known). A question is asked only while what was
    spent, what the open questions may cost at most and what this one may cost at most are within the budget: so
    requests are never exceeded, and tokens and money only by as much as prompts were guessed too short.

    Args:
        pace: None for as fast as the server goes.
        budget: None for no limit.
        price: needed for a budget in money.
        longest: tokens that an answer is taken for where the request does not limit it.

    Attributes:
        spent: what was spent, as (requests, tokens in, tokens out).
    """

    def __init__(
        self, *, pace: Pace | None = None, budget: Budget | None = None, price: Price | None = None, longest: int = 1024
    ) -> None:
        if budget is not None and budget.money is not None and price is None:
            raise UserError("a budget in money needs the price of the model's tokens")
        self.pace, self.budget, self.price, self.longest = pace, budget or Budget(), price, longest
        self.spent = (0, 0, 0)
        self._open: list[_Ticket] = []
        self._counted_tokens = self._counted_bytes = 0
        self._over = ""
        self._changed = Condition()

    def enter(self, messages: Sequence[Message], settings: Mapping[str, Any], stop: Event) -> _Ticket:
        """Wait until this question may be asked.

        Raises:
            NotAskedError: the budget is spent, or ``stop`` was set.
        """
        with self._changed:
            ticket = self._guess(messages, settings)
            while not self._over and (wanting := self._beyond(ticket)):
                if not self._open:
                    self._over = f"the budget of {wanting} is spent"
                    self._changed.notify_all()
                else:
                    self._changed.wait(0.1)
                if stop.is_set():
                    raise NotAskedError("the run was stopped")
            if self._over:
                raise NotAskedError(self._over)
            self._open.append(ticket)
            now = time.monotonic()
            start = self.pace.take(ticket.tokens_in + ticket.tokens_out, now) if self.pace else now
        if start > now and stop.wait(start - now):
            with self._changed:
                self._open.remove(ticket)
                self._changed.notify_all()
            raise NotAskedError("the run was stopped")
        return ticket

    def leave(self, ticket: _Ticket, usage: Mapping[str, Any] | None) -> None:
        """The question was sent. ``usage`` is what the server counted; None if no answer came."""
        tokens_in, tokens_out = _counts(usage)
        with self._changed:
            self._open.remove(ticket)
            if tokens_in is not None:
                self._counted_tokens += tokens_in
                self._counted_bytes += ticket.size
            if self.pace is not None and (usage is None or tokens_in is not None):
                counted = (tokens_in or 0) + (tokens_out or 0)
                self.pace.settle(ticket.tokens_in + ticket.tokens_out, counted)
            self._spend(usage)
            self._changed.notify_all()

    def remember(self, usage: Mapping[str, Any] | None) -> None:
        """An answer that the journal had, paid for earlier."""
        with self._changed:
            self._spend(usage)

    def _spend(self, usage: Mapping[str, Any] | None) -> None:
        tokens_in, tokens_out = _counts(usage)
        requests, before_in, before_out = self.spent
        self.spent = (requests + 1, before_in + (tokens_in or 0), before_out + (tokens_out or 0))
        uncounted = usage is not None and (tokens_in is None or tokens_out is None)
        if uncounted and (self.budget.tokens is not None or self.budget.money is not None):
            self._over = (
                "the server does not count tokens, so a budget in tokens or money can't be held; give one in requests"
            )

    def _guess(self, messages: Sequence[Message], settings: Mapping[str, Any]) -> _Ticket:
        size = sum(len(_text(message).encode("utf-8", "replace")) for message in messages)
        share = self._counted_tokens / self._counted_bytes if self._counted_bytes else FIRST_GUESS
        longest = settings.get("max_tokens") or settings.get("max_completion_tokens") or self.longest
        return _Ticket(int(size * share) + 1, longest * (settings.get("n") or 1), size)

    def _beyond(self, ticket: _Ticket) -> str:
        """Which part of the budget would be passed if this question and all open ones cost what they may."""
        requests, tokens_in, tokens_out = self.spent
        waiting = [*self._open, ticket]
        requests += len(waiting)
        tokens_in += sum(other.tokens_in for other in waiting)
        tokens_out += sum(other.tokens_out for other in waiting)
        budget = self.budget
        if budget.requests is not None and requests > budget.requests:
            return f"{budget.requests:,} requests"
        if budget.tokens is not None and tokens_in + tokens_out > budget.tokens:
            return f"{budget.tokens:,} tokens"
        if budget.money is not None and self.price and self.price.of(tokens_in, tokens_out) > budget.money:
            return f"{budget.money:g} in money"
        return ""


def _counts(usage: Mapping[str, Any] | None) -> tuple[int | None, int | None]:
    return (None, None) if usage is None else (usage.get("prompt_tokens"), usage.get("completion_tokens"))


def _text(message: Message) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else json.dumps(content, default=str)
