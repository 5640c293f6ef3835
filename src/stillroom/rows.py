"""The rows of a recipe: read, made by steps of synthesis where it has some, and divided from what is held out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillroom.data.files import BUILT_IN, load
from stillroom.data.rows import check, recognise
from stillroom.engine.encoding import check_format
from stillroom.errors import UserError
from stillroom.labelling import by_the_first
from stillroom.recipe import Recipe, Source
from stillroom.students.open import texts_of
from stillroom.synthesis import recipe_steps
from stillroom.synthesis.account import Account
from stillroom.synthesis.columns import each_row
from stillroom.synthesis.recipe_steps import Made
from stillroom.views.load import view_class

FOLDER = "rows"  # of a run: what its steps made, what they dropped, and the accounts


@dataclass
class Rows:
    """Raw rows by source, joined only once they are encoded, since sources may differ in format."""

    train: list[Any]
    validation: Any

    def texts(self) -> Iterator[str]:
        """Every text of the training rows."""
        for source in self.train:
            yield from texts_of(source)


@dataclass
class Outlook:
    """What is known of rows that a recipe has made, before anybody is asked.

    Attributes:
        made: what the steps give from answers that are kept, one for each source that has steps.
        rows: all that there are so far; None while a source has none.
    """

    made: list[Made] = field(default_factory=list)
    rows: Rows | None = None


def load_rows(recipe: Recipe) -> Rows:
    """The raw rows: train sources in order, and the validation rows (every fiftieth, where none are named).

    Sources with steps are made first, by the first process; what was made, what was dropped and the accounts lie in the
    run's folder.

    Raises:
        UserError: as the readers and the steps raise it.
    """
    seeds = _seeds(recipe)
    if any(source.steps for source in recipe.data.train):
        by_the_first(lambda: _make_all(recipe, seeds))
    train = [
        load(_file(recipe, place), format=source.format) if source.steps else seeds[place]
        for place, source in enumerate(recipe.data.train)
    ]
    return _divided(recipe, train)


def foresee(recipe: Recipe) -> Outlook:
    """The rows as far as they are known without asking anybody; nothing is written."""
    seeds, outlook = _seeds(recipe), Outlook()
    train = []
    for source, dataset in zip(recipe.data.train, seeds, strict=True):
        if source.steps:
            made = recipe_steps.make(dataset, source.steps, ask=False)
            outlook.made.append(made)
            dataset = made.dataset
            if not made.open and len(dataset):
                _check_made(source, dataset)
        train.append(dataset)
    if not any(made.open for made in outlook.made) and all(len(dataset) for dataset in train):
        outlook.rows = _divided(recipe, train)
    return outlook


def accounts_of(recipe: Recipe) -> list[list[dict[str, Any]]]:
    """The accounts of the steps of each source that has some, as `load_rows` wrote them down."""
    path = recipe.folder / FOLDER / "accounts.json"
    return json.loads(path.read_text()) if path.is_file() else []


def _seeds(recipe: Recipe) -> list[Any]:
    """The rows of every source as they are read; that its steps find their columns is seen before anybody is asked."""
    seeds = [load_source(source) for source in recipe.data.train]
    for source, dataset in zip(recipe.data.train, seeds, strict=True):
        if not source.steps:
            continue
        recipe_steps.check(dataset.column_names, source.steps)
        if source.steps[-1].columns:
            reads = view_class(recipe.student.kind or recipe.task).formats
            check_format(
                list(source.steps[-1].columns), reads, f"what the steps make of {source.source}", "the student"
            )
    return seeds


def _file(recipe: Recipe, place: int) -> Path:
    return recipe.folder / FOLDER / f"train-{place}.jsonl"


def _make_all(recipe: Recipe, seeds: list[Any]) -> None:
    """Run the steps of each source; what they make, what they drop and their accounts are files of the run."""
    accounts: list[list[Account]] = []
    (recipe.folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for place, (source, dataset) in enumerate(zip(recipe.data.train, seeds, strict=True)):
        if not source.steps:
            continue
        aside = recipe.folder / FOLDER / f"dropped-{place}"
        made = recipe_steps.make(dataset, source.steps, aside=aside)
        accounts.append(made.accounts)
        if not len(made.dataset):
            reasons = "; ".join(str(account) for account in made.accounts)
            raise UserError(f"the steps of {source.source} keep no row ({reasons}); what was dropped lies in {aside}")
        _write(_file(recipe, place), "".join(json.dumps(row) + "\n" for row in each_row(made.dataset)))
    _write(
        recipe.folder / FOLDER / "accounts.json", json.dumps([[one.as_dict() for one in chain] for chain in accounts])
    )


def _write(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def _check_made(source: Source, dataset: Any) -> None:
    """What `load` would find wrong with the rows that the steps made."""
    format = source.format or recognise(dataset.column_names)
    for place, row in enumerate(each_row(dataset), 1):
        check(row, format, f"row {place} of what the steps make of {source.source}")


def _divided(recipe: Recipe, train: list[Any]) -> Rows:
    if recipe.data.validation is not None:
        return Rows(train, load_source(recipe.data.validation))
    first = train[0]
    if len(first) < 100:
        return Rows(train, None)
    held_out = list(range(0, len(first), 50))[:1000]
    train[0] = first.select(sorted(set(range(len(first))) - set(held_out)))
    return Rows(train, first.select(held_out))


def load_source(source: Source) -> Any:
    """The checked rows of one source; of one with steps the seeds, which may have any columns."""
    seeds = "any" if source.source not in BUILT_IN else None
    return load(
        source.source,
        view=source.view,
        split=source.split,
        format=seeds if source.steps else source.format,
        limit=source.limit,
        seed=source.seed,
        **source.options,
    )
