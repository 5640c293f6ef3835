"""Which knowledge to copy: small convolutional networks on handwritten digits, a teacher of eleven times the weights.

One student of each kind: by labels alone, by the teacher's response, by features (hints, or attention maps), by
relations (distances and angles, or similarities), together with a teacher that learns at the same time, and by an
earlier copy of itself. All have the labels too. The teacher is trained on all digits, the students on a tenth. The
weights of the kinds, and the student's size and rate, were chosen on the validation part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.blocks.mutual import mutual_divergence
from stillroom.methods.analysis.survey_kd_principles import softened_loss
from stillroom.objectives import angle_relation, attention_map, distance_relation, gram_relation, mse
from stillroom.testbeds.base import Bench, entry
from stillroom.testbeds.fields import Rows, accuracy, by_labels, few, rows, whole
from stillroom.testbeds.fitting import fit, seeded

SLUG = "survey-kd"
STEPS = {False: 600, True: 3}
CHANNELS = {"teacher": (32, 64), "student": (8, 16)}
TEACHER_RATE, RATE = 1e-2, 2e-2
TEMPERATURE, RESPONSE = 4.0, 0.9
HINT, ATTENTION, DISTANCE, ANGLE, SIMILARITY = 1.0, 1.0, 5.0, 10.0, 30.0


class Out(NamedTuple):
    """What a network emits: logits [B, 10], the last maps [B, C, 5, 5], and the vector that is classified [B, 4 C]."""

    logits: Tensor
    maps: Tensor
    vector: Tensor


class Net(nn.Module):
    """Two convolutions, the means over four parts of the picture, a classifier."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, first, 3, padding=1), nn.Conv2d(first, second, 3, padding=1)
        self.head = nn.Linear(4 * second, 10)

    def forward(self, images: Tensor) -> Out:
        """From pictures [B, 10, 10]."""
        maps = F.relu(self.second(F.max_pool2d(F.relu(self.first(images.unsqueeze(1))), 2)))
        vector = F.adaptive_avg_pool2d(maps, 2).flatten(1)
        return Out(self.head(vector), maps, vector)


Part = Callable[[Out, Out, Tensor], Tensor]


def _response(ours: Out, theirs: Out, labels: Tensor) -> Tensor:
    return softened_loss(
        ours.logits, theirs.logits, labels, whole(labels), temperature=TEMPERATURE, weight=RESPONSE
    ).mean


def _attention(ours: Out, theirs: Out, labels: Tensor) -> Tensor:
    return ATTENTION * attention_map(ours.maps, theirs.maps, whole(labels)).mean


def _distances(ours: Out, theirs: Out, labels: Tensor) -> Tensor:
    distance = distance_relation(ours.vector, theirs.vector, whole(labels)).mean
    return DISTANCE * distance + ANGLE * angle_relation(ours.vector, theirs.vector, whole(labels)).mean


def _similarity(ours: Out, theirs: Out, labels: Tensor) -> Tensor:
    mine, yours = ours.maps.flatten(1), theirs.maps.flatten(1)
    return SIMILARITY * gram_relation(mine, yours, whole(labels), normalise="rows").mean


class Hint(nn.Module):
    """The student's maps brought to the teacher's channels by a convolution of one place, and compared (FitNets)."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Conv2d(CHANNELS["student"][1], CHANNELS["teacher"][1], 1)

    def forward(self, ours: Out, theirs: Out, labels: Tensor) -> Tensor:
        """The mean over places of the mean squared difference."""
        mine, yours = self.widen(ours.maps).movedim(1, -1), theirs.maps.movedim(1, -1)
        return HINT * mse(mine, yours, torch.ones(mine.shape[:-1], dtype=torch.bool)).mean


def _few(smoke: bool) -> Rows:
    """What the students are trained on."""
    kept = few(rows("train", smoke))
    return Rows(*(values[kept] for values in rows("train", smoke)))


def _train(parts: tuple[Part, ...], given: Out, smoke: bool, seed: int) -> tuple[nn.Module, float]:
    """A student, and its seconds. The labels are learnt by cross-entropy, unless the response has them in it."""
    images, labels = _few(smoke)
    student = seeded(lambda: Net(*CHANNELS["student"]), seed)
    extra = nn.ModuleList(part for part in parts if isinstance(part, nn.Module))

    def loss(at: Tensor) -> Tensor:
        ours, theirs, right = student(images[at]), Out(*(signal[at] for signal in given)), labels[at]
        hard = [] if _response in parts else [by_labels(ours.logits, right)]
        return torch.stack([*hard, *(part(ours, theirs, right) for part in parts)]).sum()

    seconds = fit(
        nn.ModuleList([student, extra]), loss, rows=len(labels), steps=STEPS[smoke], seed=seed, learning_rate=RATE
    )
    return student, seconds


def _together(smoke: bool, seed: int) -> tuple[nn.Module, float]:
    """A student and a peer of the teacher's size that learn from labels and from each other (deep mutual learning)."""
    images, labels = _few(smoke)
    student = seeded(lambda: Net(*CHANNELS["student"]), seed)
    peer = seeded(lambda: Net(*CHANNELS["teacher"]), seed)

    def loss(at: Tensor) -> Tensor:
        ours, theirs, right = student(images[at]).logits, peer(images[at]).logits, labels[at]
        first, second = mutual_divergence(ours, theirs, whole(right))
        return by_labels(ours, right) + by_labels(theirs, right) + first.mean + second.mean

    seconds = fit(
        nn.ModuleList([student, peer]),
        loss,
        rows=len(labels),
        steps=STEPS[smoke],
        seed=seed,
        learning_rate=TEACHER_RATE,
    )
    return student, seconds


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """One student a kind of knowledge, and one of all three kinds together."""
    images, labels = rows("train", smoke)
    teacher = seeded(lambda: Net(*CHANNELS["teacher"]), seed)
    spent = fit(
        teacher,
        lambda at: by_labels(teacher(images[at]).logits, labels[at]),
        rows=len(labels),
        steps=STEPS[smoke],
        seed=seed,
        learning_rate=TEACHER_RATE,
    )
    shown = _few(smoke).images
    with torch.no_grad():
        given: Out = teacher(shown)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hints = [Hint(), Hint()]
    made: dict[str, tuple[nn.Module, float]] = {
        SLUG: _train((_response, hints[0], _distances), given, smoke, seed),
        "alone": _train((), given, smoke, seed),
        "response": _train((_response,), given, smoke, seed),
        "feature: hints": _train((hints[1],), given, smoke, seed),
        "feature: attention": _train((_attention,), given, smoke, seed),
        "relation: distances": _train((_distances,), given, smoke, seed),
        "relation: similarity": _train((_similarity,), given, smoke, seed),
        "online": _together(smoke, seed),
    }
    with torch.no_grad():
        before: Out = made["alone"][0](shown)
    made["self"] = _train((_response,), before, smoke, seed)
    entries = [entry("teacher", "teacher", teacher, {"accuracy": accuracy(teacher, "test", smoke)}, spent)]
    for name, (model, seconds) in made.items():
        metrics = {part: accuracy(model, split, smoke) for part, split in (("accuracy", "test"), ("validation",) * 2)}
        entries.append(
            entry(name, "student" if name == SLUG else "baseline", model, metrics, seconds, alone=name == "alone")
        )
    return entries


KNOWLEDGE = Bench(
    claim="With response, features and relations of a teacher together, a student knows more than by labels alone.",
    metric="accuracy",
    higher_is_better=True,
    versus="alone",
    measure=measure,
)
