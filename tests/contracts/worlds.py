"""Tiny real worlds for the contracts: a student and a teacher of a kind, and rows that both read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tests.contracts.kinds import GRAPH, KINDS, TEXTS, Kind, graph

from stillroom import catalog
from stillroom.asking import copy_of
from stillroom.engine.encoding import encode
from stillroom.engine.loop import Trainer
from stillroom.engine.settings import Train
from stillroom.engine.sharding import shard
from stillroom.method import Objective, Step
from stillroom.methods._template import Template
from stillroom.methods.baselines import BASELINES
from stillroom.recipe import Scratch, task_of
from stillroom.students.open import new_model
from stillroom.teachers import LearningTeacher, LocalTeacher
from stillroom.views.base import View, make_batch
from stillroom.views.load import Opened, open_model

# What a method is tried on, where that is not the kind of model that it is for.
OTHER_WORLDS = {"ibot": "patches"}


@dataclass
class World:
    """A student and a teacher of one kind, the rows, and where the models lie."""

    name: str
    folder: Path
    rows: list[dict[str, Any]]

    @property
    def kind(self) -> Kind:
        """What it is made of."""
        return KINDS[self.name]

    @property
    def student(self) -> str:
        """Its folder."""
        return str(self.folder / "student")

    @property
    def teacher(self) -> str:
        """Its folder."""
        return str(self.folder / "teacher")

    def options(self, which: str) -> dict[str, Any]:
        """Of the student's or the teacher's view."""
        given = self.kind.options if which == "student" else self.kind.teacher_options or self.kind.options
        named = (given or {}).items()
        return {name: value.format(folder=self.folder) if isinstance(value, str) else value for name, value in named}

    def view(self, which: str) -> str:
        """What the student or the teacher is called in a recipe."""
        own = self.kind.view or self.name
        return own if which == "student" else self.kind.teacher_view or own

    def open(self, which: str) -> Opened:
        """The student or the teacher, in float64."""
        opened = open_model(getattr(self, which), self.view(which), **self.options(which))
        opened.model.double()
        return opened


def build(name: str, folder: Path) -> World:
    """Make the models of a world once."""
    torch.manual_seed(0)
    world = found(name, folder)
    kind = world.kind
    folder.mkdir(parents=True, exist_ok=True)
    if kind.options == GRAPH:
        graph(folder / "graph.safetensors")
    unread = ("audio", "image", "mask")
    texts = [str(value) for row in world.rows for column, value in row.items() if column not in unread] + TEXTS
    small = Scratch(architecture=kind.architecture, config=kind.small, vocabulary=300)
    new_model(small, world.view("student"), lambda: texts, Path(world.student))
    same = world.student if kind.speaks else None
    large = Scratch(architecture=kind.teaching or kind.architecture, config=kind.large, tokenizer=same)
    new_model(large, world.view("teacher"), lambda: texts, Path(world.teacher))
    return world


def found(name: str, folder: Path) -> World:
    """A world that was built."""
    return World(name, folder, KINDS[name].rows())


STEP = Step(3, 10)
TEMPLATE = "template"  # what CONTRIBUTING tells people to copy; it must pass as it stands


def methods() -> list[str]:
    """Every method that is trained with: those of the catalogue that are built, the baselines, and the template."""
    built = [system.slug for system in catalog.systems() if system.state != "planned"]
    return [*[slug for slug in built if _is_objective(catalog.load(slug))], *BASELINES, TEMPLATE]


def _is_objective(made: Any) -> bool:
    return isinstance(made, type) and issubclass(made, Objective)


def resolve(method: str) -> Any:
    """The class of a method."""
    return Template if method == TEMPLATE else catalog.resolve(method)


def kind_of(method: str) -> str:
    """The kind of model that a method is tried on."""
    made = resolve(method)
    if "preference" in make(method).reads:
        return "preferences"
    return OTHER_WORLDS.get(method) or getattr(made, "kind", None) or task_of(method)


def make(method: str, **settings: Any) -> Objective:
    """A method with these settings; without any, with such as fit these tiny models."""
    made = resolve(method)
    return made.example() if hasattr(made, "example") and not settings else made(**settings)


@dataclass
class Case:
    """A method, set up on its world."""

    method: str
    world: World
    objective: Objective
    student: Opened
    teacher: Opened
    learning: Opened | None = None  # a copy of the teacher, for a method that trains it

    def ask(self, batch: Any) -> Any:
        """What the method asks of the teacher, with gradient where it learns."""
        needs = self.objective.needs.teacher
        if self.learning is not None:
            return LearningTeacher(self.learning.model.eval(), self.learning.view)(batch, needs)
        return LocalTeacher(self.teacher.model, self.teacher.view)(batch, needs)

    @property
    def trained(self) -> list[torch.nn.Parameter]:
        """All parameters that learn."""
        models = [self.student.model, self.objective, *([self.learning.model] if self.learning else [])]
        return [parameter for model in models for parameter in model.parameters() if parameter.requires_grad]

    @property
    def other(self) -> View | None:
        """The teacher's view, where it reads rows differently."""
        return None if self.student.view.fingerprint == self.teacher.view.fingerprint else self.teacher.view

    def batch(self, rows: list[dict[str, Any]]) -> Any:
        """Rows as a batch for both, prepared where the method can't do without."""
        made = self.plain_batch(rows)
        if not self.objective.needs_prepare:
            return made
        return self.objective.prepare(made, STEP, self.student.model, self.student.view)

    def plain_batch(self, rows: list[dict[str, Any]]) -> Any:
        """Rows as a batch for both."""
        encoded = [
            {"student": self.student.view.encode(row)} | ({"teacher": self.other.encode(row)} if self.other else {})
            for row in rows
        ]
        made = make_batch(self.student.view, self.other, encoded)
        dtype = next(self.student.model.parameters()).dtype

        def exact(arguments: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {name: value.to(dtype) if value.is_floating_point() else value for name, value in arguments.items()}

        return replace(made, student=exact(made.student), teacher=exact(made.teacher) if made.teacher else None)


def case(method: str, world: World, **settings: Any) -> Case:
    """A method on fresh copies of its world's models."""
    student, teacher, objective = world.open("student"), world.open("teacher"), make(method, **settings)
    made = Case(method, world, objective, student, teacher)
    torch.manual_seed(1)
    made.objective.ask = made.ask
    sample = made.plain_batch(world.rows[:2])
    if made.objective.trains_teacher:
        made.learning = copy_of(teacher)
    if made.objective.needs.teacher and "text" not in made.objective.needs.teacher:
        with torch.no_grad():
            sample.emitted = made.ask(sample)
    made.objective.setup(student.model, (made.learning or teacher).model, sample, student.view)
    if sample.emitted is not None:
        batch = made.batch(world.rows)
        with torch.no_grad():
            signals = made.ask(batch)
        made.objective.look(iter([(batch, signals)]))
    made.objective.double()
    student.model.eval()  # no dropout, so that values can be compared
    made.objective.eval()
    return made


def trainer(made: Case, folder: Path, **settings: Any) -> Trainer:
    """Real training of a case on all its rows, without validation; ``sharded`` shares the teacher out as well."""
    encoded, _ = encode(Dataset.from_list(made.world.rows), made.student.view, made.other)
    folder.mkdir(parents=True, exist_ok=True)
    asks = bool(made.objective.needs.asked)
    taught = made.learning
    asked, emitting = LocalTeacher(made.teacher.model, made.teacher.view), made.student.view
    if settings.get("sharded"):  # as a run does it: shared out, and logits made a few rows at a time
        asked = LocalTeacher(shard(made.teacher.model, torch.device("cpu")), made.teacher.view)
        if made.objective.rowwise:
            sample = made.plain_batch(made.world.rows[:2])
            asked.unproject(sample)
            emitting = emitting.unprojected(made.student.model, sample.student)
            assert emitting is not made.student.view and asked.view is not made.teacher.view
    return Trainer(
        emitting=emitting,
        student=made.student.model,
        objective=made.objective,
        view=made.student.view,
        teacher=(LearningTeacher(taught.model, taught.view) if taught is not None else asked if asks else None),
        teacher_view=made.other,
        rows=encoded,
        validation=[],
        settings=Train(**({"learning_rate": 1e-2, "device": "cpu"} | settings)),
        folder=folder,
        fingerprint="one",
    )
