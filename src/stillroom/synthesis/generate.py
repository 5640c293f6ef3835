"""Prompts from rows, answers to rows: the step that costs money, so it can be stopped at any moment and taken up again.

What is promised, given a journal:

- An answer that reached the journal is never asked for again, whatever ended the run, ``kill -9`` and power cuts
  included.
- A run that ends by itself (budget spent, server gone, an error, Ctrl-C) waits for its open questions and writes their
  answers down. Nothing that was answered is asked again.
- After ``kill -9`` the questions that were open at that moment, at most as many as the writer's concurrency, are asked
  again: whether the server had answered them can't be known on this side.
- Every row is answered in the end or named: what is missing is asked for by running the same code again.

What a server asks to be repeated (429, 5xx, a broken connection, a time-out) is asked again within a run.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stillroom.data.progress import patient_bar
from stillroom.data.rows import row_id
from stillroom.synthesis.account import Account, Outcome, accounted
from stillroom.synthesis.columns import beside, each_row, free
from stillroom.synthesis.costs import Price
from stillroom.synthesis.rejects import Rejects

if TYPE_CHECKING:
    from datasets import Dataset

    from stillroom.synthesis.writers import Writer
    from stillroom.teachers.chat import Answer
    from stillroom.teachers.endpoint import Prompt, Usage

Template = Callable[[Mapping[str, Any]], "Prompt | None"]
"""What to ask for a row: a text, a conversation, or None where there is nothing to ask."""

NOTHING_TO_ASK, NO_ANSWER, NOT_ASKED = "nothing to ask", "no answer", "not asked"


def generate(
    dataset: Dataset,
    writer: Writer,
    template: Template,
    *,
    samples: int = 1,
    column: str = "reply",
    price: Price | None = None,
    rejects: str | Path | None = None,
    stage: str = "generate",
) -> Outcome:
    """Ask a writer about every row.

    A server that stops, or a budget that is spent, is no error: the rows that have an answer are given, and the
    account's ``note`` says why it ended and how to go on. `Account.rejected` counts what is missing.

    Args:
        dataset: the rows. Ids, where there are any, must differ; equal rows without ids are told apart by their order.
        writer: an `Endpoint` with its journal, concurrency, pace and budget, or a `FunctionWriter`.
        template: row -> prompt. It must give the same prompt for the same row each time, or answers are not found
            again.
        samples: answers a row. They differ only where the writer draws (a temperature above 0, no fixed ``seed``).
        column: for the answers' texts.
        price: for the account's money.
        rejects: file for the rows without an answer.
        stage: name in the account.

    Returns:
        The rows in their order, those with several samples several times, with an ``id`` (``id#0``, ``id#1``, ... where
        there are several samples), the text under ``column``, and under ``{column}_call`` what belongs to it:
        ``asked`` (the text of each turn), ``finish_reason``, ``tokens_in``, ``tokens_out``, ``sample``, and, of writers
        that give it, ``log_prob``, summed over the answer's tokens. Half surrogate pairs, which no table can hold, have
        become U+FFFD.

    Raises:
        UserError: a column has that name already, ids are not unique, or no question can succeed.
    """
    if samples < 1:
        raise ValueError("samples must be at least 1")
    free(dataset, [column, f"{column}_call"])

    def prompts(row: Mapping[str, Any]) -> list[Prompt] | None:
        prompt = template(row)
        return None if prompt is None else [prompt] * samples

    with accounted(stage) as account:
        replies = ask(dataset, writer, prompts, account, price=price, rejects=rejects)
    made: dict[str, list[Any]] = {
        "id": [reply.answer.id for reply in replies],
        column: [whole(reply.answer.text) for reply in replies],
        f"{column}_call": [_call(reply) for reply in replies],
    }
    rest = dataset.remove_columns(["id"]) if "id" in dataset.column_names else dataset
    return Outcome(beside(rest, [reply.place for reply in replies], made, _types(column)), account)


def ask(
    dataset: Dataset,
    writer: Writer,
    prompts: Callable[[Mapping[str, Any]], list[Prompt] | None],
    account: Account,
    *,
    price: Price | None = None,
    rejects: str | Path | None = None,
) -> list[Reply]:
    """Put several prompts of each row to a writer: what `generate` and the judges are made of.

    Args:
        dataset: the rows.
        writer: who answers.
        prompts: row -> its prompts, or None where there is nothing to ask; as many for each row.
        account: is filled, ``kept`` with the number of replies.
        price: for the account's money.
        rejects: file for what got no answer.

    Returns:
        The replies in the order of the rows and of their prompts.
    """
    with Rejects(rejects, account.stage) as aside:
        asking = _Asking(dataset, prompts, account, aside)
        before, failed_before = replace(writer.usage), len(writer.failures)
        account.note = _collect(writer, asking) or _how_to_go_on(writer)
        _settle(asking, writer, before, failed_before, price)
    return sorted(asking.replies, key=lambda reply: reply[:2])


class Reply(NamedTuple):
    """An answer and where it belongs: the row's place, which of its prompts, and the texts of that prompt's turns."""

    place: int
    sample: int
    asked: list[str]
    answer: Answer


@dataclass
class _Asking:
    """The rows' questions, drawn as they are needed, and where each answer belongs."""

    dataset: Dataset
    prompts_of: Callable[[Mapping[str, Any]], list[Prompt] | None]
    account: Account
    aside: Rejects
    open: dict[str, tuple[int, int, list[str]]] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    _drawn: deque[Prompt] = field(default_factory=deque)

    def ids(self) -> Iterator[str]:
        """Names of the questions. Each leaves its prompt for `prompts`, which is read in step."""
        seen: Counter[str] = Counter()
        for place, row in enumerate(each_row(self.dataset)):
            prompts = self.prompts_of(row)
            if prompts is None:
                self.account.rejected[NOTHING_TO_ASK] += 1
                self.aside.add(row, NOTHING_TO_ASK)
                continue
            self.account.added += len(prompts) - 1
            name = row_id(row)
            if row.get("id") is None:
                seen[name] += 1
                name += f"~{seen[name]}" if seen[name] > 1 else ""
            for sample, prompt in enumerate(prompts):
                own = f"{name}#{sample}" if len(prompts) > 1 else name
                self.open[own] = (place, sample, _texts(prompt))
                self._drawn.append(prompt)
                yield own

    def prompts(self) -> Iterator[Prompt]:
        """The prompts of `ids`."""
        while self._drawn:
            yield self._drawn.popleft()


