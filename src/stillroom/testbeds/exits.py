"""One encoder that can be left early: the part of the ground `embeddings` with several depths.

A row is a question about a country and its logical form, "(population country:zambia)": text and code, in few enough
words that a EuroBERT of eight layers, made from nothing for every seed, learns to find one by the other; with exits at
four depths at once, at its end alone, or cut to a depth and trained there. Each is measured at the depths that it has,
by the questions of other countries than those it was trained on.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from stillroom.data.files import load
from stillroom.engine.loop import seed_all
from stillroom.evaluate.retrieval import dense_retrieval
from stillroom.measuring import embed
from stillroom.recipe import Scratch, check
from stillroom.run import execute
from stillroom.students.open import new_model
from stillroom.students.truncate import find_layers, keep_layers
from stillroom.testbeds.base import UNWATCHED, entry
from stillroom.testbeds.described import rows_file
from stillroom.views.load import Opened, open_model

EXITS = (2, 4, 6, 8)
ALONE = (2, 4)  # depths that a model of its own is trained for
SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 8, "num_attention_heads": 4}
NAMED: dict[str, Any] = {"initializer_range": 0.1}  # at 0.02 so narrow an encoder starts too flat
NAMED |= {"bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 3, "max_position_embeddings": 64}
ROWS, POOL, WINDOW = 2400, 600, 32  # different forms
STEPS, RATE = 200, 2e-3
SLUG = "modular-early-exit"


@cache
def questions(split: str, count: int) -> tuple[dict[str, str], ...]:
    """Rows {anchor: a question, positive: its form} of a split, each form once."""
    known = load("facts", view="questions", split=split).select_columns(["question", "form"]).shuffle(seed=0)
    found: dict[str, str] = {}
    for row in known:
        found.setdefault(row["form"], row["question"])
    return tuple({"anchor": question, "positive": form} for form, question in list(found.items())[:count])


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """All exits at once, the last alone, and two depths on their own: ``mrr_2`` and so on, by depth."""
    folder = Path(tempfile.mkdtemp(prefix="stillroom-"))
    try:
        start = folder / "start"
        rows = questions("train", 64 if smoke else ROWS)
        texts = [text for row in rows for text in row.values()]
        seed_all(seed, -1, 0)
        scratch = Scratch(architecture="eurobert", config=SHAPE | NAMED, vocabulary=2000)
        new_model(scratch, "embeddings", lambda: texts, start)
        many = _run(folder, "many", {"model": str(start)}, list(EXITS), rows, smoke, seed)
        found = {f"mrr_{number}": found_at(many / f"exit-{number}", smoke) for number in EXITS[:-1]}
        entries = [_read(SLUG, many, found | {f"mrr_{EXITS[-1]}": found_at(many / "model", smoke)})]
        for number in ALONE:
            cut = {"cut": {"of": str(start), "layers": list(range(number))}}
            alone = _run(folder, f"alone-{number}", cut, [number], rows, smoke, seed)
            entries.append(_read(f"alone-{number}", alone, {f"mrr_{number}": found_at(alone / "model", smoke)}))
        last = _run(folder, "last", {"model": str(start)}, [EXITS[-1]], rows, smoke, seed)
        read = {f"mrr_{number}": found_at(last / "model", smoke, layers=number) for number in EXITS}
        return [*entries, _read("last-only", last, read)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, name: str, student: dict[str, Any], exits: list[int], rows: Any, smoke: bool, seed: int) -> Path:
    recipe = {
        "name": name,
        "output": str(folder),
        "task": "embeddings",
        "student": student | {"max_length": WINDOW},
        "data": {
            "train": rows_file("questions-train", rows),
            "validation": rows_file("questions-validation", questions("validation", 8)),
        },
        "method": {"name": SLUG, "exits": exits},
        "train": {
            "steps": 2 if smoke else STEPS,
            "batch_size": 8 if smoke else 48,
            "learning_rate": RATE,
            "group_by_length": True,
            **UNWATCHED,
            "seed": seed,
        },
    }
    return execute(check(recipe), timed=False).folder


def _read(name: str, folder: Path, metrics: dict[str, float]) -> dict[str, Any]:
    model = open_model(str(folder / "model"), "embeddings").model
    return entry(name, "student" if name == SLUG else "baseline", model, metrics)


@torch.no_grad()
def found_at(folder: Path, smoke: bool, *, layers: int | None = None) -> float:
    """MRR@10 of forms by their questions; of an encoder cut to so many layers, without its last map."""
    opened = open_model(str(folder), "embeddings", max_length=WINDOW)
    if layers is not None:
        opened = _left_at(opened, layers)
    rows = questions("test", 16 if smoke else POOL)
    queries, forms = (embed(opened, [row[side] for row in rows]) for side in ("anchor", "positive"))
    return dense_retrieval(queries, forms, [{place: 1} for place in range(len(rows))], 10)["mrr@10"]


def _left_at(opened: Opened, layers: int) -> Opened:
    """An encoder that is left after some layers, though nobody trained it for that; whole, it keeps its map."""
    model: Any = opened.model
    if layers == len(find_layers(model[0].auto_model)[1]):
        return opened
    model[0].model = keep_layers(model[0].auto_model, list(range(layers)))
    del model[2]
    return opened
