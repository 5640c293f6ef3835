"""LLMQuoter: a small model quotes what matters of a long context, and any reader answers from the quotes alone.

**Paper**: Bezerra and Weigang 2025, "LLMQuoter: Enhancing RAG Capabilities Through Efficient Quote Extraction From
Large Contexts" (arXiv 2501.05554; code: yurifacanha/llmquoter).

**Idea**: To find what matters in a long context and to reason about it are two tasks, and small models do badly at both
at once. A large model that is shown the right answer marks the quotes that support it; a small one learns to find them
without the answer; and the reader, which may be small too, reads a few lines instead of pages.

**Objective**: with question q, context c and the teacher's quotes s_1, ..., s_m, which were found with the answer a
known, the quoter is trained by low-rank adapters on

    loss = mean over the reply's tokens of  -log p(##begin_quote## s_1 ##end_quote## ... | q, c),

where a is not seen; then the reader answers from q and the quotes that the quoter writes.

**Kept and changed**: Kept: a teacher that sees the answer, the marks, the quoter's reply of nothing but blocks, and the
scores: quote precision, recall and F1, the form (1 for blocks and white space alone; an empty reply is 0, an empty
block 1), BM25 against the gold quotes' own. Where the paper asks a large model whether two quotes are the same, here
one must contain the other, or share nearly all words with it (token F1 of 0.8). Every quote of the teacher must stand
in the context word for word, or the row is dropped. Adapters have rank 16 and alpha 32, rate 2e-4, two epochs
(`STUDENT`): the paper's are not public. Prompts are our own.

**Use it when**: readers are small or paid by the token and contexts are long; a teacher can mark some ten thousand
contexts whose questions have known answers. It adds a model to each answer; a reader that is good at long contexts
needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.method import Pipeline
from stillroom.synthesis import filters
from stillroom.synthesis.account import Account, Outcome
from stillroom.synthesis.columns import beside, each_row, require
from stillroom.synthesis.generate import generate
from stillroom.synthesis.quotes import BEGIN, END, quoted_from, read_quotes, well_formed, write_quotes

if TYPE_CHECKING:
    from datasets import Dataset

    from stillroom.synthesis.costs import Price
    from stillroom.synthesis.writers import Writer

__all__ = [  # noqa: RUF022 - the first name is the method
    "LLMQuoter",
    "STUDENT",
    "answer_from_quotes",
    "quoter_prompt",
    "reader_prompt",
    "teacher_prompt",
]

STUDENT: dict[str, Any] = {
    "method": {"name": "lora_sft", "rank": 16, "alpha": 32},
    "train": {"learning_rate": 2e-4, "epochs": 2},
}
"""What a recipe for the quoter has beside its student and these rows."""


class LLMQuoter(Pipeline):
    """Questions with contexts and answers to rows that a quoter is trained on: prompt and completion.

    Args:
        teacher: who marks the quotes.
        ask: row -> the teacher's prompt.
        show: question and context -> the quoter's prompt; the answer is never passed.
        most: quotes a reply may have, at least 1; a teacher that quotes everything has chosen nothing.
        price: of the teacher's tokens.
        rejects: folder for the dropped rows, a file for each step.

    Attributes:
        accounts: of all steps that ran, in their order.

    Raises:
        ValueError: ``most`` is below 1.
    """

    def __init__(
        self,
        *,
        teacher: Writer,
        ask: Callable[[Mapping[str, Any]], str] | None = None,
        show: Callable[[str, str], str] | None = None,
        most: int = 8,
        price: Price | None = None,
        rejects: str | Path | None = None,
    ) -> None:
        if most < 1:
            raise ValueError(f"a reply has at least one quote; most is {most}")
        self.teacher, self.most, self.price = teacher, most, price
        self.ask = ask or (lambda row: teacher_prompt(row["question"], row["context"], row["answer"]))
        self.show = show or quoter_prompt
        self.rejects = None if rejects is None else Path(rejects)
        self.accounts: list[Account] = []

    def run(self, dataset: Dataset) -> Dataset:
        """The rows with ``quotes``, ``prompt`` (question and context) and ``completion`` (the blocks).

        Args:
            dataset: rows with question, context (a text) and answer, and, where they are known, ``gold``: quotes that
                the context must have.

        Raises:
            UserError: a column is missing.
        """
        return self.student_rows(self.read(self.mark(self.check(dataset))))

    def check(self, dataset: Dataset) -> Dataset:
        """The rows that something can be quoted from, and whose gold quotes are in the context."""
        require(dataset, "question", "context", "answer")
        return self._keep(dataset, [_something, _has_gold], "check contexts")

    def mark(self, dataset: Dataset) -> Dataset:
        """The teacher's reply to each row, with the answer before its eyes."""
        asked = generate(
            dataset,
            self.teacher,
            self.ask,
            price=self.price,
            rejects=self._aside("mark quotes"),
            stage="mark quotes",
        )
        return self._note(asked)

    def read(self, dataset: Dataset) -> Dataset:
        """The rows whose reply is blocks of quotes that stand in the context, each once, under ``quotes``."""
        kept = self._keep(dataset, [filters.finished(), _form], "read quotes")
        quotes = [list(dict.fromkeys(read_quotes(reply))) for reply in kept["reply"]]
        import pyarrow as pa

        found = beside(
            kept.remove_columns(["reply", "reply_call"]),
            range(len(kept)),
            {"quotes": quotes},
            {"quotes": pa.list_(pa.string())},
        )
        return self._keep(found, [_some, self._few, _extractive], "verify quotes")

    def student_rows(self, dataset: Dataset) -> Dataset:
        """The rows with prompt and completion."""
        made: dict[str, Sequence[str]] = {
            "prompt": [self.show(row["question"], row["context"]) for row in each_row(dataset)],
            "completion": [f" {write_quotes(row['quotes'])}" for row in each_row(dataset)],
        }
        return beside(dataset, range(len(dataset)), made)

    def _few(self, row: Mapping[str, Any]) -> str | None:
        return None if len(row["quotes"]) <= self.most else f"more than {self.most} quotes"

    def _note(self, outcome: Outcome) -> Dataset:
        self.accounts.append(outcome.account)
        return outcome.dataset

    def _keep(self, dataset: Dataset, rules: Sequence[filters.Filter], stage: str) -> Dataset:
        return self._note(filters.keep(dataset, rules, rejects=self._aside(stage), stage=stage))

    def _aside(self, stage: str) -> Path | None:
        return None if self.rejects is None else self.rejects / f"{stage.replace(' ', '-')}.jsonl"


