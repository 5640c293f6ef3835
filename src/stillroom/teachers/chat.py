"""One question to a server that speaks the OpenAI chat protocol, asked until there is an answer or a reason.

The official ``openai`` client does the talking (connections, credentials, error types). Its own retries are switched
off: they give up on a ``Retry-After`` of more than two minutes, take a cut-off body for an answer, cannot be woken when
a run ends, and do not say how often they asked.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from threading import Event
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from stillroom.errors import UserError, need

Message = Mapping[str, Any]
FIRST_WAIT, LONGEST_BACKOFF, LONGEST_WAIT = 0.5, 60.0, 600.0
MAY_PASS = {408, 409, 425, 429}


class NoAnswerError(Exception):
    """A question that stays without an answer: the reason, and how often it was asked."""

    def __init__(self, reason: str, requests: int) -> None:
        super().__init__(reason)
        self.requests = requests


class NotAskedError(Exception):
    """A question that is left for another run: the reason, and how often it was asked before that."""

    def __init__(self, reason: str, requests: int = 0) -> None:
        super().__init__(reason)
        self.requests = requests


class Gate(Protocol):
    """Stands before every request, to hold it back or to turn it away; see `stillroom.synthesis.limits.Limits`."""

    def enter(self, messages: Sequence[Message], settings: Mapping[str, Any], stop: Event) -> Any:
        """Wait until this may be asked, and give a ticket; `NotAskedError` where it may not."""
        ...

    def leave(self, ticket: Any, usage: Mapping[str, Any] | None) -> None:
        """It was asked; what the server counted (empty where it counts nothing), None where no answer came."""
        ...

    def remember(self, usage: Mapping[str, Any]) -> None:
        """An answer that an earlier run paid for."""
        ...


class RefusalError(Exception):
    """The server will not answer this question, however often it is asked."""


class BusyError(Exception):
    """The server did not answer now; ``after`` is how many seconds it asks to be left alone, if it says."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


@dataclass(frozen=True)
class TokenChoice:
    """One token of an answer: its natural log-prob, and the likeliest tokens in its place with theirs."""

    token: str
    log_prob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Answer:
    """What a server wrote for one row; token counts are None where it does not count."""

    id: str
    text: str
    finish_reason: str | None
    tokens_in: int | None
    tokens_out: int | None
    top_logprobs: list[TokenChoice] | None

    @property
    def log_prob(self) -> float | None:
        """The summed log-probability of its tokens, where the server gives it."""
        return None if self.top_logprobs is None else sum(choice.log_prob for choice in self.top_logprobs)

    @classmethod
    def of(cls, row_id: str, body: Mapping[str, Any]) -> Answer:
        """Read a response.

        Raises:
            ValueError: it does not have the protocol's form.
        """
        try:
            choice, usage = body["choices"][0], body.get("usage") or {}
            places = (choice.get("logprobs") or {}).get("content")
            return cls(
                id=row_id,
                text=choice["message"].get("content") or "",
                finish_reason=choice.get("finish_reason"),
                tokens_in=usage.get("prompt_tokens"),
                tokens_out=usage.get("completion_tokens"),
                top_logprobs=None if places is None else [_token_choice(place) for place in places],
            )
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"an answer of another form than the protocol's ({error!r}): {str(body)[:200]}") from None


def _token_choice(place: Mapping[str, Any]) -> TokenChoice:
    top = tuple((other["token"], other["logprob"]) for other in place.get("top_logprobs") or ())
    return TokenChoice(place["token"], place["logprob"], top)


