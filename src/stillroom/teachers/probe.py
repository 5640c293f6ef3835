"""Learning what a server offers before a run depends on it, and saying it in one sentence.

Servers that speak the same protocol differ: some list no models, some take ``logprobs`` and return none, some allow 5,
20 or any number of alternatives, some ignore the temperature. Each is found by asking, with answers of a few tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any

from stillroom.errors import UserError
from stillroom.teachers.chat import Answer, Chat, NoAnswerError

QUESTION = [{"role": "user", "content": "Write ten random words."}]
USUAL_CEILING = 20


@dataclass(frozen=True)
class Offer:
    """What a server does.

    Attributes:
        address: of the server. model: its name there.
        listed: whether the server lists the model; None where it lists none at all.
        counts_tokens: whether answers say how many tokens they cost.
        log_probs: whether they come when they are asked for.
        top_logprobs: the most alternatives a token that it gives, of the ``tried`` that were asked for; 0 without.
        tried: how many alternatives were asked for at most.
        wanted: how many the run will ask for.
        refusal: what the server said to log-probs, where it refuses them.
        varies: whether two samples differ at the run's temperature; None at temperature 0.
    """

    address: str
    model: str
    listed: bool | None
    counts_tokens: bool
    log_probs: bool
    top_logprobs: int
    tried: int
    wanted: int
    refusal: str
    varies: bool | None

    @property
    def enough(self) -> bool:
        """Whether the run will get the alternatives that it wants."""
        return self.wanted <= self.top_logprobs

    def __str__(self) -> str:
        listed = {True: "listed", False: "not in its list of models", None: "it lists no models"}[self.listed]
        parts = [
            f"{self.address} answers as {self.model!r} ({listed})",
            "counts tokens" if self.counts_tokens else "does not count tokens",
            self._log_probs(),
        ]
        if self.varies is False:
            parts.append("gave the same text twice, so it may ignore the temperature")
        told = f"{', '.join(parts[:-1])} and {parts[-1]}"
        return told if self.enough else f"{told}; {self.wanted} alternatives a token were asked for"

    def _log_probs(self) -> str:
        if self.refusal:
            return f"refuses log-probabilities ({self.refusal})"
        if not self.log_probs:
            return "ignores `logprobs` (no log-probabilities will come)"
        at_least = "at least " if self.top_logprobs == self.tried else ""
        return f"gives log-probabilities of {at_least}{self.top_logprobs} alternatives a token"


def probe(chat: Chat, settings: Mapping[str, Any], wanted: int) -> Offer:
    """Ask a server what it offers: a plain question, some with log-probs, two samples where there is a temperature.

    Args:
        chat: the server.
        settings: fields of the run's requests.
        wanted: how many alternatives a token the run will ask for.

    Raises:
        UserError: the server cannot be reached, refuses the key, or does not answer a plain question.
    """
    plain = {name: value for name, value in settings.items() if name not in ("logprobs", "top_logprobs")}
    try:
        answer = _ask(chat, plain)
    except NoAnswerError as error:
        raise UserError(f"{chat.address} does not answer a chat request: {error}") from None
    listed = chat.models()
    tried = max(wanted, USUAL_CEILING)
    given, refusal = _most_alternatives(chat, plain, tried)
    varies = None
    if plain.get("temperature"):
        varies = _ask(chat, plain, tokens=16).text != _ask(chat, plain, tokens=16).text
    return Offer(
        address=chat.address,
        model=chat.model,
        listed=None if listed is None else chat.model in listed,
        counts_tokens=answer.tokens_out is not None,
        log_probs=given is not None,
        top_logprobs=given or 0,
        tried=tried,
        wanted=wanted,
        refusal=refusal,
        varies=varies,
    )


def _most_alternatives(chat: Chat, plain: Mapping[str, Any], tried: int) -> tuple[int | None, str]:
    """How many alternatives a token come at most (None: no log-probs at all), and why not even one does."""
    low, high, given, refusal = 0, tried, None, ""
    while low < high:
        # The largest number first: most often it is granted, or silently cut to the ceiling.
        number = high if given is None and not refusal else (low + high + 1) // 2
        try:
            places = _ask(chat, {**plain, "logprobs": True, "top_logprobs": number}).top_logprobs
        except NoAnswerError as error:
            high, refusal = number - 1, str(error)
            continue
        if not places:
            return None, ""
        given, low = len(places[0].top), number
    return given, "" if given is not None else refusal


def _ask(chat: Chat, settings: Mapping[str, Any], tokens: int = 1) -> Answer:
    short = {"max_tokens": tokens} if "max_tokens" in settings else {}
    body, _ = chat.ask(QUESTION, {**settings, **short}, Event())
    return Answer.of("", body)
