"""Word problems about two people's things, with two equations each, and a solver that writes its thoughts down.

Three kinds: a sum and a difference, a sum and a multiple, a difference and a multiple. What is asked is what either
has. Splits are by kind and numbers, whoever the people are, so the test asks for sums that were not trained on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from stillroom.data.tables import part_of

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
PEOPLE = ("Ada", "Ali", "Boris", "Clara", "Emil", "Hugo", "Ines", "Maria", "Nora", "Omar", "Rosa", "Tara")
THINGS = ("apples", "beads", "books", "cards", "coins", "eggs", "keys", "pens", "shells", "stamps")
KINDS = ("sum and difference", "sum and multiple", "difference and multiple")


@dataclass(frozen=True)
class Problem:
    """A has ``more`` things and B ``fewer``; ``first`` says that A is asked for."""

    kind: str
    question: str
    more: int
    fewer: int
    first: bool

    @property
    def answer(self) -> int:
        """What is asked for."""
        return self.more if self.first else self.fewer


def problems(part: str, count: int, *, least: int = 4, most: int = 60, seed: int = 0) -> Iterator[Problem]:
    """Problems of a split, no question twice.

    Args:
        part: train, validation or test.
        count: how many.
        least: the smallest that two people's things may be together.
        most: the largest.
        seed: of the draw.
    """
    draw, seen = random.Random(f"{part} {least} {most} {seed}"), set[str]()
    while len(seen) < count:
        kind, total = draw.choice(KINDS), draw.randint(least, most)
        if kind == KINDS[0]:
            fewer = draw.randint(1, max((total - 1) // 2, 1))
            more = total - fewer
        else:
            times = draw.randint(2, 5)
            fewer = total // (times + 1)
            more = fewer * times
        first = draw.random() < 0.5
        if not (0 < fewer < more and least <= more + fewer) or part_of(f"{kind} {more} {fewer}", SHARES) != part:
            continue
        a, b = draw.sample(PEOPLE, 2)
        question = _told(kind, a, b, draw.choice(THINGS), more, fewer, first, draw)
        if question not in seen:
            seen.add(question)
            yield Problem(kind, question, more, fewer, first)


def _told(kind: str, a: str, b: str, things: str, more: int, fewer: int, first: bool, draw: random.Random) -> str:
    both = f"{a} and {b} have {more + fewer} {things}."
    above = draw.choice([f"{a} has {more - fewer} more than {b}.", f"{b} has {more - fewer} fewer than {a}."])
    times = f"{a} has {more // fewer} times as many as {b}."
    facts = {KINDS[0]: [both, above], KINDS[1]: [both, times], KINDS[2]: [above, times]}[kind]
    draw.shuffle(facts)
    return " ".join([*facts, f"How many {things} has {a if first else b}?"])


def readings(count: int, *, most: int = 99, seed: int = 0) -> Iterator[dict[str, str]]:
    """Questions to say again, or to name the numbers of: what a model learns before it learns to solve.

    None is answered, and those of the test are not among them.
    """
    draw, done = random.Random(f"readings {seed}"), 0
    while done < count:
        kind, fewer = draw.choice(KINDS), draw.randint(1, most // 2)
        more = fewer * draw.randint(2, 5) if kind != KINDS[0] else fewer + draw.randint(1, most // 2)
        if more + fewer > most or part_of(f"{kind} {more} {fewer}", SHARES) == "test":
            continue
        a, b = draw.sample(PEOPLE, 2)
        question = _told(kind, a, b, draw.choice(THINGS), more, fewer, draw.random() < 0.5, draw)
        done += 1
        if done % 2:
            yield {"prompt": f"{question}\nAgain:\n", "completion": question}
        else:
            yield {"prompt": f"{question}\nNumbers:\n", "completion": " " + " ".join(re.findall(r"\d+", question))}


def thought(problem: Problem, kind: str) -> str:
    """What the solver writes: ``equations``, a ``program`` or a ``chain``."""
    x, y = problem.more, problem.fewer
    total, above, times = x + y, x - y, x // y
    if kind == "equations":
        lines = {
            KINDS[0]: [f"a + b = {total}", f"a - b = {above}"],
            KINDS[1]: [f"a + b = {total}", f"a = {times} * b"],
            KINDS[2]: [f"a - b = {above}", f"a = {times} * b"],
        }[problem.kind]
        return "\n".join([*lines, f"ans = {'a' if problem.first else 'b'}"])
    if kind == "program":
        last = " * times" if problem.first else ""
        lines = {
            KINDS[0]: [
                f"total = {total}",
                f"more = {above}",
                f"ans = (total {'+' if problem.first else '-'} more) / 2",
            ],
            KINDS[1]: [f"total = {total}", f"times = {times}", f"ans = total / (times + 1){last}"],
            KINDS[2]: [f"more = {above}", f"times = {times}", f"ans = more / (times - 1){last}"],
        }[problem.kind]
        return "\n".join(lines)
    if problem.kind == KINDS[0]:
        sign = "+" if problem.first else "-"
        steps = [
            f"Twice that is {total} {sign} {above} = {2 * problem.answer}.",
            f"Half of it is {2 * problem.answer} / 2 = {problem.answer}.",
        ]
    else:
        amount, parts, sign = (total, times + 1, "+") if problem.kind == KINDS[1] else (above, times - 1, "-")
        steps = [f"It is {times} {sign} 1 = {parts} parts.", f"A part is {amount} / {parts} = {y}."]
        steps += [f"So {y} * {times} = {x}."] if problem.first else []
    return " ".join([*steps, f"The answer is {problem.answer}."])


class Solver:
    """A teacher that knows the answers, and slips at a chosen rate: prompts, n, temperature -> texts.

    A slip is one wrong number: the last one of a chain, the first one of equations and programs. As a text it looks
    like the others, and only checking it tells. It depends on the prompt and the sample alone.

    Args:
        known: the problems that it is asked about.
        slips: the share of thoughts with a slip, in [0, 1].
    """

    def __init__(self, known: Iterable[Problem], *, slips: float = 0.0) -> None:
        self.known, self.slips = {problem.question: problem for problem in known}, slips

    def __call__(self, prompts: Sequence[str], n: int, temperature: float) -> list[list[str]]:
        """``n`` texts for each prompt, which names the kind and ends with the question."""
        return [[self._written(prompt, number) for number in range(n)] for prompt in prompts]

    def _written(self, prompt: str, number: int) -> str:
        problem = self.known[prompt.rpartition("Question: ")[2].strip()]
        kind = "equations" if "equations" in prompt else "program" if "program" in prompt else "chain"
        text = thought(problem, kind)
        if random.Random(f"{prompt} {number}").random() >= self.slips:
            return text
        numbers = list(re.finditer(r"\d+", text))
        wrong = numbers[-1 if kind == "chain" else 0]
        return f"{text[: wrong.start()]}{int(wrong[0]) + 1}{text[wrong.end() :]}"