class Chat:
    """A model behind an address.

    Args:
        url: of the API, usually ending with ``/v1``.
        model: its name there.
        key_variable: the environment variable with the key. A server that wants none is asked without.
        timeout: seconds to wait for one answer.
        retries: how often to ask again after trouble that may pass.
        gate: is asked before each request.
    """

    def __init__(
        self, url: str, model: str, *, key_variable: str, timeout: float, retries: int, gate: Gate | None = None
    ) -> None:
        openai = need("openai", "synthesis")
        if not url.startswith(("http://", "https://")):
            raise UserError(f"the endpoint {url!r} is no address; it begins with http:// or https://")
        self.model, self.key_variable, self.timeout, self.retries = model, key_variable, timeout, retries
        self.address, self.gate = without_secrets(url), gate
        self._key = os.environ.get(key_variable, "")
        self._errors = openai
        self._client = openai.OpenAI(api_key=self._key or "none", base_url=url, timeout=timeout, max_retries=0)

    def models(self) -> list[str] | None:
        """The models that the server lists, or None where it lists none."""
        try:
            listed = json.loads(self._client.models.with_raw_response.list().http_response.text)
            return [model["id"] for model in listed["data"]]
        except (self._errors.OpenAIError, ValueError, KeyError, TypeError):
            return None

    def ask(self, messages: Sequence[Message], settings: Mapping[str, Any], stop: Event) -> tuple[dict[str, Any], int]:
        """The response to a conversation, and how many requests it took.

        Args:
            messages: the conversation.
            settings: further fields of the request.
            stop: set by another thread, it ends the waiting.

        Raises:
            NoAnswerError: the server refused, was in trouble through all retries, or ``stop`` was set.
            NotAskedError: the gate lets no more requests through.
            UserError: no question can succeed: the key or the address is wrong.
        """
        for number in range(self.retries + 1):
            try:
                return self._gated(messages, settings, stop), number + 1
            except NotAskedError as error:
                raise NotAskedError(str(error), number) from None
            except RefusalError as error:
                raise NoAnswerError(str(error), number + 1) from None
            except BusyError as error:
                trouble = error
            if trouble.after is not None and trouble.after > LONGEST_WAIT:
                raise NoAnswerError(f"{trouble}; it asks to wait {trouble.after:.0f} s", number + 1)
            if number < self.retries and stop.wait(_wait(number, trouble.after)):
                break
        raise NoAnswerError(f"{trouble} (asked {number + 1} times)", number + 1)

    def _gated(self, messages: Sequence[Message], settings: Mapping[str, Any], stop: Event) -> dict[str, Any]:
        if self.gate is None:
            return self._once(messages, settings)
        ticket = self.gate.enter(messages, settings, stop)
        usage: Mapping[str, Any] | None = None
        try:
            body = self._once(messages, settings)
            usage = usage_of(body)
        finally:
            self.gate.leave(ticket, usage)
        return body

    def _once(self, messages: Sequence[Message], settings: Mapping[str, Any]) -> dict[str, Any]:
        create = self._client.chat.completions.with_raw_response.create
        try:
            response = create(model=self.model, messages=list(messages), extra_body=dict(settings)).http_response
            body = json.loads(response.text)
            Answer.of("", body)
        except self._errors.APIStatusError as error:
            raise self._judged(error) from None
        except self._errors.APITimeoutError:
            raise BusyError(f"no answer within {self.timeout:g} s") from None
        except self._errors.APIConnectionError as error:
            raise BusyError(self._clean(f"the connection failed ({error.__cause__ or error})")) from None
        except ValueError as error:
            raise BusyError(self._clean(f"the answer could not be read: {error}")) from None
        return body

    def _judged(self, error: Any) -> Exception:
        """What a status code means for this question, and for the others."""
        body = error.body
        told = (
            (body.get("message") or body.get("detail") or body) if isinstance(body, Mapping) else body or error.message
        )
        said = self._clean(f"the server says {error.status_code}: {told}")
        if error.status_code == 401:
            way = "does not accept the key in" if self._key else "wants a key: put it in"
            return UserError(f"{self.address} {way} the environment variable {self.key_variable}")
        if error.status_code == 404:
            return UserError(f"{self.address} has no model {self.model!r}, or is not the API (/v1) itself: {said}")
        if error.status_code in MAY_PASS or error.status_code >= 500:
            return BusyError(said, _seconds(error.response.headers.get("retry-after")))
        return RefusalError(said)

    def _clean(self, text: str) -> str:
        """One short line without the key, which some servers repeat."""
        line = " ".join(text.split())[:300]
        return line.replace(self._key, "***") if self._key else line


def usage_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the server counted for a response; empty where it counts nothing."""
    return body.get("usage") or {}


def without_secrets(url: str) -> str:
    """An address without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def _wait(number: int, asked: float | None) -> float:
    """Seconds before the next try: what the server asks for, else twice as long each time; spread, not all at once."""
    if asked is not None:
        return asked + random.uniform(0, FIRST_WAIT)
    return min(FIRST_WAIT * 2**number, LONGEST_BACKOFF) * random.uniform(0.5, 1)


def _seconds(retry_after: str | None) -> float | None:
    """A Retry-After header (RFC 9110, section 10.2.3): seconds, or a date."""
    if not retry_after:
        return None
    try:
        return max(float(retry_after), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except ValueError:
        return None
