"""The steps of a recipe's source, run one after the other: seeds in, training rows out, an account of each step.

What was asked is kept in a journal in the cache folder, one for each model and way of asking, so a run that is
repeated, resumed or given another name asks for nothing twice. What was dropped lies in the run's folder.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, create_model

from stillroom.errors import UserError, nearest
from stillroom.synthesis import filters
from stillroom.synthesis.account import Account, Outcome, accounted
from stillroom.synthesis.askers import price_of_step, writer_of
from stillroom.synthesis.columns import each_row
from stillroom.synthesis.settings import Deduplicate, Generate, Judge, Parse, Rule, Step, Turn, names_in

if TYPE_CHECKING:
    from datasets import Dataset


Row = Mapping[str, Any]


@dataclass
class Made:
    """What a chain of steps gave.

    Attributes:
        dataset: the rows that are left.
        accounts: of the steps, in their order.
        open: questions that are still to be asked, where nothing was asked (`make` with ``ask=False``).
        open_tokens: about as many tokens have their prompts, and at most as many their answers.
        open_money: what these cost at most; None without a price.
    """

    dataset: Dataset
    accounts: list[Account] = field(default_factory=list)
    open: int = 0
    open_tokens: tuple[int, int] = (0, 0)
    open_money: float | None = None


def make(dataset: Dataset, steps: Sequence[Step], *, aside: Path | None = None, ask: bool = True) -> Made:
    """Run the steps.

    Args:
        dataset: the seeds.
        steps: of the recipe.
        aside: folder for the rows that each step drops, a file a step; None for nowhere.
        ask: whether questions may be put. If not, only answers that were given earlier are used, and what would be
            asked by the first step that lacks some is counted.

    Raises:
        UserError: a step wants a column that is not there; or a server stopped, or a budget is spent, in a step that is
            not ``partial``: the message says how to go on.
    """
    made = Made(dataset)
    for place, step in enumerate(steps):
        where = f"{place + 1}-{step.name}"
        rejects = None if aside is None else aside / f"{where}.jsonl"
        if step.asks is not None and not ask:
            outcome = _remembered(made, step, where)
        else:
            outcome = _run(made.dataset, step, where, rejects, ask)
        made.dataset = outcome.dataset
        made.accounts.append(outcome.account)
        if made.open:
            break
        if step.asks is not None and outcome.account.note and not step.asks.partial:
            raise UserError(
                f"the step {where} ended with {outcome.account.kept:,} answers: {outcome.account.note}; go on with "
                f"--resume, or set partial: true in the step to go on with these"
            )
    return made


def check(columns: Sequence[str], steps: Sequence[Step]) -> None:
    """See that each step finds the columns that it names, before anything is asked.

    Args:
        columns: of the seeds.
        steps: of the recipe.

    Raises:
        UserError: one does not; the message names step and column.
    """
    have = list(columns)
    for place, step in enumerate(steps, 1):
        for name in _wanted(step):
            if name not in have:
                raise UserError(
                    f"step {place}, {step.name}: there is no column {name!r} at that point (found {', '.join(have)})"
                    f"{nearest(name, have)}"
                )
        have = _after(step, have)


def _wanted(step: Step) -> tuple[str, ...]:
    """The columns that a step reads."""
    if step.generate:
        return names_in(step.generate.prompt) + names_in(step.generate.system or "")
    if step.judge:
        return names_in(step.judge.rubric)
    if step.parse:
        return (step.parse.column,)
    if step.deduplicate:
        return (step.deduplicate.column,)
    if step.filter:
        return tuple(name for rule in step.filter for name in _named(rule))
    return tuple(name for template in _templates(step.columns or {}) for name in names_in(template))


def _named(rule: Rule) -> tuple[str, ...]:
    plain = [name for name in (rule.sentence,) if name]
    plain += [rule.finished, f"{rule.finished}_call"] if rule.finished else []
    plain += [one.column for one in (rule.length, rule.lacks, rule.mentions, rule.above) if one]
    plain += rule.mentions.words if rule.mentions else []
    return (*plain, *(rule.equal or ()), *(rule.different or ()))


def _after(step: Step, columns: list[str]) -> list[str]:
    """The columns that there are when the step is done."""
    if step.generate:
        name = step.generate.column
        return list(dict.fromkeys(["id", *columns, name, f"{name}_call"]))
    if step.judge:
        return [*columns, step.judge.column, f"{step.judge.column}_replies"]
    if step.parse:
        return [*columns, *step.parse.fields]
    if step.columns:
        return [*(["id"] if "id" in columns else []), *step.columns]
    return columns


def _run(dataset: Dataset, step: Step, where: str, rejects: Path | None, ask: bool) -> Outcome:
    if step.generate:
        return _generate(dataset, step.generate, where, rejects, ask)
    if step.judge:
        return _judge(dataset, step.judge, where, rejects, ask)
    if step.parse:
        return _parse(dataset, step.parse, where, rejects)
    if step.deduplicate:
        return _deduplicate(dataset, step.deduplicate, where, rejects)
    if step.filter:
        return filters.keep(dataset, [rule_of(rule) for rule in step.filter], rejects=rejects, stage=where)
    return _columns(dataset, step.columns or {}, where)


# --- steps that ask ---------------------------------------------------------------------------------------------------


def _generate(dataset: Dataset, step: Generate, where: str, rejects: Path | None, ask: bool) -> Outcome:
    from stillroom.synthesis.generate import generate

    def prompt(row: Row) -> Any:
        told = fill(step.prompt, row)
        if told is None or step.system is None:
            return told
        system = fill(step.system, row)
        return (
            None
            if system is None
            else [
                {"role": "system", "content": system},
                {"role": "user", "content": told},
            ]
        )

    with writer_of(step, ask) as writer:
        return generate(
            dataset,
            writer,
            prompt,
            samples=step.samples,
            column=step.column,
            price=price_of_step(step),
            rejects=rejects,
            stage=where,
        )


def _judge(dataset: Dataset, step: Judge, where: str, rejects: Path | None, ask: bool) -> Outcome:
    from stillroom.synthesis.judge import score

    with writer_of(step, ask) as writer:
        outcome = score(
            dataset,
            writer,
            lambda row: fill(step.rubric, row) or "",
            lowest=step.lowest,
            highest=step.highest,
            samples=step.samples,
            column=step.column,
            price=price_of_step(step),
            rejects=rejects,
            stage=where,
        )
    if step.least is None:
        return outcome
    least, column = step.least, step.column
    below = f"{column} is below {least:g}"
    aside = None if rejects is None else rejects.with_stem(f"{rejects.stem}-below")
    kept = filters.keep(outcome.dataset, [lambda row: None if row[column] >= least else below], rejects=aside)
    account = outcome.account
    account.kept, account.rejected = kept.account.kept, account.rejected + kept.account.rejected
    return Outcome(kept.dataset, account)


def _remembered(made: Made, step: Step, where: str) -> Outcome:
    """What earlier runs were answered; what is missing is counted as open questions."""
    asks, before = step.asks, made.dataset
    assert asks is not None
    log = logging.getLogger("stillroom.synthesis.account")
    level = log.level
    log.setLevel(logging.ERROR)  # that nothing was asked is no news here
    try:
        outcome = _run(before, step, where, None, False)
    finally:
        log.setLevel(level)
    samples = getattr(asks, "samples", 1)
    template = asks.prompt if isinstance(asks, Generate) else asks.rubric if isinstance(asks, Judge) else ""
    known = outcome.account.remembered
    # Prompts are measured on up to a thousand rows; a token is taken for three bytes, as the endpoint's limits do.
    sample = before.select(range(min(len(before), 1000)))
    prompts = [told for row in sample if (told := fill(template, row)) is not None]
    asked = round(len(before) * len(prompts) / max(len(sample), 1)) * samples
    made.open = max(asked - known, 0)
    size = sum(len(told.encode()) for told in prompts) / max(len(prompts), 1) / 3
    made.open_tokens = (int(size * made.open), asks.max_new_tokens * made.open)
    price = price_of_step(asks)
    made.open_money = None if price is None else price.of(*made.open_tokens)
    return outcome


# --- steps that read, drop and rename ---------------------------------------------------------------------------------


_KINDS: dict[str, type] = {"text": str, "integer": int, "number": float, "boolean": bool}


def _parse(dataset: Dataset, step: Parse, where: str, rejects: Path | None) -> Outcome:
    from stillroom.synthesis.parse import parse_rows

    kinds: dict[str, Any] = {
        name: (_KINDS[kind] if isinstance(kind, str) else Literal[tuple(kind)], ...)
        for name, kind in step.fields.items()
    }
    model: type[BaseModel] = create_model("Reply", **kinds)
    return parse_rows(
        dataset,
        list[model] if step.items else model,  # type: ignore[valid-type]  # made from the recipe
        column=step.column,
        rejects=rejects,
        stage=where,
    )


def rule_of(rule: Rule) -> filters.Filter:
    """The filter that a rule of a recipe stands for."""
    if rule.finished is not None:
        return filters.finished(rule.finished)
    if rule.sentence is not None:
        return filters.sentence(rule.sentence)
    if rule.length is not None:
        return filters.length(**rule.length.model_dump())
    if rule.lacks is not None:
        return filters.lacks(rule.lacks.column, *rule.lacks.words)
    if rule.mentions is not None:
        return filters.mentions(rule.mentions.column, *rule.mentions.words)
    if rule.above is not None:
        return filters.above(rule.above.column, rule.above.threshold)
    if rule.equal is not None:
        return filters.equal(*rule.equal)
    assert rule.different is not None  # a rule is exactly one of these
    return filters.different(*rule.different)


def _deduplicate(dataset: Dataset, step: Deduplicate, where: str, rejects: Path | None) -> Outcome:
    from stillroom.synthesis.duplicates import exact, near

    if step.near is None:
        return exact(dataset, step.column, rejects=rejects, stage=where)
    return near(dataset, step.column, threshold=step.near, n=step.n, unit=step.unit, rejects=rejects, stage=where)


def _columns(dataset: Dataset, columns: Mapping[str, str | list[Turn]], where: str) -> Outcome:
    """Rows of these columns and their ids; a row that lacks what a template names is dropped."""
    from datasets import Dataset

    rows = []
    with accounted(where) as account:
        for row in each_row(dataset):
            account.rows += 1
            made = {name: _filled(value, row) for name, value in columns.items()}
            if lacking := next((name for name, value in made.items() if value is None), None):
                account.rejected[f"{lacking} has nothing to be made of"] += 1
                continue
            rows.append(({"id": row["id"]} if row.get("id") is not None else {}) | made)
        account.kept = len(rows)
    return Outcome(Dataset.from_list(rows), account)


def _filled(value: str | list[Turn], row: Row) -> Any:
    """A text or a conversation of this row; None where the row lacks a column."""
    if isinstance(value, str):
        return fill(value, row)
    turns = [{"role": turn.role, "content": fill(turn.content, row)} for turn in value]
    return None if any(turn["content"] is None for turn in turns) else turns


def _templates(columns: Mapping[str, str | list[Turn]]) -> list[str]:
    return [
        template
        for value in columns.values()
        for template in ([value] if isinstance(value, str) else [turn.content for turn in value])
    ]


def fill(template: str, row: Row) -> str | None:
    """The template with the row's columns in place of their names; None where the row lacks one."""
    values = {name: row.get(name) for name in names_in(template)}
    return None if any(value is None for value in values.values()) else template.format_map(values)
