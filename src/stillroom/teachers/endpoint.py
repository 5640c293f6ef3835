"""A teacher behind an address: many questions at once, every answer written down before it is used."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any

from stillroom.errors import UserError
from stillroom.signals import Batch, Signals
from stillroom.synthesis.journal import Journal
from stillroom.teachers.chat import Answer, Chat, Gate, Message, NoAnswerError, NotAskedError, usage_of
from stillroom.teachers.probe import Offer, probe

log = logging.getLogger(__name__)

Prompt = str | Sequence[Message]


class EndpointError(RuntimeError):
    """The server failed too often; the message says how to go on."""


@dataclass(frozen=True)
class Failure:
    """A row without an answer, and why."""

    id: str
    reason: str


@dataclass
class Usage:
    """What was asked and what it cost. Tokens are as the server counts them, without those of the journal's answers."""

    requests: int = 0
    answers: int = 0
    from_journal: int = 0
    failures: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def add(self, **counts: int) -> None:
        """Count some more."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)


class Endpoint:
    """A model on a server that speaks the OpenAI chat protocol.

    Args:
        url: of the API, usually ending with ``/v1``.
        model: its name there.
        key_variable: the environment variable that holds the key. The key is sent to the server and written nowhere.
        concurrency: how many questions are open at once.
        temperature: 0 takes the likeliest token.
        top_p: sample from the likeliest tokens that hold this share of the probability, in (0, 1].
        max_tokens: longest answer.
        top_logprobs: alternatives a token whose log-probs are returned; 0 for none.
        timeout: seconds to wait for one answer.
        retries: how often a row is asked again after trouble that may pass (429, 5xx, time-outs, broken connections and
            answers), each time after twice as long, or after what the server asks for.
        failure_limit: how many rows may stay without an answer before the run ends.
        journal: file for the answers. With it no answer is asked for twice, also after a kill.
        template: the text that messages are made with; a journal made with another one is refused.
        extra: further fields of each request, such as ``{"seed": 1}``; None takes a field out:
            ``{"max_tokens": None, "max_completion_tokens": 256}``. They stand in the journal, so no secrets here.
        gate: holds requests back, or ends them; see `stillroom.synthesis.limits.Limits`.

    Attributes:
        usage: counts since this object was made.
        failures: rows that got no answer.
        closed: why the gate lets no more requests through; empty while it does.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key_variable: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        temperature: float = 0.0,
        top_p: float = 1.0,
        max_tokens: int = 256,
        top_logprobs: int = 0,
        timeout: float = 60.0,
        retries: int = 6,
        failure_limit: int = 20,
        journal: str | Path | None = None,
        template: str | None = None,
        extra: Mapping[str, Any] | None = None,
        gate: Gate | None = None,
    ) -> None:
        if concurrency < 1 or retries < 0 or failure_limit < 1:
            raise ValueError("concurrency and failure_limit must be at least 1, retries at least 0")
        self._chat = Chat(url, model, key_variable=key_variable, timeout=timeout, retries=retries, gate=gate)
        self.concurrency, self.top_logprobs, self.failure_limit = concurrency, top_logprobs, failure_limit
        fields = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
        if top_logprobs:
            fields |= {"logprobs": True, "top_logprobs": top_logprobs}
        fields |= extra or {}
        self._settings = {name: value for name, value in fields.items() if value is not None}
        self.usage, self.failures, self._counting, self.closed = Usage(), list[Failure](), Lock(), ""
        asked = {
            "model": model,
            "endpoint": self._chat.address,
            "template": None if template is None else hashlib.sha256(template.encode()).hexdigest()[:16],
            "settings": self._settings,
        }
        self.journal = Journal(journal, asked) if journal is not None else None
        if self.journal is not None and gate is not None:
            for paid in self.journal.answers():
                gate.remember(usage_of(paid))

    def probe(self) -> Offer:
        """Learn what the server offers; ``str`` of it says so in a sentence. Costs a few answers of one token.

        Raises:
            UserError: the server cannot be reached, refuses the key, or does not answer a plain question.
        """
        return probe(self._chat, self._settings, self.top_logprobs)

    def complete(self, prompts: Iterable[Prompt], ids: Iterable[str]) -> Iterator[Answer]:
        """Answers as they come, each with its row's id; rows without one are in `failures`.

        Only ``2 * concurrency`` rows are held at once, so both arguments may be long generators. An iteration that is
        left early waits for the open questions, whose answers the journal keeps. Where the gate closes, the iteration
        ends after the answers of the open questions, and `closed` says why.

        Args:
            prompts: a text, or a conversation (``{"role": ..., "content": ...}``), a row.
            ids: one name a row, each only once.

        Raises:
            EndpointError: ``failure_limit`` rows got no answer; those that did were given before.
            UserError: no row can succeed: the key, the address or the model is wrong, or log-probs were asked for and
                do not come.
        """
        stop, failed_before, seen = Event(), len(self.failures), set[str]()
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="endpoint")
        open_: set[Future[Answer | None]] = set()
        try:
            for row_id, prompt in zip(ids, prompts, strict=True):
                ended = bool(self.closed) or len(self.failures) - failed_before >= self.failure_limit
                if ended and self.journal is None:
                    break
                if ended:
                    for future in open_:
                        future.cancel()
                    if not self.closed:
                        stop.set()
                if row_id in seen:
                    raise UserError(f"the id {row_id!r} occurs twice; each row needs its own")
                seen.add(row_id)
                messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
                key = key_of(row_id, messages)
                if self.journal is not None and (known := self.journal.get(key)) is not None:
                    self.usage.add(from_journal=1)
                    yield Answer.of(row_id, known)
                    continue
                if ended:  # nothing more is asked, but what was paid for is still given
                    continue
                open_.add(pool.submit(self._ask, row_id, key, messages, stop))
                while len(open_) >= 2 * self.concurrency:
                    yield from _take(open_)
            while open_ and len(self.failures) - failed_before < self.failure_limit:
                yield from _take(open_)
            stop.set()
            for future in open_:
                future.cancel()
            while open_:
                yield from _take(open_)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
        if len(self.failures) - failed_before >= self.failure_limit:
            raise EndpointError(self._how_to_go_on())

    def _ask(self, row_id: str, key: str, messages: Sequence[Message], stop: Event) -> Answer | None:
        """In a thread of its own: ask, write the answer down, and count; None where there is no answer."""
        try:
            body, requests = self._chat.ask(messages, self._settings, stop)
        except NotAskedError as error:
            with self._counting:
                self.usage.add(requests=error.requests)
                self.closed = self.closed or ("" if stop.is_set() else str(error))
            return None
        except NoAnswerError as error:
            log.warning("row %s got no answer: %s", row_id, error)
            with self._counting:
                self.failures.append(Failure(row_id, str(error)))
                self.usage.add(requests=error.requests, failures=1)
            return None
        answer = Answer.of(row_id, body)
        with self._counting:
            self.usage.add(
                requests=requests, answers=1, tokens_in=answer.tokens_in or 0, tokens_out=answer.tokens_out or 0
            )
        if self.top_logprobs and answer.top_logprobs is None:
            raise UserError(
                f"{self._chat.address} returns no log-probabilities though {self.top_logprobs} alternatives were asked "
                "for; set top_logprobs to 0, or use a server that gives them"
            )
        if self.journal is not None:
            self.journal.append(key, body)
        return answer

    def _how_to_go_on(self) -> str:
        last = self.failures[-1]
        kept = (
            "no answer was kept: name a journal" if self.journal is None else f"the answers are in {self.journal.path}"
        )
        return (
            f"{self._chat.address} left {len(self.failures)} rows without an answer, the last ({last.id}) because "
            f"{last.reason}; {kept}. Remove the cause and run the same command again: it asks for what is missing"
        )

    def close(self) -> None:
        """Let other processes use the journal."""
        if self.journal is not None:
            self.journal.close()


