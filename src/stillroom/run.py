"""One run, from recipe to weights: open, read, encode, train (the method and what it is held against), measure, report.

Everything a run makes lies in its folder: the recipe as resolved, metrics line by line, checkpoints, the model, what
was measured, the report. A killed run goes on from there with ``resume``.
"""

from __future__ import annotations

import json
import logging
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml

from stillroom import catalog
from stillroom.asking import at_work, copy_of, open_teacher, processes, single, teacher_of
from stillroom.checks import (
    UNTRAINED,
    agree,
    build_methods,
    check_labels,
)
from stillroom.data.rows import chosen_alone, recognise
from stillroom.engine import together
from stillroom.engine.encoding import Counts, encode
from stillroom.engine.loop import Trained, Trainer, micro_batches, read, seed_all
from stillroom.errors import UserError
from stillroom.measuring import SUITES, Measured, Suite, check_suites, measure_all
from stillroom.method import Objective, Writing
from stillroom.recipe import Recipe
from stillroom.recipe import check as check_recipe
from stillroom.rows import FOLDER, Rows, accounts_of, load_rows
from stillroom.signals import Batch, Signals
from stillroom.store.header import differences
from stillroom.students.open import open_student
from stillroom.teachers import LocalTeacher, Teacher
from stillroom.texts import with_teacher_texts
from stillroom.views.base import View, make_batch
from stillroom.views.causal_lm import CausalLM
from stillroom.views.encoder import TextClassifier
from stillroom.views.graph import NodeView
from stillroom.views.image import ImageClassifier
from stillroom.views.load import Opened

log = logging.getLogger(__name__)

PACKAGES = (
    "stillroom",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "sentence-transformers",
    "numpy",
)


@dataclass
class Run:
    """A finished run.

    Attributes:
        folder: where everything lies; ``folder / "model"`` is the student.
        recipe: as resolved.
        evaluation: what was measured, as in evaluation.json.
        counts: what became of the rows.
        trained: method name -> how its training went.
    """

    folder: Path
    recipe: Recipe
    evaluation: dict[str, Any] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    trained: dict[str, Trained] = field(default_factory=dict)

    @property
    def model(self) -> Path:
        """The folder of the trained student, which loads without stillroom."""
        return self.folder / "model"

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.folder / "report.html"


def distill(recipe: Recipe, *, resume: bool = False, command: str | None = None) -> Run:
    """Run a recipe to its end, and write down what came of it: the model, its card, the report.

    Launched as several processes, all train, and the first alone measures and writes; the others return a run without
    evaluation.

    Args:
        recipe: what to do.
        resume: go on from the newest checkpoint of an earlier, killed run.
        command: the command that repeats this, for the report.

    Raises:
        UserError: the recipe can't work as it stands, or a run is already there and ``resume`` is false.
    """
    began = time.monotonic()
    with together.watched():
        run = execute(recipe, resume=resume)
    if not processes(recipe).is_main_process:
        return run
    _write_run(run, began, command)
    from stillroom.report import write_card, write_report

    write_card(run.folder)
    write_report(run.folder)
    return run


def execute(recipe: Recipe, *, resume: bool = False, suites: Mapping[str, Suite] = SUITES, timed: bool = True) -> Run:
    """Train the recipe's method and what it is held against, each from the same start, and measure everybody.

    Args:
        recipe: what to do.
        resume: go on with a killed run.
        suites: what the names in ``recipe.evaluate`` mean.
        timed: whether speed and size are measured too.
    """
    run = Run(recipe.folder, recipe)
    check_suites(recipe.evaluate, recipe.task, suites)
    objectives = build_methods(recipe)
    _refuse_what_is_there(run.folder, recipe, resume)
    teachers = open_teacher(recipe)
    rows = load_rows(recipe)  # after the teacher is found, since rows may have to be paid for
    start = open_student(recipe.student, recipe.task, single(teachers), rows.texts, recipe.train.seed)
    here = processes(recipe)  # from here on only the first of them can save a model, and a new student was just saved
    check_labels(*_labelled(rows, start))
    if said := agree([teacher.view for teacher in teachers.values()], start.view, objectives):
        log.info("%s", said)
    if here.is_main_process:
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "recipe.yaml").write_text(recipe.to_yaml())
    writes = {name: one.writing for name, one in objectives.items() if "text" in one.needs.teacher}
    answered = {writing: _teacher_writes(recipe, teachers, rows, writing) for writing in dict.fromkeys(writes.values())}
    systems: dict[str, Opened] = {}
    for name, objective in objectives.items():
        main = name == recipe.method.called
        folder = run.folder if main else run.folder / "against" / name
        student = copy_of(start)
        log.info("training with %s", name)
        together.begin(f"the preparation of {name}")
        own = answered[writes[name]] if name in writes else rows
        learning = {key: copy_of(opened) for key, opened in teachers.items()} if objective.trains_teacher else teachers
        run.trained[name], counts = train_one(recipe, objective, student, learning, own, folder, resume)
        if here.is_main_process:
            student.view.save(student.model, folder / "model")
        systems[name] = student
        for other, model in objective.also(student.model).items():
            systems[f"{name}-{other}"] = student._replace(model=model)
            if here.is_main_process:
                student.view.save(model, folder / other)
        if objective.trains_teacher:
            systems[f"{name}-teacher"] = taught = learning["teacher"]
            if here.is_main_process:
                taught.view.save(taught.model, folder / "teacher")
        if main:
            run.counts = counts
    if not here.is_main_process:
        return run
    for opened in (*teachers.values(), start):
        opened.model.to(here.device)
    everybody = _everybody(run, objectives, teachers, start, systems)
    run.evaluation = measure_all(everybody, rows.validation, recipe.evaluate, suites, timed=timed)
    (run.folder / "evaluation.json").write_text(json.dumps(run.evaluation, indent=1))
    return run


