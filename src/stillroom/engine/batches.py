"""Which rows make up which step: a pure function of the seed, so that a resumed run needs no state to go on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from stillroom.errors import UserError

if TYPE_CHECKING:
    from stillroom.engine.settings import Train


class BatchPlan:
    """The rows of every step.

    Each epoch has an order of its own, drawn from the seed and the epoch's number. With ``group_by_length`` rows of
    like length meet in a batch (within windows of fifty batches, in an order that is shuffled again), which saves
    padding.

    Args:
        lengths: the cost of each row, in tokens.
        batch_size: rows an optimiser step, over all processes.
        seed: of the order.
        group_by_length: whether rows of like length share a batch.
        fill: whether an epoch's last batch, where it is not the only one, is filled up with rows of the epoch's first.
    """

    def __init__(
        self, lengths: Sequence[int], *, batch_size: int, seed: int, group_by_length: bool, fill: bool = False
    ) -> None:
        self.lengths = torch.as_tensor(lengths)
        self.batch_size, self.seed, self.group_by_length, self.fill = batch_size, seed, group_by_length, fill
        self.steps_per_epoch = -(-len(self.lengths) // batch_size)
        self._epoch = -1
        self._batches: list[torch.Tensor] = []

    @property
    def fingerprint(self) -> str:
        """A hash of the rows' lengths in order: changes with rows that come, go, move, or grow by a token."""
        return _hash(self.lengths)

    def rows(self, step: int) -> list[int]:
        """The places, in the data set, of the rows of this step; unless filled, an epoch's last may have fewer."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._draw(epoch)
        return self._batches[place].tolist()

    def _draw(self, epoch: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.lengths), generator=generator)
        if self.group_by_length:
            windows = order.split(self.batch_size * 50)
            order = torch.cat([window[self.lengths[window].argsort(descending=True)] for window in windows])
        batches = list(order.split(self.batch_size))
        if self.fill and len(batches) > 1:
            batches[-1] = torch.cat([batches[-1], batches[0][: self.batch_size - len(batches[-1])]])
        if self.group_by_length:
            batches = [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]
        return batches


class ClassPlan:
    """The rows of every step, so many of each of a few classes: the N-pair batches of metric learning.

    Each step draws its classes, and the rows of each, without replacement, from the seed and the step's number. A class
    is as likely as another, however many rows it has; an epoch is as many steps as a pass over the rows would take.

    Args:
        labels: the class of each row.
        batch_size: rows an optimiser step, a multiple of ``per_class``.
        per_class: rows of each class in a batch. Classes that have fewer are left out.
        seed: of what is drawn.

    Raises:
        UserError: there are not enough classes for a batch.
    """

    def __init__(self, labels: Sequence[int], *, batch_size: int, per_class: int, seed: int) -> None:
        self.labels = torch.as_tensor(labels)
        self.per_class, self.seed, self.classes_per_batch = per_class, seed, batch_size // per_class
        found, counts = self.labels.unique(return_counts=True)
        self.classes = [torch.nonzero(self.labels == label)[:, 0] for label in found[counts >= per_class]]
        if len(self.classes) < self.classes_per_batch:
            raise UserError(
                f"a batch of {batch_size} rows with {per_class} of a class needs {self.classes_per_batch} classes that "
                f"have as many; the data has {len(self.classes)}: lower train.batch_size or train.per_class"
            )
        self.steps_per_epoch = -(-len(self.labels) // batch_size)

    @property
    def fingerprint(self) -> str:
        """A hash of the labels in order."""
        return _hash(self.labels)

    def rows(self, step: int) -> list[int]:
        """The places, in the data set, of the rows of this step, class by class."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)

        def draw(of: int, count: int) -> list[int]:
            return torch.randperm(of, generator=generator)[:count].tolist()

        chosen = [self.classes[place] for place in draw(len(self.classes), self.classes_per_batch)]
        return [int(rows[place]) for rows in chosen for place in draw(len(rows), self.per_class)]


def plan_batches(rows: Any, settings: Train, *, fill: bool) -> BatchPlan | ClassPlan:
    """The plan that the settings ask for.

    Args:
        rows: encoded ones.
        settings: the recipe's ``train``.
        fill: as in `BatchPlan`.

    Raises:
        UserError: ``per_class`` is set and the rows have no labels, or too few classes.
    """
    size, seed = settings.batch_size, settings.seed
    if not settings.per_class:
        return BatchPlan(
            rows["length"][:], batch_size=size, seed=seed, group_by_length=settings.group_by_length, fill=fill
        )
    if "label" not in rows.features["student"]:
        raise UserError("train.per_class makes batches by label, and these rows have none; leave it out")
    plain = rows.with_format(None).flatten()  # a joined data set's format would hide the flattened columns
    labels = plain.select_columns("student.label")[:]["student.label"]
    return ClassPlan(labels, batch_size=size, per_class=settings.per_class, seed=seed)


def _hash(numbers: torch.Tensor) -> str:
    return hashlib.sha256(numbers.numpy().tobytes()).hexdigest()[:16]


def share(rows: list[int], *, rank: int, world: int, micro_batch: int) -> list[list[int]]:
    """This process's part of a step's rows, cut into micro-batches.

    Every process gets at least one row (processes must meet in every step), so of a last batch smaller than the number
    of processes nobody gets any: the list is empty for all.
    """
    if len(rows) < world:
        return []
    own = rows[rank::world]
    return [own[start : start + micro_batch] for start in range(0, len(own), micro_batch)]