def _take(open_: set[Future[Answer | None]]) -> Iterator[Answer]:
    """The answers that are there, waiting for at least one question to end."""
    for future in wait(open_, return_when=FIRST_COMPLETED).done:
        open_.remove(future)
        if not future.cancelled() and (answer := future.result()) is not None:
            yield answer


def key_of(row_id: str, messages: Sequence[Message]) -> str:
    """What a journal calls a question: its row, and a hash, so that a row whose text changed is asked again."""
    content = json.dumps([dict(message) for message in messages], sort_keys=True).encode()
    return f"{row_id} {hashlib.sha256(content).hexdigest()[:16]}"


class EndpointTeacher:
    """A teacher that writes: `Signals.text` for the conversations in a batch's column ``messages``.

    A conversation that ends with the assistant's words is sent without them: they are what the teacher is to write.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def __call__(self, batch: Batch, needs: tuple[str, ...] = ("text",)) -> Signals:
        """One text a row.

        Raises:
            UserError: something other than text is needed, or the rows carry no messages.
            EndpointError: a row got no answer.
        """
        if other := [name for name in needs if name != "text"]:
            raise UserError(
                f"an endpoint gives text and not {other[0]}; use a teacher that runs here, or a cache of one"
            )
        if "messages" not in batch.columns:
            raise UserError("the rows have no column 'messages' to ask the endpoint with")
        prompts = [_open_end(messages) for messages in batch.columns["messages"]]
        texts = {answer.id: answer.text for answer in self.endpoint.complete(prompts, batch.ids)}
        if missing := [name for name in batch.ids if name not in texts]:
            raise EndpointError(f"the row {missing[0]!r} got no answer: {self.endpoint.failures[-1].reason}")
        return Signals(text=[texts[name] for name in batch.ids])


def _open_end(messages: Sequence[Message]) -> Sequence[Message]:
    return messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages
