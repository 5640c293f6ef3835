"""`arithmetic`: generated word problems of one to four steps, each with a solution that was checked.

| column     | holds                                                                                              |
|------------|----------------------------------------------------------------------------------------------------|
| `id`       | split, seed and number                                                                             |
| `question` | the problem in words                                                                               |
| `answer`   | the number, as text                                                                                |
| `chain`    | the steps in words, each with its sum, then ``The answer is 41.``                                  |
| `equation` | the whole sum, ``(12 * 4 - 7) / 2``                                                                |
| `program`  | the steps as Python assignments, the last to ``answer``                                            |
| `steps`    | how many there are, 1 to 4                                                                         |
| `template` | what happens in it, without names, words, numbers and the question                                 |

Views: `completion` {prompt: question, completion: chain}; `chat`, the same as messages; `problems`, all as above. The
first two keep the other columns. Splits are by template (a hash of it): train 80 %, validation 10 %, test 10 %. Amounts
are whole numbers from 1 to 1,000. A longer draw from the same seed begins with the shorter one.
"""

from __future__ import annotations

import operator
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.stories import MEN, WOMEN, WORLDS, Beginning, Event
from stillroom.data.tables import part_of, read_table, write_table
from stillroom.verify.equations import value_of
from stillroom.verify.limited import REFUSED, Failed

if TYPE_CHECKING:
    from datasets import Dataset

VIEWS = {"completion": "completion", "chat": "chat", "problems": None}
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
SPLITS = tuple(SHARES)
ROWS = {"train": 10_000, "validation": 1_000, "test": 1_000}
"""How many are generated if no limit is given."""

SALT = "103"  # with it, held-out templates of a single step exist for every operation, twice at least
LARGEST = 1000
MOST_STEPS = 4
_VERSION = 1  # of the generator; a change makes what is in the cache stale

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def load(view: str, split: str, limit: int | None, seed: int) -> Dataset:
    """``limit`` problems of a split, generated from ``seed``."""
    import pyarrow as pa

    def build(target: Path) -> None:
        text = ("id", "question", "answer", "chain", "equation", "program", "template")
        message = pa.struct([("role", pa.string()), ("content", pa.string())])
        columns = [*((name, pa.string()) for name in text), ("steps", pa.int64()), ("messages", pa.list_(message))]
        write_table(target, problems(split, count, seed), pa.schema(columns))

    count = limit or ROWS[split]
    table = read_table(build_once("arithmetic", fingerprint(_VERSION, split, count, seed), build))
    if view == "chat":
        return table.remove_columns(["question", "chain"])
    table = table.remove_columns("messages")
    return table.rename_columns({"question": "prompt", "chain": "completion"}) if view == "completion" else table