def _everybody(
    run: Run, objectives: dict[str, Objective], teachers: dict[str, Opened], start: Opened, systems: dict[str, Opened]
) -> list[Measured]:
    """Who is measured, in the order of the table."""
    recipe = run.recipe
    found = [Measured(name, "teacher", opened, None) for name, opened in teachers.items()]
    for name, opened in systems.items():
        if name not in objectives:
            taught = name.removesuffix("-teacher") in objectives
            found.append(Measured(name, "trained-teacher" if taught else "baseline", opened, None))
            continue
        role = "student" if name == recipe.method.called else "baseline"
        alone = not objectives[name].needs.teacher
        found.append(Measured(name, role, opened, run.trained[name].seconds, without_teacher=alone))
    if any(method.name == UNTRAINED for method in recipe.against):
        found.append(Measured(UNTRAINED, "start", start, None))
    return found


def _labelled(rows: Rows, start: Opened) -> tuple[list[Any], int]:
    """The rows that a classifier learns classes from, and how many classes it has; no rows for other kinds."""
    if not (isinstance(start.view, TextClassifier | NodeView) or type(start.view) is ImageClassifier):
        return [], 0
    sources = [*rows.train, *([rows.validation] if rows.validation else [])]
    model: Any = start.model
    classes = model.out_channels if isinstance(start.view, NodeView) else model.config.num_labels
    return [source for source in sources if "label" in source.column_names], classes


def train_one(
    recipe: Recipe,
    objective: Objective,
    student: Opened,
    teachers: dict[str, Opened],
    rows: Rows,
    folder: Path,
    resume: bool,
) -> tuple[Trained, Counts]:
    """Train one student in place with one method; and the teacher too, where the method trains it."""
    keep = [recipe.teacher.route] if recipe.teacher and recipe.teacher.route else []
    asked = bool(objective.needs.asked)
    opened = single(teachers) if asked else None
    cached = recipe.teacher is not None and recipe.teacher.cache
    same = opened is None or cached or opened.view.fingerprint == student.view.fingerprint
    other = None if same or opened is None else opened.view
    if objective.aligns and isinstance(other, CausalLM) and isinstance(student.view, CausalLM):
        student = student._replace(view=student.view.counting(objective.aligns))
        other = other.counting(objective.aligns)
    encoded, counts = _encode_all(usable(objective, rows.train), student, other, keep)
    aside = rows.validation if not rows.validation or _compares(objective) else chosen_alone(rows.validation)
    held_out = encode(aside, student.view, other, keep=keep, name="validation")[0] if aside else []
    device = processes(recipe).device
    teacher = teacher_of(recipe, teachers, objective, rows) if asked else None
    seed_all(recipe.train.seed, -1, 0)
    student.model.to(device)
    sample = make_batch(student.view, other, read(encoded, list(range(min(2, len(encoded)))))).to(device)
    fused = recipe.train.fused and objective.rowwise and not objective.trains_teacher
    if fused and isinstance(teacher, LocalTeacher):
        teacher.unproject(sample)
    if teacher is not None:
        with torch.no_grad():
            sample.emitted = teacher(sample, objective.needs.asked)
    objective.setup(student.model, opened.model if opened else None, sample, student.view)
    if teacher is not None and type(objective).look is not Objective.look:
        needs, size = objective.needs.asked, recipe.train.batch_size
        objective.to(device).look(labelled(teacher, needs, encoded, student.view, other, size, device))
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(
        student=student.model,
        objective=objective,
        view=student.view,
        emitting=student.view.unprojected(student.model, sample.student) if fused else student.view,
        teacher=teacher,
        teacher_view=other,
        rows=encoded,
        validation=held_out,
        settings=recipe.train,
        folder=folder,
        fingerprint=recipe.fingerprint,
    )
    trained = trainer.run(resume=resume)
    student.view.settle(student.model)
    return trained, counts


