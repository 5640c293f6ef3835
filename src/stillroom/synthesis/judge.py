"""A model as judge: a score by a rubric, or which of two answers is better, asked in both orders.

Judges like the answer that they see first (or last), so a comparison is always asked twice with the answers' places
exchanged; where the two verdicts differ it is a tie, and counted. What a judge says is read from the last line in the
form that it was asked for; a score outside the scale, or none, is no score.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from stillroom.synthesis.account import Account, Outcome, accounted
from stillroom.synthesis.columns import beside, free, require
from stillroom.synthesis.costs import Price
from stillroom.synthesis.generate import NO_ANSWER, NOT_ASKED, Reply, ask, whole
from stillroom.synthesis.rejects import Rejects

if TYPE_CHECKING:
    from datasets import Dataset

    from stillroom.synthesis.writers import Writer

NO_VERDICT, CONTRADICTED = "no verdict", "the judge contradicted itself"
Rubric = Callable[[Mapping[str, Any]], str]
"""What the judge is told about a row: what is judged, by which standard."""

_NUMBER = r"([-+]?\d+(?:\.\d+)?)"
_IS = r"[\s*_\"'`]*[:=][\s*_\"'`]*"
_SCORE = re.compile(
    rf"\b(?:score|rating|grade|verdict)\b[\s*_\"'`]*(?:is\b|of\b|[:=])[\s*_\"'`\[(]*{_NUMBER}", re.IGNORECASE
)
_BOXED = re.compile(rf"\[\[\s*{_NUMBER}\s*\]\]")
_ALONE = re.compile(rf"[\s*_\"'`\[(]*{_NUMBER}(?:\s*(?:/|out of)\s*\d+)?[\s*_\"'`\])]*\.?\s*")
_VERDICT = re.compile(r"\bverdict\b[\s*_\"'`]*(?:is\b|[:=])[\s*_\"'`\[(]*(A|B|tie)\b", re.IGNORECASE)
_BOXED_VERDICT = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
_SCORES = re.compile(rf"\bA{_IS}{_NUMBER}(?:/\d+)?(?:[\s,;*_\"'`|]|and)+B{_IS}{_NUMBER}", re.IGNORECASE)


def read_score(reply: str, lowest: int, highest: int) -> int | None:
    """The whole number that a judge gives, or None.

    The last one that is marked counts (``Score: 7``, ``"score": 7``, ``**Rating: 7/10**``, ``[[7]]``); without any
    mark the reply must be a number and nothing else (``7``, ``7/10``). A broken number or one outside the scale is
    none.
    """
    marked = sorted((match.start(), match[1]) for form in (_SCORE, _BOXED) for match in form.finditer(reply))
    if marked:
        return _in_scale(marked[-1][1], lowest, highest)
    alone = _ALONE.fullmatch(reply)
    return _in_scale(alone[1], lowest, highest) if alone else None


def read_verdict(reply: str) -> str | None:
    """``A``, ``B`` or ``tie``, or None; the last one that is marked counts, or the only word of the reply."""
    marked = sorted((match.start(), match[1]) for form in (_VERDICT, _BOXED_VERDICT) for match in form.finditer(reply))
    known = {"a": "A", "b": "B", "tie": "tie"}
    if marked:  # [[C]] is how some judges are taught to say tie
        return (known | {"c": "tie"})[marked[-1][1].casefold()]
    return known.get(reply.strip(" \n\t.*\"'`[]()").casefold())


def read_scores(reply: str, lowest: int, highest: int) -> tuple[int, int] | None:
    """The scores of A and B, or None; the last ``A=7 B=5`` of the reply counts."""
    if not (found := _SCORES.findall(reply)):
        return None
    first, second = (_in_scale(number, lowest, highest) for number in found[-1])
    return None if first is None or second is None else (first, second)


def score(
    dataset: Dataset,
    writer: Writer,
    rubric: Rubric,
    *,
    lowest: int = 1,
    highest: int = 10,
    samples: int = 1,
    column: str = "score",
    price: Price | None = None,
    rejects: str | Path | None = None,
    stage: str = "judge",
) -> Outcome:
    """Give each row a score.

    Args:
        dataset: the rows.
        writer: the judge.
        rubric: row -> what is judged and how. The form of the answer is added to it.
        lowest: score on the scale.
        highest: likewise.
        samples: opinions a row. Their mean counts; those that can't be read are noted and left out.
        column: for the score, a float. ``{column}_replies`` holds what the judge wrote.
        price: for the account's money.
        rejects: file for the rows without a score.
        stage: name in the account.
    """
    if not lowest < highest or samples < 1:
        raise ValueError("a scale has at least two scores, and there is at least one opinion")
    form = f"End your reply with a line of its own: Score: N, where N is a whole number from {lowest} to {highest}."

    def read(replies: list[str], account: Account) -> dict[str, Any] | None:
        found = [number for reply in replies if (number := read_score(reply, lowest, highest)) is not None]
        account.noted["replies without a score"] += len(replies) - len(found)
        return {column: float(mean(found))} if found else None

    def prompts(row: Mapping[str, Any]) -> list[str]:
        return [f"{rubric(row)}\n\n{form}"] * samples

    return _judge(dataset, writer, prompts, read, [column], 1, price, rejects, stage)


def compare(
    dataset: Dataset,
    writer: Writer,
    rubric: Rubric,
    first: str,
    second: str,
    *,
    column: str = "verdict",
    price: Price | None = None,
    rejects: str | Path | None = None,
    stage: str = "compare",
) -> Outcome:
    """Say which of two columns is better, row by row.

    Args:
        dataset: the rows.
        writer: the judge.
        rubric: row -> the question and the standard; the two answers and the form are added to it.
        first: column of one answer.
        second: column of the other.
        column: for the verdict: ``first``, ``second`` or ``tie``. ``{column}_agreed`` tells whether both orders gave
            the same; ``{column}_replies`` holds what the judge wrote.
        price: for the account's money.
        rejects: file for the rows without a verdict in both orders.
        stage: name in the account.
    """
    require(dataset, first, second)
    form = "End your reply with a line of its own: Verdict: A, Verdict: B or Verdict: tie."

    def read(replies: list[str], account: Account) -> dict[str, Any] | None:
        there, back = (read_verdict(reply) for reply in replies)
        account.noted["replies without a verdict"] += (there is None) + (back is None)
        if there is None or back is None:
            return None
        verdicts = ({"A": "first", "B": "second"}.get(there, there), {"A": "second", "B": "first"}.get(back, back))
        agreed = verdicts[0] == verdicts[1]
        account.noted[CONTRADICTED] += not agreed
        return {column: verdicts[0] if agreed else "tie", f"{column}_agreed": agreed}

    prompts = _both_orders(rubric, first, second, form)
    return _judge(dataset, writer, prompts, read, [column, f"{column}_agreed"], 2, price, rejects, stage)


def score_both(
    dataset: Dataset,
    writer: Writer,
    rubric: Rubric,
    first: str,
    second: str,
    *,
    lowest: int = 1,
    highest: int = 10,
    column: str = "score",
    price: Price | None = None,
    rejects: str | Path | None = None,
    stage: str = "judge both",
) -> Outcome:
    """Score two answers side by side, in both orders; each one's score is the mean of its two.

    The arguments are those of `score` and `compare`. The scores are under ``{column}_{first}`` and
    ``{column}_{second}``. Rows for which the orders name different winners are noted.
    """
    require(dataset, first, second)
    form = (
        f"Score each answer with a whole number from {lowest} to {highest}. "
        "End your reply with a line of its own: A=N, B=M."
    )
    names = [f"{column}_{first}", f"{column}_{second}"]

    def read(replies: list[str], account: Account) -> dict[str, Any] | None:
        there, back = (read_scores(reply, lowest, highest) for reply in replies)
        account.noted["replies without scores"] += (there is None) + (back is None)
        if there is None or back is None:
            return None
        account.noted[CONTRADICTED] += (there[0] - there[1]) * (back[1] - back[0]) < 0
        return {names[0]: (there[0] + back[1]) / 2, names[1]: (there[1] + back[0]) / 2}

    return _judge(dataset, writer, _both_orders(rubric, first, second, form), read, names, 2, price, rejects, stage)


def _both_orders(rubric: Rubric, first: str, second: str, form: str) -> Callable[[Mapping[str, Any]], list[str]]:
    def prompts(row: Mapping[str, Any]) -> list[str]:
        told, answers = rubric(row), (row[first], row[second])
        return [
            f"{told}\n\nAnswer A:\n{one}\n\nAnswer B:\n{other}\n\n{form}" for one, other in (answers, answers[::-1])
        ]

    return prompts


def _judge(
    dataset: Dataset,
    writer: Writer,
    prompts: Callable[[Mapping[str, Any]], list[str]],
    read: Callable[[list[str], Account], dict[str, Any] | None],
    names: list[str],
    needed: int,
    price: Price | None,
    rejects: str | Path | None,
    stage: str,
) -> Outcome:
    """Ask, put each row's replies together, and read them; a row needs ``needed`` replies to be read at all."""
    told = f"{names[0]}_replies"
    free(dataset, [*names, told])
    by_row: dict[int, list[Reply]] = {}
    places: list[int] = []
    made: dict[str, list[Any]] = {name: [] for name in (*names, told)}
    with accounted(stage) as account, Rejects(rejects, stage) as aside:
        for reply in ask(dataset, writer, lambda row: [*prompts(row)], account, price=price):
            by_row.setdefault(reply.place, []).append(reply)
        lacking = NOT_ASKED if account.rejected[NOT_ASKED] else NO_ANSWER
        account.rejected.clear()  # those were of questions; here rows count
        account.added = account.kept = 0
        for place in range(len(dataset)):
            texts = [whole(reply.answer.text) for reply in by_row.get(place, ())]
            found = read(texts, account) if len(texts) >= needed else None
            if found is None:
                reason = NO_VERDICT if len(texts) >= needed else lacking
                account.rejected[reason] += 1
                aside.add(dataset[place], reason, " | ".join(texts))
                continue
            places.append(place)
            for name, value in {**found, told: texts}.items():
                made[name].append(value)
        account.kept = len(places)
        account.noted = +account.noted
    return Outcome(beside(dataset, places, made, _types(names, made, told)), account)


def _types(names: list[str], made: Mapping[str, list[Any]], told: str) -> dict[str, Any]:
    """For the case of no rows, which have no values to find a type from."""
    import pyarrow as pa

    return {told: pa.list_(pa.string())} | {name: pa.string() for name in names if not made[name]}


def _in_scale(number: str, lowest: int, highest: int) -> int | None:
    value = float(number)
    return int(value) if value.is_integer() and lowest <= value <= highest else None
