"""Mix thoughts: equations, programs and chains of thought, each checked, all taught to one small model.

**Paper**: Zhu, Li, Ma and Wang 2024, "Improving Small Language Models' Mathematical Reasoning via Mix Thoughts
Distillation" (arXiv 2401.11864), on Equation-of-Thought Distillation (EoTD) and Mix Thoughts Distillation (MTD).

**Idea**: A small model reads a problem better than it reckons. So let a teacher write, beside chains of thought, what a
machine can finish: a system of equations that is solved, or a program that is run. What does not come to the right
answer is dropped; a student that learns all three kinds reads better than one that learns any of them alone.

**Objective**: of each problem x with the answer a, the teacher writes a thought r of each kind k; with v_k the value of
a thought (the number that a chain states, what a program leaves in ``ans``, what a system gives for ``ans``), the set

    D_k = {(x, r): |v_k(r) - a| <= 1e-4},    L_EoTD = -sum over D_equations of log q(r | x, i_k)

where i_k is an instruction after the question that names the kind; L_MTD is the same sum over D_equations, D_programs
and D_chains, without weights. That is plain training (`sft`) on the rows that this pipeline makes.

**Kept and changed**: Written without the authors' code. Equations are read by a restricted parser and solved exactly;
programs are run in a limited process. The paper's priority of kinds where their answers differ is not known: it is a
parameter (programs, equations, chains), and a majority vote is offered beside it. The few-shot prompts are ours, of one
worked example, and can be replaced. Of several right samples the first ones are kept, different ones only. The
instruction stands after the question when a single kind is taught, too, so that all students read the same prompts.

**Use it when**: answers are numbers that can be checked, a teacher can be asked for code, and what runs the student may
run a solver too. A student without one has only its chains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from stillroom.errors import UserError
from stillroom.method import Pipeline
from stillroom.synthesis.account import Account, accounted
from stillroom.synthesis.columns import each_row, require
from stillroom.synthesis.generate import generate
from stillroom.synthesis.rejects import Rejects
from stillroom.synthesis.writers import Generate, Writer, writer_of
from stillroom.verify.answers import TOLERANCE, number_in, same_number, stated_number
from stillroom.verify.equations import solve
from stillroom.verify.limited import NO_ANSWER, Failed
from stillroom.verify.programs import run_program
from stillroom.verify.votes import vote

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = [  # noqa: RUF022 - the first name is the method
    "MixThoughts",
    "KINDS",
    "Kind",
    "Thought",
    "answer_of",
    "answers_of",
    "asked",
    "value_of_thought",
]

Kind = Literal["equations", "program", "chain"]
WRONG, REPEATED, SPARE = "another answer", "the same once more", "more than are kept"


class Thought(NamedTuple):
    """A kind of thought: what is put after the student's question, and how the teacher is asked for it."""

    instruction: str
    prompt: str


_QUESTION = "A and B have 30 eggs together. A has 4 more than B. How many eggs does A have?"

KINDS: dict[Kind, Thought] = {
    "equations": Thought(
        "System of linear equations:",
        "Write the problem as equations, one a line, and nothing else. Name each unknown; the one that is asked for is "
        f"called ans. Don't compute anything.\n\nQuestion: {_QUESTION}\na + b = 30\na - b = 4\nans = a\n\n"
        "Question: {question}\n",
    ),
    "program": Thought(
        "Program:",
        "Write a short Python program without imports and functions that computes the answer and assigns it to ans.\n\n"
        f"Question: {_QUESTION}\ntotal = 30\nmore = 4\nans = (total + more) / 2\n\nQuestion: {{question}}\n",
    ),
    "chain": Thought(
        "Think step by step:",
        "Solve the problem step by step, and end with the words: The answer is, and the number.\n\n"
        f"Question: {_QUESTION}\nTwice what A has is 30 + 4 = 34. A has 34 / 2 = 17. The answer is 17.\n\n"
        "Question: {question}\n",
    ),
}
"""The kinds, in the order of the rows that are made."""

