"""A classifier of definitions that is pruned: the part of the ground `encoders` where students are cut out of teachers.

A row is the definition of a meaning, and its class is the lexicographer file that the meaning stands in: animal, food,
act, ... The teacher is a EuroBERT of four layers, whose heads have a width of their own, trained on the labels. Pruned
students start as its copies; others are made from nothing, of just the size that pruning came to, and learn from the
same teacher on the same rows for as many steps. Everybody is measured as exported, on meanings that nobody has seen.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from stillroom.measuring import Suite
from stillroom.recipe import check
from stillroom.run import execute
from stillroom.testbeds.base import UNWATCHED, trained_once
from stillroom.views.load import Opened

FILES = [
    *("noun.animal", "noun.food", "noun.artifact", "noun.person", "noun.plant", "noun.location", "noun.act"),
    *("noun.communication", "noun.body", "noun.substance", "verb.motion", "verb.communication"),
]
ROWS = {"train": 12_000, "validation": 500, "test": 1500}
WINDOW = 32
SHAPE = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 64,
    "classifier_pooling": "mean",
}
SPARSITY = 0.8
STEPS = {"teacher": 500, "students": 240}
RATE, MASK_RATE = 1e-3, 0.1
SCHEDULE = {"warm_up": 0.05, "rise": 0.3, "settle": 0.6, "mask_rate": MASK_RATE}


def source(split: str, smoke: bool) -> dict[str, Any]:
    """Rows of a split, as a recipe names them."""
    count = 64 if smoke else ROWS[split]
    return {"source": "wordnet", "view": "definitions", "split": split, "limit": count, "options": {"files": FILES}}


def _train(steps: int, smoke: bool, seed: int) -> dict[str, Any]:
    fixed = {"group_by_length": True, **UNWATCHED}
    return {"steps": 6 if smoke else steps, "batch_size": 32, "learning_rate": RATE, "seed": seed, **fixed}


def _new(config: dict[str, Any], tokenizer: str | None) -> dict[str, Any]:
    fixed = {"num_labels": len(FILES), "bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 3, "pad_token_id": 0}
    made = {"architecture": "eurobert", "config": fixed | config, "vocabulary": 4000}
    return {"new": made | {"tokenizer": tokenizer}, "max_length": WINDOW}


def teacher(smoke: bool) -> str:
    """The teacher's folder."""
    return trained_once(
        "pruning-teacher",
        {
            "task": "text-classifier",
            "student": _new(SHAPE, None),
            "data": {split: source(split, smoke) for split in ("train", "validation")},
            "method": "sft",
            "train": _train(STEPS["teacher"], smoke, 0),
        },
    )


@torch.no_grad()
def told(opened: Opened, *, split: str, smoke: bool) -> dict[str, float]:
    """``told``, the share of definitions whose class is told; ``layer_parameters``; ``milliseconds`` a batch of 64."""
    rows = definitions(split, smoke)
    right, began, batches = 0, time.process_time(), 0
    for start in range(0, len(rows), 64):
        inputs = opened.view.collate([opened.view.encode(row) for row in rows[start : start + 64]])
        batches += 1
        logits = opened.view.emit(opened.model, inputs.arguments, ("logits",)).logits
        assert logits is not None and inputs.labels is not None
        right += int((logits.argmax(-1) == inputs.labels).sum())
    spent = time.process_time() - began
    inside = sum(p.numel() for name, p in opened.model.named_parameters() if ".layers." in name)
    return {"told": right / len(rows), "layer_parameters": float(inside), "milliseconds": 1000 * spent / batches}


@cache
def definitions(split: str, smoke: bool) -> list[dict[str, Any]]:
    """Some rows, {text, label}."""
    from stillroom.data import load

    asked = source(split, smoke)
    table = load("wordnet", view=asked["view"], split=split, limit=asked["limit"], **asked["options"])
    return [{"text": row["text"], "label": row["label"]} for row in table]


SUITES: dict[bool, dict[str, Suite]] = {
    smoke: {"told": partial(told, split="test", smoke=smoke)} for smoke in (False, True)
}


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """Teacher, pruned students, and one from nothing of the size that the first came to."""
    folder = Path(tempfile.mkdtemp(prefix="stillroom-"))
    base = {
        "task": "text-classifier",
        "teacher": {"model": teacher(smoke), "max_length": WINDOW},
        "data": {split: source(split, smoke) for split in ("train", "validation")},
        "train": _train(STEPS["students"], smoke, seed),
        "evaluate": ["told"],
        "output": str(folder),
    }
    pruned = {"name": "cofi", "sparsity": 0.3 if smoke else SPARSITY, **SCHEDULE}
    recipe = base | {
        "name": "pruned",
        "student": {"model": teacher(smoke), "max_length": WINDOW},
        "method": pruned,
        "against": [
            pruned | {"label": "no-layers", "layers": 0.0, "kd": 1.0},
            pruned | {"label": "heads-and-units", "masks": ["head", "intermediate"]},
        ],
    }
    try:
        run = execute(check(recipe), suites=SUITES[smoke], timed=False)
        size = json.loads((run.model / "config.json").read_text())
        kept = {name: size[name] for name in (*SHAPE, "head_dim", "num_key_value_heads")}
        other = base | {"name": "small", "student": _new(kept, teacher(smoke)), "method": "forward_kl"}
        other["method"] = {"name": "forward_kl", "label": "small-from-nothing", "temperature": 2.0, "scale_by_t2": True}
        small = execute(check(other), suites=SUITES[smoke], timed=False).evaluation["systems"][1]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [*run.evaluation["systems"], small | {"role": "baseline"}]