# --- prompts ---


def teacher_prompt(question: str, context: str, answer: str) -> str:
    """What the teacher is asked, who knows the answer."""
    return (
        "Copy from the context the passages that show that the answer to the question is right. Copy them word for "
        f"word, only what is needed, each between {BEGIN} and {END}, and write nothing else.\n\n"
        f"Context:\n{context}\n\nQuestion: {question}\nAnswer: {answer}\n\nQuotes:"
    )


def quoter_prompt(question: str, context: str) -> str:
    """What the quoter reads."""
    return f"Context:\n{context}\n\nQuestion: {question}\nQuotes:"


def reader_prompt(question: str, quotes: Sequence[str]) -> str:
    """What the reader reads: the quotes in place of the context, or a whole context as the one quote."""
    return "Context:\n" + "\n".join(quotes) + f"\n\nQuestion: {question}\nAnswer:"


def answer_from_quotes(
    rows: Sequence[Mapping[str, str]],
    quoter: Callable[[list[str]], Sequence[str]],
    reader: Callable[[list[str]], Sequence[str]],
    *,
    verify: bool = False,
) -> list[tuple[str, list[str]]]:
    """The two steps of use: answers, each with the quotes that it rests on.

    Args:
        rows: with question and context.
        quoter: prompts -> replies.
        reader: prompts -> answers.
        verify: leave out quotes that do not stand in the context.
    """
    replies = quoter([quoter_prompt(row["question"], row["context"]) for row in rows])
    quotes = [read_quotes(reply) for reply in replies]
    if verify:
        quotes = [
            [quote for quote in own if quoted_from(quote, row["context"])]
            for own, row in zip(quotes, rows, strict=True)
        ]
    prompts = [reader_prompt(row["question"], own) for own, row in zip(quotes, rows, strict=True)]
    return list(zip(reader(prompts), quotes, strict=True))


# --- filters ---


def _something(row: Mapping[str, Any]) -> str | None:
    missing = [name for name in ("question", "context", "answer") if not str(row[name] or "").strip()]
    return f"{missing[0]} is empty" if missing else None


def _has_gold(row: Mapping[str, Any]) -> str | None:
    gold = row.get("gold") or []
    return None if all(quoted_from(quote, row["context"]) for quote in gold) else "gold quote is not in the context"


def _form(row: Mapping[str, Any]) -> str | None:
    return None if well_formed(row["reply"]) else "reply is not blocks of quotes alone"


def _some(row: Mapping[str, Any]) -> str | None:
    return None if row["quotes"] else "no quote"


def _extractive(row: Mapping[str, Any]) -> str | None:
    return None if all(quoted_from(one, row["context"]) for one in row["quotes"]) else "quote is not in the context"