def labelled(
    teacher: Teacher, needs: tuple[str, ...], rows: Any, view: View, other: View | None, size: int, device: Any
) -> Iterator[tuple[Batch, Signals]]:
    """The rows in order, as batches with what the teacher emits on them."""
    for chunk in micro_batches(rows, size):
        batch = make_batch(view, other, chunk).to(device)
        with torch.no_grad():
            signals = teacher(batch, needs)
        yield batch, signals


def usable(objective: Objective, sources: list[Any]) -> list[Any]:
    """The sources whose rows the method can learn from; of preferences the chosen answers, where it compares none.

    Raises:
        UserError: there is none.
    """
    if not _compares(objective):
        sources = [chosen_alone(source) for source in sources]
    found = {id(source): recognise(source.column_names) for source in sources} if objective.reads else {}
    kept = [source for source in sources if not objective.reads or found[id(source)] in objective.reads]
    if not kept:
        raise UserError(
            f"the method learns from rows of the format {' or '.join(objective.reads)}; the data has "
            + " and ".join(sorted(set(found.values())))
        )
    if left_out := sum(map(len, sources)) - sum(map(len, kept)):
        log.info("%d rows are left out: the method learns from %s", left_out, " or ".join(objective.reads))
    return kept


def _compares(objective: Objective) -> bool:
    """Whether a method learns from which of two answers is better."""
    return "preference" in objective.reads


def _encode_all(sources: list[Any], student: Opened, other: Any, keep: list[str]) -> tuple[Any, Counts]:
    from datasets import concatenate_datasets

    parts = [encode(source, student.view, other, keep=keep) for source in sources]
    return concatenate_datasets([part for part, _ in parts]), sum((counts for _, counts in parts), Counts())


def _teacher_writes(recipe: Recipe, teachers: dict[str, Opened], rows: Rows, writing: Writing) -> Rows:
    """The training rows with the teacher's answers; validation rows keep theirs, as that is what is measured."""
    opened = single(teachers)
    with at_work(recipe, opened):
        asked = [chosen_alone(source) for source in rows.train]
        return Rows([with_teacher_texts(recipe, opened, source, writing) for source in asked], rows.validation)


# --- measuring and writing down ---------------------------------------------------------------------------------------


def _refuse_what_is_there(folder: Path, recipe: Recipe, resume: bool) -> None:
    """See that nothing is lost: a folder with anything but a recipe in it is gone on with, by the same recipe, or left.

    Raises:
        UserError: it holds a run and ``resume`` is false; it holds a run of another recipe; or something else.
    """
    made, recipe_file = folder / FOLDER, folder / "recipe.yaml"  # rows can be made again, from answers that are kept
    if not any(path.is_file() and path != recipe_file and made not in path.parents for path in folder.rglob("*")):
        return
    if not (folder / "recipe.yaml").is_file():
        raise UserError(f"{folder} holds something that is not a run; give another name (--set name=...)")
    finished = (folder / "run.json").is_file()
    if not resume and finished:
        raise UserError(f"{folder} already holds a finished run; give another name (--set name=...) or remove it")
    if not resume:
        raise UserError(f"{folder} holds an unfinished run; go on with --resume, give another name, or remove it")
    before = check_recipe(yaml.safe_load((folder / "recipe.yaml").read_text()), str(folder / "recipe.yaml"))
    both = {method.called for method in before.against} & {method.called for method in recipe.against}
    if changed := differences(_decides(before, both), _decides(recipe, both), whole=True):
        name, (old, new) = next(iter(changed.items()))
        raise UserError(
            f"{folder} is a run of another recipe: {name} was {old!r} and is {new!r}; resume with the recipe in "
            f"{folder / 'recipe.yaml'}, or give the run another name"
        )
    if finished:
        log.info("%s is finished already; it is measured and reported anew", folder)


def _decides(recipe: Recipe, against: set[str]) -> dict[str, Any]:
    """All that the weights of the method, and of these it is held against, depend on."""
    kept = [method for method in recipe.against if method.called in against]
    return recipe.decides | {"against": {method.called: method.model_dump(exclude={"label"}) for method in kept}}


def _write_run(run: Run, began: float, command: str | None) -> None:
    recipe = run.recipe
    state = {
        "name": recipe.name,
        "method": recipe.method.name,
        "family": _family(recipe.method.name),
        "teacher": recipe.teacher.title if recipe.teacher else None,
        "student": recipe.student.title,
        "command": command or " ".join(["stillroom distill", str(run.folder / "recipe.yaml")]),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "seconds": time.monotonic() - began,
        "seed": recipe.train.seed,
        "versions": versions(),
        "counts": asdict(run.counts) | {"trained_share": run.counts.trained_share},
        "synthesis": accounts_of(recipe),
    }
    (run.folder / "run.json").write_text(json.dumps(state, indent=1))


def _family(name: str) -> str:
    return next((system.family for system in catalog.systems() if system.slug == name), "baseline")


def versions() -> dict[str, str]:
    """Of Python, the machine, and the packages that decide a result."""
    found = {"python": sys.version.split()[0], "machine": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