PRIORITY: tuple[Kind, ...] = ("program", "equations", "chain")


def value_of_thought(kind: Kind, text: str) -> Fraction | Failed:
    """The number that a thought comes to: stated by a chain, solved from equations, computed by a program."""
    if kind == "chain":
        stated = stated_number(text)
        return Failed(NO_ANSWER, "no answer is stated") if stated is None else stated
    return solve(text) if kind == "equations" else run_program(text)


def asked(question: str, kind: Kind) -> str:
    """What the student reads: the question, and after it which kind of thought is wanted."""
    return f"{question}\n{KINDS[kind].instruction}\n"


class MixThoughts(Pipeline):
    """From problems with answers to rows {prompt, completion} of thoughts that come to these answers.

    Args:
        teacher: who writes: a function of prompts, n and temperature that gives n texts a prompt, or a `Writer` (an
            endpoint, with its journal and budget).
        kinds: of thoughts; ``("equations",)`` alone is EoTD, all three are MTD.
        samples: that the teacher writes of each problem and kind, at least 1.
        keep: right and different ones kept of each problem and kind, at least 1.
        temperature: that a function is called with, at least 0; 0 is greedy. A `Writer` has its own.
        tolerance: by which a value may differ from the answer, at least 0.
        prompts: kind -> the teacher's prompt, with ``{question}`` in it, in place of the built-in ones.
        question: the column of the problems.
        answer: the column of their answers: numbers, or texts that state one.
        rejects: a folder for the thoughts that are dropped, with their reasons, a file for each kind; None keeps none.

    Attributes:
        accounts: one for each kind, after `run`: what was asked, kept, and dropped for which reason.

    Raises:
        ValueError: a value outside its range, or a kind that there is not.
    """

    def __init__(
        self,
        teacher: Generate | Writer,
        *,
        kinds: Sequence[Kind] = ("equations", "program", "chain"),
        samples: int = 1,
        keep: int = 1,
        temperature: float = 0.0,
        tolerance: float = TOLERANCE,
        prompts: Mapping[Kind, str] | None = None,
        question: str = "question",
        answer: str = "answer",
        rejects: str | Path | None = None,
    ) -> None:
        _known(kinds)
        if samples < 1 or keep < 1 or temperature < 0 or tolerance < 0:
            raise ValueError(
                "samples and keep must be at least 1, temperature and tolerance at least 0; they are "
                f"{samples}, {keep}, {temperature} and {tolerance}"
            )
        given: Any = teacher
        self.writer: Writer = given if hasattr(given, "complete") else writer_of(given, temperature=temperature)
        self.kinds, self.samples, self.keep, self.tolerance = tuple(kinds), samples, keep, tolerance
        self.prompts = {kind: KINDS[kind].prompt for kind in self.kinds} | dict(prompts or {})
        self.question, self.answer, self.rejects = question, answer, rejects
        self.accounts: list[Account] = []

    def run(self, dataset: Dataset) -> Dataset:
        """The right thoughts, kind by kind: ``id``, ``prompt``, ``completion``, ``kind``, ``question``, ``answer``.

        Raises:
            UserError: a column is missing, a row has no number for an answer, or no thought at all is right.
        """
        from datasets import Dataset as Rows

        require(dataset, self.question, self.answer)
        for place, row in enumerate(each_row(dataset)):
            if _gold(row[self.answer]) is None:
                raise UserError(
                    f"row {place} has no number for an answer ({row[self.answer]!r}), so nothing can be held against "
                    "it; leave the row out, or mend it"
                )
        self.accounts, rows = [], list[dict[str, Any]]()
        for kind in self.kinds:
            rows += self._right(self._written(dataset, kind), kind)
        if not rows:
            raise UserError("none of the teacher's thoughts comes to its answer; look at what it writes, with rejects")
        return Rows.from_list(rows)

    def _written(self, dataset: Dataset, kind: Kind) -> Dataset:
        """What the teacher writes of each problem, a sample a row; what it does not answer is in the account."""
        template = self.prompts[kind]

        def prompt(row: Mapping[str, Any]) -> str:
            return template.replace("{question}", str(row[self.question]))

        # What the journal keeps an answer by is the row's id with the prompt, which differs from kind to kind.
        kept = [name for name in ("id", self.question, self.answer) if name in dataset.column_names]
        written = generate(
            dataset.select_columns(kept),
            self.writer,
            prompt,
            samples=self.samples,
            rejects=self._aside(kind, "ask"),
            stage=f"ask for {kind}",
        )
        self.accounts.append(written.account)
        return written.dataset

    def _right(self, written: Dataset, kind: Kind) -> list[dict[str, Any]]:
        """The thoughts that come to the answer; every other one is counted under its reason."""
        rows, kept = list[dict[str, Any]](), Counter[str]()
        seen = set[tuple[str, str]]()
        with accounted(f"check {kind}") as account, Rejects(self._aside(kind, "check"), account.stage) as aside:
            for row in each_row(written):
                account.rows += 1
                text, question = row["reply"].strip(), row[self.question]
                value = value_of_thought(kind, text)
                reason, detail = "", ""
                if isinstance(value, Failed):
                    reason, detail = value.reason, value.detail
                elif not same_number(value, _gold(row[self.answer]), self.tolerance):
                    reason, detail = WRONG, str(value)
                elif (question, text) in seen:
                    reason = REPEATED
                elif kept[question] >= self.keep:
                    reason = SPARE
                if reason:
                    account.rejected[reason] += 1
                    aside.add(row, reason, detail)
                    continue
                seen.add((question, text))
                kept[question] += 1
                account.kept += 1
                made = {"id": f"{row['id']}-{kind}", "prompt": asked(question, kind), "completion": text, "kind": kind}
                rows.append(made | {"question": question, "answer": row[self.answer]})
        self.accounts.append(account)
        return rows

    def _aside(self, kind: Kind, step: str) -> Path | None:
        return None if self.rejects is None else Path(self.rejects) / f"{step}-{kind}.jsonl"


