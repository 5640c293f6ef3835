"""`encoders`: a BERT of four layers teaches one of two what docstrings are about, without any task.

The texts are docstrings of the functions of well-known packages. The teacher learnt them by masked language modelling;
the students start from nothing, one start for each seed, and have the same steps on the same texts, whatever they
copy. Then they are frozen. What they know is measured by a linear probe on the mean of their last hidden states: which
of 13 packages does a docstring come from? Docstrings of the test are from modules that neither teacher, students nor
probe have seen. The last weights are measured: no checkpoint is chosen.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.pydocs import Source, functions
from stillroom.errors import need
from stillroom.measuring import Suite
from stillroom.testbeds import pruning, tagging
from stillroom.testbeds.base import UNWATCHED, Bench, trained_once
from stillroom.testbeds.described import PACKAGES
from stillroom.views.load import Opened

ROWS = {"train": 8000, "validation": 60}
OF_EACH = {"train": 150, "test": 60}  # docstrings of each package that the probe learns from and is tried on, at most
WINDOW = 48  # tokens

TEACHER = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
STUDENT = {"hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
HEADS = 16  # relation heads, for widths of 128 and 48


# --- rows and models --------------------------------------------------------------------------------------------------


@cache
def docstrings(split: str, count: int) -> str:
    """A file of ``count`` docstrings, {text}."""
    table = functions(split, Source(PACKAGES)).select_columns("docstring")
    places = np.random.default_rng(0).permutation(len(table))[:count]
    lines = [json.dumps({"text": text}) + "\n" for text in table[places]["docstring"]]

    def build(folder: Path) -> None:
        folder.mkdir()
        (folder / "rows.jsonl").write_text("".join(lines))

    return str(build_once(f"testbeds/docstrings-{split}", fingerprint(lines), build) / "rows.jsonl")


def _data(smoke: bool) -> dict[str, Any]:
    return {split: docstrings(split, 64 if smoke else count) for split, count in ROWS.items()}


def _train(steps: int, smoke: bool, *, learning_rate: float) -> dict[str, Any]:
    return {
        "steps": 2 if smoke else steps,
        "batch_size": 32,
        "learning_rate": learning_rate,
        "group_by_length": True,
        **UNWATCHED,
    }


def _new(config: dict[str, Any], tokenizer: str | None) -> dict[str, Any]:
    made = {"architecture": "bert", "config": config | {"max_position_embeddings": 64}, "vocabulary": 4000}
    return {"new": made | {"tokenizer": tokenizer}, "max_length": WINDOW}


TEACHER_STEPS, TEACHER_RATE = 1000, 1e-3


def teacher(smoke: bool = False) -> str:
    """The teacher's folder."""
    train = _train(TEACHER_STEPS, smoke, learning_rate=TEACHER_RATE)
    recipe = {
        "task": "masked-lm",
        "student": _new(TEACHER, None),
        "data": _data(smoke),
        "method": "mlm",
        "train": train,
    }
    return trained_once("encoders-teacher", recipe)


# --- measurements -----------------------------------------------------------------------------------------------------


@cache
def labelled(split: str, of_each: int) -> tuple[list[str], list[str]]:
    """At most so many docstrings of each package, and their packages."""
    table = functions(split, Source(PACKAGES)).select_columns(["docstring", "package"])
    seen, texts, packages = Counter[str](), [], []
    for place in np.random.default_rng(1).permutation(len(table)).tolist():
        row = table[place]
        if seen[row["package"]] < of_each:
            seen[row["package"]] += 1
            texts.append(row["docstring"])
            packages.append(row["package"])
    return texts, packages


@torch.no_grad()
def states(opened: Opened, texts: list[str], size: int = 64) -> Tensor:
    """The mean of the last hidden states over each text's tokens, [texts, H]."""
    rows = [opened.view.encode({"text": text}) for text in texts]
    order = sorted(range(len(rows)), key=lambda place: rows[place]["length"])
    found = []
    for start in range(0, len(order), size):
        inputs = opened.view.collate([rows[place] for place in order[start : start + size]])
        signals = opened.view.emit(opened.model, inputs.arguments, ("hidden:-1",))
        (hidden,), real = signals.hidden.values(), inputs.arguments["attention_mask"].unsqueeze(-1)
        found.append((hidden * real).sum(1) / real.sum(1))
    vectors = torch.cat(found)
    return vectors[torch.tensor(order).argsort()]


def packages_told(opened: Opened, *, part: str, smoke: bool) -> dict[str, float]:
    """``probe_accuracy``: docstrings whose package a linear probe tells, by the frozen encoder's states."""
    need("sklearn", "lexical")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    learnt, tried = (
        labelled(split, 3 if smoke else count)
        for split, count in (("train", OF_EACH["train"]), (part, OF_EACH["test"]))
    )
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    probe.fit(states(opened, learnt[0]).numpy(), learnt[1])
    return {"probe_accuracy": float(probe.score(states(opened, tried[0]).numpy(), tried[1]))}


SUITES: dict[str, Suite] = {
    "packages": partial(packages_told, part="test", smoke=False),
    "few-packages": partial(packages_told, part="test", smoke=True),
}


# --- benches ----------------------------------------------------------------------------------------------------------


def _recipe(smoke: bool, *, method: dict[str, Any], against: list[Any], steps: int, rate: float) -> dict[str, Any]:
    return {
        "task": "masked-lm",
        "teacher": teacher(smoke),
        "student": _new(STUDENT, teacher(smoke)),
        "data": _data(smoke),
        "method": method,
        "against": against,
        "train": _train(steps, smoke, learning_rate=rate),
        "evaluate": ["few-packages" if smoke else "packages"],
    }


BENCHES: dict[str, Bench] = {
    "minilmv2": Bench(
        claim="At equal steps, a student that copied relations among tokens knows more than one that copied outputs.",
        metric="probe_accuracy",
        higher_is_better=True,
        versus="od",
        recipe=partial(
            _recipe,
            method={"name": "minilmv2", "heads": HEADS},
            against=[
                {"name": "minilmv2", "label": "od", "objective": "od"},
                {"name": "minilmv2", "label": "hs-last", "objective": "hs"},
                {"name": "minilmv2", "label": "hs-uniform", "objective": "hs", "layers": "uniform"},
                "mlm",
                "untrained",
            ],
            steps=200,
            rate=1e-3,
        ),
        suites=SUITES,
    ),
    "is3": Bench(
        claim="A tagger that learns new kinds of entities by IS3 knows old and new ones better in the end than by "
        "distillation alone.",
        metric="macro_f1",
        higher_is_better=True,
        versus="kd-only",
        measure=tagging.measure,
    ),
    "cofi": Bench(
        claim="Pruned out of its teacher, a student tells more than one of the same size that is made from nothing and "
        "learns from that teacher for as long.",
        metric="told",
        higher_is_better=True,
        versus="small-from-nothing",
        measure=pruning.measure,
    ),
}
