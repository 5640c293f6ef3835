"""Kinds of names that come one after the other: the part of the ground `encoders` where taggers learn new classes.

Sentences about countries, whose names of countries, regions, languages, currencies, cities and groups are known. The
training sentences are divided into three tasks; in each, two kinds are labelled and the others pass for nothing. Every
method starts from the model of the first task, and goes on from its own model of the second. Everybody is tried on all
kinds at once, in sentences about countries that nobody has read of.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillroom.blocks.prototypes import class_prototypes, remember
from stillroom.evaluate.spans import span_f1
from stillroom.recipe import check
from stillroom.run import execute
from stillroom.students.classes import add_classes
from stillroom.testbeds.base import UNWATCHED, entry
from stillroom.testbeds.described import rows_file
from stillroom.views.load import Opened, open_model
from stillroom.views.tagging import TokenClassifier

KINDS = ("country", "language", "currency", "region", "city", "group")  # classes 1 to 6
TASKS = ((1, 2), (3, 4), (5, 6))
WINDOW = 64
STUDENT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
STEPS = {"first": 150, "next": 120, "joint": 390}
METHODS: dict[str, dict[str, Any]] = {
    "is3": {"name": "is3"},
    "kd-only": {"name": "is3", "prototypes": 0.0, "damping": 1.0},
    "no-prototypes": {"name": "is3", "prototypes": 0.0},
    "sequential": {"name": "sft"},
}

_WORD = re.compile(r"\w+|[^\w\s]")


@cache
def _names(split: str) -> dict[str, tuple[int, str]]:
    """Of everything a triple speaks about: its class, and its English name."""
    from stillroom.data import load

    found: dict[str, tuple[int, str]] = {}
    for row in load("facts", view="triples", split=split):
        for side in ("subject", "object"):
            if row[f"{side}_type"] in KINDS:
                found[f"{row['id']} {side}"] = (KINDS.index(row[f"{side}_type"]) + 1, row[f"{side}_label"])
    return found


@cache
def sentences(split: str) -> list[dict[str, Any]]:
    """{tokens, tags} of every sentence that names something, all kinds labelled."""
    from stillroom.data import load

    names, rows = _names(split), []
    for passage in load("facts", view="passages", split=split):
        for text, triples in zip(passage["sentences"], passage["triples"], strict=True):
            words = _WORD.findall(text)
            tags = [0] * len(words)
            about = [
                names[key]
                for triple in triples
                for side in ("subject", "object")
                if (key := f"{triple} {side}") in names
            ]
            for kind, name in sorted(about, key=lambda one: -len(one[1])):
                _mark(words, tags, _WORD.findall(name), kind)
            if any(tags):
                rows.append({"tokens": words, "tags": tags})
    return rows


def _mark(words: list[str], tags: list[int], name: list[str], kind: int) -> None:
    """Tag a name wherever it stands and nothing is tagged yet."""
    for start in range(len(words) - len(name) + 1):
        place = slice(start, start + len(name))
        if words[place] == name and not any(tags[place]):
            tags[place] = [kind] * len(name)


@cache
def task_rows(task: int | None, smoke: bool) -> list[dict[str, Any]]:
    """The sentences of a task, only its kinds labelled; of None, all sentences with all kinds."""
    rows = sentences("train")
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    if task is None:
        return [rows[place] for place in order][: 60 if smoke else None]
    own = set(TASKS[task])
    chosen = [rows[place] for place in order[task :: len(TASKS)]][: 20 if smoke else None]
    return [row | {"tags": [tag if tag in own else 0 for tag in row["tags"]]} for row in chosen]


def _run(
    folder: Path, name: str, student: dict[str, Any], rows: list[Any], method: Any, steps: int, **more: Any
) -> Any:
    recipe = {
        "name": name,
        "output": str(folder),
        "task": "token-classifier",
        "student": student,
        "data": {"train": rows_file("tagged", rows), "validation": rows_file("tagged", sentences("validation")[:20])},
        "method": method,
        "train": {
            "steps": steps,
            "batch_size": 16,
            "learning_rate": 1e-3,
            "group_by_length": True,
            **UNWATCHED,
            **more.pop("train", {}),
        },
        **more,
    }
    return execute(check(recipe), timed=False)


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """Everybody after each task, and one that saw all labels at once."""
    folder, train = Path(tempfile.mkdtemp(prefix="stillroom-")), {"seed": seed}
    steps = dict.fromkeys(STEPS, 2) if smoke else STEPS
    config = STUDENT | {"max_position_embeddings": 96}
    try:
        texts = {"architecture": "bert", "config": config | {"num_labels": 7}, "vocabulary": 2000}
        joint = _run(
            folder,
            "joint",
            {"new": texts, "max_length": WINDOW},
            task_rows(None, smoke),
            "sft",
            steps["joint"],
            train=train,
        )
        new = {**texts, "config": config | {"num_labels": 3}, "tokenizer": str(joint.model)}
        first = _run(
            folder, "first", {"new": new, "max_length": WINDOW}, task_rows(0, smoke), "sft", steps["first"], train=train
        )
        _keep_prototypes(str(first.model), 0, smoke)
        entries = []
        for name, method in METHODS.items():
            began, before, scores = time.monotonic(), str(first.model), [told(str(first.model), 0, smoke)]
            for task in range(1, len(TASKS)):
                start = grown(before, len(TASKS[task]), folder / f"{name}-{task}-start")
                teacher = {} if method["name"] == "sft" else {"teacher": {"model": before, "max_length": WINDOW}}
                student = {"model": start, "max_length": WINDOW}
                rows = task_rows(task, smoke)
                run = _run(folder, f"{name}-{task}", student, rows, method, steps["next"], train=train, **teacher)
                before = str(run.model)
                _keep_prototypes(before, task, smoke)
                scores.append(told(before, task, smoke))
            average = sum(score["macro_f1"] for score in scores) / len(scores)
            metrics = scores[-1] | {"average_f1": average}
            entries.append(_told(name, before, metrics, time.monotonic() - began))
        metrics = told(str(joint.model), len(TASKS) - 1, smoke)
        entries.append(_told("joint", str(joint.model), metrics | {"average_f1": metrics["macro_f1"]}, None))
        return entries
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _told(name: str, folder: str, metrics: dict[str, float], seconds: float | None) -> dict[str, Any]:
    role = {"is3": "student", "joint": "teacher"}.get(name, "baseline")
    return entry(name, role, open_model(folder, "token-classifier").model, metrics, seconds, alone=name == "sequential")


def grown(model: str, count: int, folder: Path) -> str:
    """The folder of the same model with more classes."""
    opened = open_model(model, "token-classifier", max_length=WINDOW)
    add_classes(opened.model, count)
    opened.view.save(opened.model, folder)
    return str(folder)


def _keep_prototypes(model: str, task: int, smoke: bool) -> None:
    """Put the prototypes of a task's classes into the model that learnt them."""
    opened = open_model(model, "token-classifier", max_length=WINDOW)
    opened.model.eval()
    remember(opened.model, class_prototypes(_states(opened, task_rows(task, smoke)), TASKS[task]))
    opened.view.save(opened.model, Path(model))