def problems(split: str, count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """The first ``count`` problems of a split; no question comes twice."""
    seen = set[str]()
    number = 0
    while len(seen) < count:
        problem = _problem(split, random.Random(f"{seed} {split} {number}"))
        if problem["question"] not in seen:
            seen.add(problem["question"])
            turns = (("user", problem["question"]), ("assistant", problem["chain"]))
            messages = [{"role": role, "content": content} for role, content in turns]
            yield {"id": f"{split}-{seed}-{number}", **problem, "messages": messages}
        number += 1


def evaluate(equation: str) -> Fraction:
    """The exact value of a sum of whole numbers with ``+ - * /``, minus signs and parentheses; nothing else is read.

    Raises:
        ValueError: anything else in it, or a division by zero.
    """
    if len(equation) > 1000:
        raise ValueError("an equation may have 1000 characters")
    whole = re.fullmatch(r"[\d\s()+*/-]*", equation) and "**" not in equation
    value = value_of(equation) if whole else Failed(REFUSED, "only whole numbers and + - * / may stand in a sum")
    if isinstance(value, Failed):
        raise ValueError(f"not a sum that can be computed: {equation!r} ({value.reason}: {value.detail})")
    return value


class _NoNumberError(Exception):
    """No number fits this event after what was drawn before."""


def _problem(split: str, draw: random.Random) -> dict[str, Any]:
    """Templates are drawn until one belongs to the split and numbers fit it."""
    while True:
        steps = draw.randint(1, MOST_STEPS)
        world = draw.choice(WORLDS)
        beginning = draw.choice(world.beginnings)
        events = draw.choices(world.events, k=steps - bool(beginning.operation))
        template = " | ".join([world.name, beginning.name, *(event.name for event in events)])
        if part_of(template, SHARES, salt=SALT) != split or _has_echo(events):
            continue
        words = _cast(draw) | draw.choice(world.words)
        try:
            told = _tell(beginning, events, words, draw)
        except _NoNumberError:
            continue
        question = draw.choice(world.questions).format(**words)
        return {"question": " ".join([*told.sentences, question]), **told.columns(), "template": template}


def _has_echo(events: list[Event]) -> bool:
    """Whether the same thing happens twice in a row."""
    return any(first is second for first, second in pairwise(events))


def _cast(draw: random.Random) -> dict[str, str]:
    names, she, her, him = draw.choice([(WOMEN, "she", "her", "her"), (MEN, "he", "his", "him")])
    who = draw.choice(names)
    other = draw.choice([name for name in (*WOMEN, *MEN) if name != who])
    return {"who": who, "she": she, "her": her, "him": him, "other": other}


@dataclass
class _Told:
    """A story as far as it has been told."""

    amount: int
    equation: str
    sentences: list[str]
    reasons: list[str] = field(default_factory=list)
    sums: list[tuple[int, str, int, int]] = field(default_factory=list)

    def step(self, operation: str, number: int, reason: str) -> None:
        """The amount becomes ``amount operation number``."""
        result = OPERATIONS[operation](Fraction(self.amount), number)
        loose = bool(self.sums) and self.sums[-1][1] in "+-" and operation in "*/"
        self.equation = f"{f'({self.equation})' if loose else self.equation} {operation} {number}"
        self.sums.append((self.amount, operation, number, int(result)))
        self.reasons.append(reason)
        self.amount = int(result)

    def columns(self) -> dict[str, Any]:
        """Answer, chain, equation, program and number of steps; checked."""
        if evaluate(self.equation) != self.amount:
            raise AssertionError(f"{self.equation} is {evaluate(self.equation)}, and the steps gave {self.amount}")
        said = [
            f"{reason[0].upper()}{reason[1:]}: {left} {operation} {right} = {result}."
            for reason, (left, operation, right, result) in zip(self.reasons, self.sums, strict=True)
        ]
        return {
            "answer": str(self.amount),
            "chain": " ".join([*said, f"The answer is {self.amount}."]),
            "equation": self.equation,
            "program": _program(self.sums),
            "steps": len(self.sums),
        }


def _program(sums: list[tuple[int, str, int, int]]) -> str:
    names = [str(sums[0][0]), *(f"x{number}" for number in range(1, len(sums))), "answer"]
    lines = zip(names[1:], names, sums, strict=False)
    return "\n".join(
        f"{result} = {left} {'//' if operation == '/' else operation} {right}"
        for result, left, (_, operation, right, _) in lines
    )


def _tell(beginning: Beginning, events: list[Event], words: dict[str, str], draw: random.Random) -> _Told:
    first, second = _first_numbers(beginning.operation, draw)
    numbers = {"a": first, "b": second}
    told = _Told(first, str(first), [beginning.text.format(**numbers, **words)])
    if beginning.operation:
        told.step(beginning.operation, second, beginning.reason.format(**numbers, **words))
    for event in events:
        number = _number(event.operation, told.amount, draw)
        sentence = event.text.format(n=number, **words)
        told.sentences.append(sentence[0].upper() + sentence[1:])
        told.step(event.operation, number, event.reason.format(n=number, **words))
    return told


def _first_numbers(operation: str, draw: random.Random) -> tuple[int, int]:
    if operation == "*":
        return draw.randint(2, 12), draw.randint(2, 12)
    if operation == "/":
        parts = draw.randint(2, 9)
        return parts * draw.randint(2, 12), parts
    first = draw.randint(10, 99)
    return first, draw.randint(2, first - 2)


def _number(operation: str, amount: int, draw: random.Random) -> int:
    """A number that keeps the amount whole and from 1 to `LARGEST`."""
    fits = {
        "+": range(2, min(60, LARGEST - amount) + 1),
        "-": range(1, min(60, amount - 1) + 1),
        "*": range(2, min(5, LARGEST // amount) + 1),
        "/": [part for part in range(2, 10) if amount % part == 0],
    }[operation]
    if not fits:
        raise _NoNumberError
    return draw.choice(fits)