def answer_of(
    thoughts: Mapping[Kind, str],
    *,
    priority: Sequence[Kind] = PRIORITY,
    rule: Literal["priority", "vote"] = "priority",
) -> Fraction | None:
    """The answer of a student that wrote one thought of each kind.

    Args:
        thoughts: kind -> text.
        priority: kinds, best first; those that are not named are not looked at.
        rule: ``priority`` takes the first that has a value; ``vote`` the value that most have, and of equally many that
            of the best kind.

    Returns:
        None where no thought has a value.

    Raises:
        ValueError: an unknown kind or rule.
    """
    _known(priority)
    if rule not in ("priority", "vote"):
        raise ValueError(f"the rule is 'priority' or 'vote', not {rule!r}")
    values = (value_of_thought(kind, thoughts[kind]) for kind in priority if kind in thoughts)
    numbers = (value for value in values if not isinstance(value, Failed))
    return next(numbers, None) if rule == "priority" else vote(list(numbers))


def answers_of(write: Callable[[list[str]], list[str]], questions: Sequence[str], **rule: Any) -> list[Fraction | None]:
    """Inference: the student writes one thought of each kind, and the rule decides.

    Args:
        write: the student, greedy: prompts to texts.
        questions: the problems.
        rule: ``priority`` and ``rule`` of `answer_of`.
    """
    kinds: Sequence[Kind] = rule.get("priority", PRIORITY)
    written = {kind: write([asked(question, kind) for question in questions]) for kind in kinds}
    return [answer_of({kind: written[kind][place] for kind in kinds}, **rule) for place in range(len(questions))]


def _gold(answer: Any) -> Fraction | None:
    return number_in(str(answer))


def _known(kinds: Sequence[Kind]) -> None:
    if not kinds or len(set(kinds)) < len(kinds) or not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds are some of {', '.join(KINDS)}, each once; they are {list(kinds)}")