def _collect(writer: Writer, asking: _Asking) -> str:
    """Gather the answers; why it ended early, if it did."""
    from stillroom.teachers.endpoint import EndpointError

    account = asking.account
    account.rows = len(asking.dataset)
    with patient_bar(account.stage) as tick:
        try:
            for answer in writer.complete(asking.prompts(), asking.ids()):
                asking.replies.append(Reply(*asking.open.pop(answer.id), answer))
                tick(len(asking.replies), None)
        except EndpointError as error:
            return str(error)
    return ""


def _how_to_go_on(writer: Writer) -> str:
    if not writer.closed:
        return ""
    kept = getattr(writer, "journal", None)
    way = f"the answers are in {kept.path}: " if kept is not None else "no answer was kept in a journal: "
    return f"{writer.closed}; {way}raise the limit and run the same again, it asks for what is missing"


def _settle(asking: _Asking, writer: Writer, before: Usage, failed_before: int, price: Price | None) -> None:
    """Fill the account: what was asked and spent in this step, and which rows have no answer, and why."""
    usage, account = writer.usage, asking.account
    account.asked, account.answered = usage.requests - before.requests, usage.answers - before.answers
    account.remembered = usage.from_journal - before.from_journal
    account.tokens_in, account.tokens_out = usage.tokens_in - before.tokens_in, usage.tokens_out - before.tokens_out
    account.money = price.of(account.tokens_in, account.tokens_out) if price else 0.0
    account.kept = len(asking.replies)
    for failure in writer.failures[failed_before:]:
        place, _, _ = asking.open.pop(failure.id)
        account.rejected[NO_ANSWER] += 1
        asking.aside.add(asking.dataset[place] | {"id": failure.id}, NO_ANSWER, failure.reason)
    # Drawn but not asked, and not even drawn. The rows are still in the data set, and nothing was spent on them.
    if left := account.rows + account.added - account.kept - account.rejected.total():
        account.rejected[NOT_ASKED] += left


def _call(reply: Reply) -> dict[str, Any]:
    answer = reply.answer
    told = {name: getattr(answer, name) for name in ("finish_reason", "tokens_in", "tokens_out", "log_prob")}
    return {"asked": reply.asked, "sample": reply.sample, **told}


def _texts(prompt: Prompt) -> list[str]:
    """What a prompt says, turn by turn."""
    contents = [prompt] if isinstance(prompt, str) else [turn.get("content") for turn in prompt]
    return [whole(content if isinstance(content, str) else json.dumps(content, default=str)) for content in contents]


def whole(text: str) -> str:
    """The text with its surrogate pairs joined, and halves of pairs replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _types(column: str) -> dict[str, Any]:
    """Of the new columns, so that tables of two runs fit together even where one server counts no tokens."""
    import pyarrow as pa

    counts = [(name, pa.int64()) for name in ("tokens_in", "tokens_out", "sample")]
    call = pa.struct(
        [("asked", pa.list_(pa.string())), ("finish_reason", pa.string()), *counts, ("log_prob", pa.float64())]
    )
    return {column: pa.string(), f"{column}_call": call, "id": pa.string()}