@torch.no_grad()
def _states(opened: Opened, rows: list[dict[str, Any]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The last hidden states of words, and their classes."""
    for start in range(0, len(rows), 64):
        inputs = opened.view.collate([opened.view.encode(row) for row in rows[start : start + 64]])
        (hidden,) = opened.view.emit(opened.model, inputs.arguments, ("hidden:-1",)).hidden.values()
        assert inputs.labels is not None
        yield hidden[inputs.mask], inputs.labels[inputs.mask]


def told(model: str, task: int, smoke: bool) -> dict[str, float]:
    """F1 over the classes seen so far; ``e2o`` and ``o2e``, the shares of words that fell to either shift.

    ``e2o``: words of old entities that are said to be nothing. ``o2e``: words of old entities, or of none, that are
    said to be of a class of this task.
    """
    opened = open_model(model, "token-classifier", max_length=WINDOW)
    opened.model.eval()
    view = opened.view
    assert isinstance(view, TokenClassifier)
    seen = {kind for kinds in TASKS[: task + 1] for kind in kinds}
    new = set(TASKS[task])
    rows = sentences("test")[: 20 if smoke else None]
    gold = [[tag if tag in seen else 0 for tag in row["tags"]] for row in rows]
    said = view.tag(opened.model, [row["tokens"] for row in rows])
    pairs = np.array([pair for ours, theirs in zip(said, gold, strict=True) for pair in zip(ours, theirs, strict=True)])
    ours, theirs = pairs[:, 0], pairs[:, 1]
    old = (theirs > 0) & ~np.isin(theirs, list(new))
    others = ~np.isin(theirs, list(new))
    return span_f1(said, gold, sorted(seen)) | {
        "e2o": float((ours[old] == 0).mean()) if old.any() else 0.0,
        "o2e": float(np.isin(ours[others], list(new)).mean()),
    }
