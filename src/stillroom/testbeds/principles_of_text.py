"""Through which access: the lexicographer file of a WordNet definition, learnt from labels or from a teacher.

A teacher reads 24,000 definitions with their classes. A student of an eighth of its width is then trained on 8,000
others: by their labels; by the teacher's first choice, which a black box gives; by its logits; by its logits and hints,
which a white box gives. Each student starts from the same weights, sees the same batches, and the teacher is asked once
a definition; `checklist` fills the rest of the table.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.data.files import load
from stillroom.methods.analysis.survey_kd_principles import softened_loss
from stillroom.methods.analysis.survey_llm_kd_methods import checklist
from stillroom.objectives import mse
from stillroom.testbeds.base import Bench, entry
from stillroom.testbeds.fields import by_labels, whole
from stillroom.testbeds.fitting import fit, seeded

SLUG = "survey-llm-kd-methods"
WORDS, LENGTH, CLASSES = 4096, 24, 45  # hashed words; words that are read of a definition
WIDTHS = {"teacher": 64, "student": 8}
ROWS = {"teacher": 24_000, "student": 8_000, "test": 4_000}
STEPS = {False: 600, True: 3}
BATCH, RATE = 256, 1e-2
TEMPERATURE, HINT = 2.0, 10.0


class Rows(NamedTuple):
    """Hashed words [N, LENGTH], 0 where a definition has ended, and classes [N]."""

    words: Tensor
    labels: Tensor


@cache
def rows(part: str, smoke: bool) -> Rows:
    """Definitions of the teacher, of the students or of the test, no two the same."""
    many = {name: 200 for name in ROWS} if smoke else ROWS
    if part == "test":
        found = load("wordnet", view="definitions", split="test", limit=many["test"])
    else:
        both = load("wordnet", view="definitions", split="train", limit=many["teacher"] + many["student"])
        mixed = torch.randperm(len(both), generator=torch.Generator().manual_seed(0))  # they come in WordNet's order
        found = both.select(mixed[: many["teacher"]] if part == "teacher" else mixed[many["teacher"] :])
    ids = [
        [1 + crc32(word.encode()) % (WORDS - 1) for word in re.findall(r"\w+", text.lower())] for text in found["text"]
    ]
    padded = [(line + [0] * LENGTH)[:LENGTH] for line in ids]
    return Rows(torch.tensor(padded), torch.tensor(found["label"]))


class Out(NamedTuple):
    """Logits [B, CLASSES] and the hidden layer [B, 2 W]."""

    logits: Tensor
    hidden: Tensor


class Bag(nn.Module):
    """The mean of the words' vectors [W], a hidden layer of twice the width, a classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(WORDS, width, mode="mean", padding_idx=0)
        nn.init.normal_(self.words.weight, std=0.1)  # a word that was never read should say little
        self.layer, self.head = nn.Linear(width, 2 * width), nn.Linear(2 * width, CLASSES)

    def forward(self, words: Tensor) -> Out:
        """From hashed words [B, LENGTH]."""
        hidden = F.relu(self.layer(self.words(words)))
        return Out(self.head(hidden), hidden)


@torch.no_grad()
def _accuracy(model: nn.Module, smoke: bool) -> float:
    words, labels = rows("test", smoke)
    return float((model(words).logits.argmax(-1) == labels).float().mean())


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """The same student by labels, hard labels, logits, and logits with hints."""
    words, labels = rows("teacher", smoke)
    teacher = seeded(lambda: Bag(WIDTHS["teacher"]), seed)
    spent = fit(
        teacher,
        lambda at: by_labels(teacher(words[at]).logits, labels[at]),
        rows=len(labels),
        steps=STEPS[smoke],
        seed=seed,
        batch=BATCH,
        learning_rate=RATE,
    )
    asked, right = rows("student", smoke)
    with torch.no_grad():
        theirs: Out = teacher(asked)
    made: list[tuple[str, str, nn.Module, float | None, int]] = [("teacher", "teacher", teacher, spent, 0)]
    for name in (SLUG, "labels", "hard-labels", "logits-and-hints"):
        student = seeded(lambda: Bag(WIDTHS["student"]), seed)
        widen = seeded(lambda: nn.Linear(2 * WIDTHS["student"], 2 * WIDTHS["teacher"]), seed)

        def loss(at: Tensor, name: str = name, student: nn.Module = student, widen: nn.Module = widen) -> Tensor:
            ours: Out = student(asked[at])
            if name in ("labels", "hard-labels"):
                return by_labels(ours.logits, right[at] if name == "labels" else theirs.logits[at].argmax(-1))
            soft = softened_loss(
                ours.logits, theirs.logits[at], right[at], whole(at), temperature=TEMPERATURE, weight=1.0
            ).mean
            return soft + (HINT * mse(widen(ours.hidden), theirs.hidden[at], whole(at)).mean if name != SLUG else 0.0)

        seconds = fit(
            nn.ModuleList([student, widen]),
            loss,
            rows=len(right),
            steps=STEPS[smoke],
            seed=seed,
            batch=BATCH,
            learning_rate=RATE,
        )
        queries = 0 if name == "labels" else len(right)
        made.append((name, "student" if name == SLUG else "baseline", student, seconds, queries))
    return _with_checklist(made, smoke)


def _with_checklist(made: list[tuple[str, str, nn.Module, float | None, int]], smoke: bool) -> list[dict[str, Any]]:
    """The entries, with what a table of results must tell among their metrics."""
    entries = [
        entry(name, role, model, {"accuracy": _accuracy(model, smoke)}, spent, alone=name == "labels")
        for name, role, model, spent, _ in made
    ]
    asked = {name: queries for name, *_, queries in made}
    lines = checklist(
        [
            {
                "name": found["name"],
                "value": found["metrics"]["accuracy"],
                "parameters": found["parameters"],
                "queries": asked[found["name"]],
                "train_seconds": found["cost"]["train_seconds"],
            }
            for found in entries
        ],
        teacher="teacher",
        alone="labels",
    )
    for found, line in zip(entries, lines, strict=True):
        told = {"retained": line.retained, "gap_closed": line.gap_closed, "cost": line.cost}
        found["metrics"] |= {name: value for name, value in told.items() if value is not None}
        found["metrics"] |= {"compression": line.compression, "queries": float(line.queries)}
    return entries


ACCESS = Bench(
    claim="By a teacher's logits, which a white box gives, a student learns more than by its labels from a black box.",
    metric="accuracy",
    higher_is_better=True,
    versus="hard-labels",
    measure=measure,
)
