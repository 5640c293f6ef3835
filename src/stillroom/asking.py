"""A run's teachers: opened, put where they compute, asked as training goes on, or once, with their words kept.

`label` is the whole of the last; a run with ``teacher.cache`` does the same before it trains.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState

from stillroom.checks import build_method, check_group, check_teacher
from stillroom.engine import together
from stillroom.engine.loop import read
from stillroom.engine.precision import resolve
from stillroom.engine.sharding import shard
from stillroom.errors import UserError
from stillroom.labelling import Encoded, Engine, Labeller, Task, in_process, keep_signals
from stillroom.method import Objective
from stillroom.recipe import Model, Recipe
from stillroom.rows import FOLDER, Rows, load_rows
from stillroom.scale import on_ray, with_workers
from stillroom.store import Header, Store
from stillroom.teachers import CachedTeacher, GroupTeacher, LearningTeacher, LocalTeacher, Teacher
from stillroom.texts import keep_texts
from stillroom.views.load import Opened, open_model


def label(recipe: Recipe, *, engine: Literal["local", "ray"] = "local", workers: int | None = None) -> Path:
    """Make the recipe's rows, run its teacher once over them, and keep what the method asks of it.

    Args:
        recipe: what to label.
        engine: ``local`` runs the teacher in this process, ``ray`` on workers of Ray Data, each with a teacher of its
            own. The cache folder must be one that all workers see.
        workers: of Ray; one for each core or GPU of its cluster if None.

    Returns:
        The folder of the store, which `distill` finds again by itself; of a teacher behind an endpoint, the journal of
        its answers; where steps of synthesis make the rows and the method has no teacher, the folder of these rows.

    Raises:
        UserError: the method asks the teacher for nothing, or its signals can't be kept.
    """
    with with_workers(workers or 0 if engine == "ray" else None):
        return _label(recipe, engine, workers)


def _label(recipe: Recipe, engine: str, workers: int | None) -> Path:
    objective = build_method(recipe.method)
    if any(source.steps for source in recipe.data.train) and not objective.needs.teacher:
        load_rows(recipe)
        return recipe.folder / FOLDER
    if recipe.teacher is None or recipe.teacher.group is not None:
        raise UserError("there is nothing to label without a single teacher; give the recipe teacher.model")
    recipe = recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"cache": True})})
    needs = objective.needs.teacher
    if "text" in needs and engine == "ray":
        raise UserError(
            f"{recipe.method.name!r} learns the teacher's texts, which Ray does not write yet; leave --engine out"
        )
    if not needs:
        raise UserError(f"there is nothing to label: {recipe.method.name!r} asks the teacher for nothing")
    check_teacher(recipe, {recipe.method.name: objective})
    opened, rows = single(open_teacher(recipe)), load_rows(recipe)
    if "text" in needs:
        with at_work(recipe, opened):
            return [keep_texts(recipe, opened, source, objective.writing).place for source in rows.train][-1]
    assert opened is not None
    return _keep(
        recipe, objective, opened, rows, partial(_by_workers, recipe, workers) if engine == "ray" else in_process
    )


def open_teacher(recipe: Recipe) -> dict[str, Opened]:
    """The teachers by name; a single one is called ``teacher``. Empty without a teacher, or with one at an endpoint."""
    return {name: _open(model, recipe) for name, model in recipe.teachers.items()}


def _open(model: Model, recipe: Recipe) -> Opened:
    if model.model is None:
        raise UserError("a teacher must be a saved model; give its folder or hub id")
    length = model.max_length or recipe.student.max_length
    options = model.options | ({"max_length": length} if length else {})
    dtype = getattr(torch, model.dtype)
    kind = model.kind or recipe.task
    return open_model(model.model, kind, revision=model.revision, dtype=dtype, attention=model.attention, **options)


def copy_of(opened: Opened) -> Opened:
    """The same, with a model of its own."""
    return opened._replace(model=copy.deepcopy(opened.model))


def single(teachers: dict[str, Opened]) -> Opened | None:
    """The first of them, which is the only one outside a group; None of none."""
    return next(iter(teachers.values()), None)


def teacher_of(recipe: Recipe, teachers: dict[str, Opened], objective: Objective, rows: Rows) -> Teacher:
    """Who is asked in training: live teachers on the device, or what the single one's cache holds, without a model."""
    assert recipe.teacher is not None
    if recipe.teacher.cache:
        return CachedTeacher(Store.open(_keep(recipe, objective, teachers["teacher"], rows)))
    device = processes(recipe).device
    if objective.trains_teacher:
        return LearningTeacher(teachers["teacher"].model.to(device), teachers["teacher"].view)
    precision = resolve(recipe.train.precision, recipe.train.device)
    here = {name: _placed(opened.model, recipe) for name, opened in teachers.items()}
    local = {name: LocalTeacher(here[name], opened.view, precision) for name, opened in teachers.items()}
    if recipe.teacher.group is None:
        return local["teacher"]
    check_group({name: opened.view for name, opened in teachers.items()})
    return GroupTeacher(local, route=recipe.teacher.route, mix=recipe.teacher.mix)


def _placed(model: Any, recipe: Recipe) -> Any:
    """A teacher on this process's device; shared out among the processes, where the recipe says so."""
    here = processes(recipe)
    if not recipe.train.sharded or here.num_processes == 1:
        return model.to(here.device)
    return shard(copy.deepcopy(model).requires_grad_(False), here.device)


def _by_workers(
    recipe: Recipe, workers: int | None, labeller: Labeller, source: Any, tasks: Sequence[Task]
) -> Iterator[Encoded]:
    """The engine that hands the batches out to workers (`stillroom.scale`)."""
    make = partial(_worker, recipe, labeller.needs, labeller.header, source)
    return on_ray(make, tasks, workers=workers, gpus=float(processes(recipe).device.type == "cuda"))


def _worker(recipe: Recipe, needs: tuple[str, ...], header: Header, source: Any) -> Callable[[Task], Encoded]:
    """What a worker does with a batch, by a teacher that it opens itself."""
    opened = single(open_teacher(recipe))
    assert opened is not None
    device, precision = processes(recipe).device, resolve(recipe.train.precision, recipe.train.device)
    labeller = Labeller(
        LocalTeacher(opened.model.to(device), opened.view, precision), opened.view, device, needs, header
    )
    return lambda task: labeller(read(source, task.places), task.wanted)


def _keep(recipe: Recipe, objective: Objective, opened: Opened, rows: Rows, engine: Engine = in_process) -> Path:
    """The store of what the method asks of the teacher on all rows; what it lacks is computed on the device."""
    assert recipe.teacher is not None and recipe.teacher.model is not None
    everything = [*rows.train, *([rows.validation] if rows.validation else [])]
    temperature = float(getattr(objective, "temperature", 1.0))
    precision = resolve(recipe.train.precision, recipe.train.device)
    teacher, needs = LocalTeacher(opened.model, opened.view, precision), objective.needs.asked
    together.begin("labelling")
    with at_work(recipe, opened):
        return keep_signals(
            recipe, recipe.teacher.model, teacher, opened, needs, everything, temperature=temperature, engine=engine
        )


@contextmanager
def at_work(recipe: Recipe, opened: Opened | None) -> Iterator[None]:
    """The teacher on the device, and off it afterwards: what it says is kept, and training has the room."""
    if opened is not None:
        opened.model.to(processes(recipe).device)
    yield
    if opened is not None:
        opened.model.to("cpu")


def processes(recipe: Recipe) -> PartialState:
    """The processes that this run was launched as, and this one's device."""
    return PartialState(cpu=recipe.train.device == "cpu")
