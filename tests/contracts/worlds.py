"""Tiny real worlds for the contracts: for each kind of model a student, a teacher, and rows that both read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from stillroom import catalog
from stillroom.engine.encoding import encode
from stillroom.engine.loop import Trainer
from stillroom.engine.settings import Train
from stillroom.method import Objective
from stillroom.methods._template import Template
from stillroom.methods.baselines import BASELINES
from stillroom.recipe import Scratch, task_of
from stillroom.students.open import new_model
from stillroom.teachers import LocalTeacher
from stillroom.views.base import View, make_batch
from stillroom.views.load import Opened, open_model

LLAMA = {"intermediate_size": 32, "num_attention_heads": 2, "max_position_embeddings": 64}
BERT = {"intermediate_size": 32, "num_attention_heads": 4, "max_position_embeddings": 64}
RESNET = {"num_channels": 1, "embedding_size": 4, "depths": [1, 1], "layer_type": "basic"}
TEXTS = [f"row {n}: {'more ' * (n % 4)}about the number {n * n} and {chr(97 + n)}" for n in range(12)]

# The kind of model -> architecture, settings of student and teacher.
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "language": (
        "llama",
        LLAMA | {"hidden_size": 16, "num_hidden_layers": 1},
        LLAMA | {"hidden_size": 32, "num_hidden_layers": 2},
    ),
    "encoder": (
        "bert",
        BERT | {"hidden_size": 16, "num_hidden_layers": 1},
        BERT | {"hidden_size": 32, "num_hidden_layers": 2},
    ),
    "image-encoder": ("resnet", RESNET | {"hidden_sizes": [4, 8]}, RESNET | {"hidden_sizes": [8, 16]}),
}
MODELS["image"] = MODELS["image-encoder"]
for same in ("embeddings", "bi-encoder", "cross-encoder", "masked-lm"):
    MODELS[same] = MODELS["encoder"]
TEACHER_KINDS = {"bi-encoder": "cross-encoder"}


def rows_of(kind: str) -> list[dict[str, Any]]:
    """Eight rows of different lengths."""
    if kind == "language":
        return [{"prompt": f"{n} plus {n} is", "completion": f" {2 * n}" + " in all" * (n % 4)} for n in range(8)]
    if kind in ("bi-encoder", "cross-encoder"):
        return [
            {"anchor": f"about {n}", "positive": TEXTS[n], "negative": TEXTS[n + 1 : n + 2 + n % 3]} for n in range(8)
        ]
    if kind == "embeddings":
        return [{"anchor": f"about {n}", "positive": TEXTS[n]} for n in range(8)]
    if kind in ("image", "image-encoder"):
        from stillroom.data.files import load

        return [dict(row) for row in load("digits", limit=8)]
    return [{"text": text} for text in TEXTS[:8]]


@dataclass
class World:
    """A student and a teacher of one kind, the rows, and where the models lie."""

    kind: str
    student: str
    teacher: str
    rows: list[dict[str, Any]]

    @property
    def options(self) -> dict[str, Any]:
        return {"size": 8, "channels": 1} if self.kind.startswith("image") else {"max_length": 48}

    def open(self, which: str) -> Opened:
        """The student or the teacher, in float64."""
        kind = self.kind if which == "student" else TEACHER_KINDS.get(self.kind, self.kind)
        opened = open_model(getattr(self, which), kind, **self.options)
        opened.model.double()
        return opened


def build(kind: str, folder: Path) -> World:
    """Make the models of a world once."""
    torch.manual_seed(0)
    architecture, small, large = MODELS[kind]
    texts = [str(value) for row in rows_of(kind) for value in row.values()] + TEXTS
    student, teacher = folder / "student", folder / "teacher"
    new_model(Scratch(architecture=architecture, config=small, vocabulary=300), kind, lambda: texts, student)
    other = TEACHER_KINDS.get(kind, kind)
    extra = {"num_labels": 1} if other == "cross-encoder" else {}
    same = None if kind.startswith("image") else str(student)
    scratch = Scratch(architecture=architecture, config=large | extra, tokenizer=same)
    new_model(scratch, other, lambda: texts, teacher)
    return found(kind, folder)


def found(kind: str, folder: Path) -> World:
    """A world that was built."""
    return World(kind, str(folder / "student"), str(folder / "teacher"), rows_of(kind))


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
    return getattr(resolve(method), "kind", None) or task_of(method)


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

    @property
    def other(self) -> View | None:
        """The teacher's view, where it reads rows differently."""
        return None if self.student.view.fingerprint == self.teacher.view.fingerprint else self.teacher.view

    def batch(self, rows: list[dict[str, Any]]) -> Any:
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
    student, teacher = world.open("student"), world.open("teacher")
    made = Case(method, world, make(method, **settings), student, teacher)
    torch.manual_seed(1)
    sample = made.batch(world.rows[:2])
    if made.objective.needs.teacher and "text" not in made.objective.needs.teacher:
        sample.emitted = LocalTeacher(teacher.model, teacher.view)(sample, made.objective.needs.teacher)
    made.objective.setup(student.model, teacher.model, sample, student.view)
    if sample.emitted is not None:
        batch = made.batch(world.rows)
        signals = LocalTeacher(teacher.model, teacher.view)(batch, made.objective.needs.teacher)
        made.objective.look(iter([(batch, signals)]))
    made.objective.double()
    student.model.eval()  # no dropout, so that values can be compared
    made.objective.eval()
    return made


def trainer(made: Case, folder: Path, **settings: Any) -> Trainer:
    """Real training of a case on all its rows, without validation."""
    encoded, _ = encode(Dataset.from_list(made.world.rows), made.student.view, made.other)
    folder.mkdir(parents=True, exist_ok=True)
    asks = bool(made.objective.needs.asked)
    return Trainer(
        student=made.student.model,
        objective=made.objective,
        view=made.student.view,
        teacher=LocalTeacher(made.teacher.model, made.teacher.view) if asks else None,
        teacher_view=made.other,
        rows=encoded,
        validation=[],
        settings=Train(**({"learning_rate": 1e-2, "device": "cpu"} | settings)),
        folder=folder,
        fingerprint="one",
    )
