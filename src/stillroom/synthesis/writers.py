"""Who answers prompts: a server (`stillroom.teachers.endpoint.Endpoint`), or any function of this process.

A step of synthesis only needs `Writer`, so a local model, a template with controlled noise, a recorded file and a
server are all the same to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from stillroom.data.tables import batches
from stillroom.errors import UserError
from stillroom.synthesis.journal import Journal
from stillroom.teachers.chat import Answer, Message
from stillroom.teachers.endpoint import Failure, Prompt, Usage, key_of

Conversation = list[Message]


class Writer(Protocol):
    """Answers prompts in any order. ``closed`` says why it will take no more of them; empty while it does."""

    usage: Usage
    failures: list[Failure]
    closed: str

    def complete(self, prompts: Iterable[Prompt], ids: Iterable[str]) -> Iterator[Answer]:
        """Answers as they come; ids without one are in ``failures``, or were not asked."""
        ...


@dataclass(frozen=True)
class Written:
    """What a function wrote for one prompt, where it knows more than the text.

    Attributes:
        text: of the answer.
        finish_reason: ``stop``, or ``length`` where it was cut off.
        tokens_in: of the prompt.
        tokens_out: of the answer.
        log_prob: summed natural log-probability of the answer's tokens.
    """

    text: str
    finish_reason: str = "stop"
    tokens_in: int | None = None
    tokens_out: int | None = None
    log_prob: float | None = None


class _Open(NamedTuple):
    """A question that has no answer yet."""

    id: str
    key: str
    turns: Conversation


class FunctionWriter:
    """A function of this process as a writer: batched, and resumable like an endpoint.

    Args:
        function: gets a list of conversations and gives an answer for each: a text, a `Written`, or None for none.
        name: what it is (a model's name and revision); a journal of another one is refused.
        batch: conversations a call.
        journal: file for the answers. With it no answered prompt is put to the function again, also after a kill; at
            most one batch is lost.
        settings: what else the answers depend on, for the journal; values of JSON.
        many: works through batches of conversations in the function's place, in their order (workers of Ray); None
            calls the function with one after the other.

    Attributes:
        usage, failures, closed: as those of an `Endpoint`; a call of the function is one request for each prompt.
    """

    def __init__(
        self,
        function: Callable[[list[Conversation]], Sequence[str | Written | None]],
        *,
        name: str,
        batch: int = 16,
        journal: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        many: Callable[[Sequence[list[Conversation]]], Iterable[Sequence[str | Written | None]]] | None = None,
    ) -> None:
        if batch < 1:
            raise ValueError("a batch has at least one prompt")
        self._function, self._batch, self._many = function, batch, many
        self.usage, self.failures, self.closed = Usage(), list[Failure](), ""
        self.journal = None if journal is None else Journal(journal, {"writer": name, "settings": dict(settings or {})})

    def complete(self, prompts: Iterable[Prompt], ids: Iterable[str]) -> Iterator[Answer]:
        """Answers, those of the journal first: of each batch, or of all where many batches are worked through at once.

        Raises:
            UserError: an id occurs twice.
            ValueError: the function gave another number of answers than it got prompts.
        """
        seen, waiting = set[str](), list[list[_Open]]()
        for batch in batches(zip(ids, prompts, strict=True), self._batch):
            open_: list[_Open] = []
            for row_id, prompt in batch:
                if row_id in seen:
                    raise UserError(f"the id {row_id!r} occurs twice; each row needs its own")
                seen.add(row_id)
                turns: Conversation = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
                key = key_of(row_id, turns)
                if self.journal is not None and (known := self.journal.get(key)) is not None:
                    self.usage.add(from_journal=1)
                    yield Answer.of(row_id, known)
                else:
                    open_.append(_Open(row_id, key, turns))
            if open_ and self._many is None:
                yield from self._take(open_, self._function([one.turns for one in open_]))
            elif open_:
                waiting.append(open_)
        if self._many is not None and waiting:
            asked = [[one.turns for one in open_] for open_ in waiting]
            for open_, answers in zip(waiting, self._many(asked), strict=True):
                yield from self._take(open_, answers)

    def _take(self, open_: list[_Open], answers: Sequence[str | Written | None]) -> list[Answer]:
        if len(answers) != len(open_):
            raise ValueError(f"the function got {len(open_)} prompts and gave {len(answers)} answers")
        given = []
        for one, answer in zip(open_, answers, strict=True):
            self.usage.add(requests=1)
            if answer is None:
                self.failures.append(Failure(one.id, "the function gave no answer"))
                self.usage.add(failures=1)
                continue
            body = _body(Written(answer) if isinstance(answer, str) else answer)
            if self.journal is not None:
                self.journal.append(one.key, body)
            known = Answer.of(one.id, body)
            self.usage.add(answers=1, tokens_in=known.tokens_in or 0, tokens_out=known.tokens_out or 0)
            given.append(known)
        return given

    def close(self) -> None:
        """Let other processes use the journal."""
        if self.journal is not None:
            self.journal.close()


def _body(written: Written) -> dict[str, Any]:
    """In the form that an endpoint's answers have, so that one reader serves both."""
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": written.text}}
    choice["finish_reason"] = written.finish_reason
    if written.log_prob is not None:  # the whole answer stands for one token
        choice["logprobs"] = {"content": [{"token": written.text, "logprob": written.log_prob}]}
    return {
        "choices": [choice],
        "usage": {"prompt_tokens": written.tokens_in, "completion_tokens": written.tokens_out},
    }


Generate = Callable[[Sequence[str], int, float], Sequence[Sequence[str]]]
"""Prompts, how many texts for each, at which temperature -> so many texts for each prompt."""


def writer_of(
    generate: Generate, *, temperature: float = 0.0, name: str = "generate", **settings: Any
) -> FunctionWriter:
    """Any function that continues prompts, as a writer.

    Args:
        generate: prompts, n, temperature -> n texts a prompt. Each sample is a question of its own here, so it is
            called with n = 1.
        temperature: that it is called with.
        name: what it is, for a journal.
        settings: ``batch`` and ``journal`` of `FunctionWriter`.

    Raises:
        ValueError: it gave another number of texts than it was asked for.
    """

    def write(conversations: list[Conversation]) -> list[str | Written | None]:
        prompts = ["\n\n".join(str(turn["content"]) for turn in turns) for turns in conversations]
        texts = generate(prompts, 1, temperature)
        if len(texts) != len(prompts) or any(isinstance(some, str) or len(some) != 1 for some in texts):
            raise ValueError(f"generate must give a list of 1 text for each of {len(prompts)} prompts")
        return [some[0] for some in texts]

    return FunctionWriter(write, name=name, settings={"temperature": temperature}, **settings)
