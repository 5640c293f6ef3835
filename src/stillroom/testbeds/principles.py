"""Surveys put to the test: at which temperature, by which knowledge, through which access, under which divergence.

`BENCHES` has the four surveys of the family `analysis`. This file is the ground of temperature and of the teacher's
size: perceptrons on handwritten digits, the teachers trained on all of them, the students on a tenth. Both are made
anew for each seed; all students of a seed start from the same weights and see the same batches, and the last weights
are measured. What has to be chosen is chosen on the validation part.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.methods.analysis.survey_kd_principles import Sweep, softened_loss, sweep
from stillroom.testbeds.base import Bench, entry
from stillroom.testbeds.fields import FIELD, accuracy, by_labels, few, rows, whole
from stillroom.testbeds.fitting import fit, seeded
from stillroom.testbeds.principles_of_divergence import DIVERGENCES
from stillroom.testbeds.principles_of_knowledge import KNOWLEDGE
from stillroom.testbeds.principles_of_text import ACCESS

SLUG = "survey-kd-principles"
STEPS = {False: 1000, True: 3}
TEMPERATURES, WEIGHTS = (1.0, 2.0, 4.0, 8.0, 16.0), (0.0, 0.5, 0.9)
TEACHERS = (32, 256, 1024)  # units of the two hidden layers
UNITS = 16  # of the student's one hidden layer


def perceptron(*units: int) -> nn.Sequential:
    """Layers of these sizes over a picture, and ten classes."""
    sizes = [FIELD**2, *units]
    layers = [part for before, after in pairwise(sizes) for part in (nn.Linear(before, after), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], 10))


def _teacher(units: int, smoke: bool, seed: int) -> tuple[nn.Module, float, Tensor]:
    """A teacher, the seconds it took, and its logits on the students' rows."""
    images, labels = rows("train", smoke)
    model = seeded(lambda: perceptron(units, units), seed)
    seconds = fit(
        model,
        lambda at: by_labels(model(images[at]), labels[at]),
        rows=len(labels),
        steps=STEPS[smoke],
        seed=seed,
    )
    with torch.no_grad():
        return model, seconds, model(images[few(rows("train", smoke))])


def _student(theirs: Tensor, temperature: float, weight: float, smoke: bool, seed: int) -> tuple[nn.Module, float]:
    kept = few(rows("train", smoke))
    images, labels = (values[kept] for values in rows("train", smoke))
    model = seeded(lambda: perceptron(UNITS), seed)

    def loss(at: Tensor) -> Tensor:
        ours, right = model(images[at]), labels[at]
        return softened_loss(ours, theirs[at], right, whole(right), temperature=temperature, weight=weight).mean

    return model, fit(model, loss, rows=len(labels), steps=STEPS[smoke], seed=seed, learning_rate=1e-2)


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """Students under each temperature and weight of the soft labels, and of teachers of three sizes."""
    made = {units: _teacher(units, smoke, seed) for units in TEACHERS}
    model, seconds, theirs = made[256]
    trained: dict[tuple[float, float], tuple[nn.Module, float]] = {}

    def run(temperature: float, weight: float) -> float:
        trained[temperature, weight] = _student(theirs, temperature, weight, smoke, seed)
        return accuracy(trained[temperature, weight][0], "validation", smoke)

    found = sweep(run, temperatures=TEMPERATURES, weights=WEIGHTS)
    inner = chosen_inside(found, WEIGHTS[-1])
    entries = [entry("teacher", "teacher", model, {"accuracy": accuracy(model, "test", smoke)}, seconds)]
    for (heat, weight), (model, seconds) in trained.items():
        metrics = {"accuracy": accuracy(model, "test", smoke), "validation": found.values[heat, weight]}
        name = f"T={heat:g} a={weight:g}" if weight else "alone"
        entries.append(entry(name, "baseline", model, metrics, seconds, alone=name == "alone"))
        if (heat, weight) == (inner, WEIGHTS[-1]):
            entries.insert(1, entry(SLUG, "student", model, metrics | {"temperature": heat}, seconds))
    for units in (TEACHERS[0], TEACHERS[-1]):
        model, seconds = _student(made[units][2], inner, WEIGHTS[-1], smoke, seed)
        metrics = {"accuracy": accuracy(model, "test", smoke), "of_teacher": accuracy(made[units][0], "test", smoke)}
        entries.append(entry(f"of teacher {units}", "baseline", model, metrics, seconds))
    return entries


def chosen_inside(found: Sweep, weight: float) -> float:
    """The temperature between the lowest and the highest that reaches most on the validation rows."""
    return max(found.temperatures[1:-1], key=lambda temperature: found.values[temperature, weight])


BENCHES: dict[str, Bench] = {
    SLUG: Bench(
        claim="A student learns more of soft labels at a temperature between 1 and 16 than at 1.",
        metric="accuracy",
        higher_is_better=True,
        versus="T=1 a=0.9",
        measure=measure,
    ),
    "survey-kd": KNOWLEDGE,
    "survey-llm-kd-methods": ACCESS,
    "survey-llm-kd": DIVERGENCES,
}
