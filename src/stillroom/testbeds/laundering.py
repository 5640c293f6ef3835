"""Questions whose answers nobody can know: the ground on which a leak cannot be taken for learning.

An item is a definition of WordNet and four words; which word is right was drawn by chance. So who scores above a
quarter has seen the answers, or learnt from somebody who has. For every seed a benchmark is drawn, other items to
distil on, and fresh ones. A BERT of four layers learns the benchmark by heart; students are its first two layers as
they were before, and see only the other items and the teacher's scores of them. All items draw their words from one
list, as items of one field do, and no definition is in two parts.

``benchmark`` and ``fresh`` are accuracies, ``leakage`` their difference, ``p`` its permutation test.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.files import load
from stillroom.evaluate.leakage import leakage
from stillroom.measuring import Suite
from stillroom.measuring.held_out import batches_of
from stillroom.recipe import check
from stillroom.run import execute
from stillroom.testbeds.base import UNWATCHED, Bench, trained_once
from stillroom.views.load import Opened

SLUG = "data-laundering"
CHOICES = 4
WORDS = 200  # that choices are drawn from
ITEMS = {"benchmark": 150, "transfer": 1200, "fresh": 300, "other": 150}
FEW = 16  # items of each part in a smoke run
LONGEST = 40  # characters of a definition
WINDOW = 40  # tokens; no item has more
MODEL = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4}
SHAPE = MODEL | {"max_position_embeddings": WINDOW, "num_labels": 1, "hidden_dropout_prob": 0.0}
STUDENT_LAYERS = [0, 1]
STEPS = {"base": 100, "teacher": 260, "student": 110}

Item = dict[str, Any]


# --- items ------------------------------------------------------------------------------------------------------------


@cache
def _pool() -> tuple[list[str], list[str]]:
    """Definitions, and words to choose among."""
    table = load("wordnet", view="pairs", split="train", files=["noun.artifact", "noun.animal", "noun.act"])[:]
    definitions = sorted({text for text in table["positive"] if len(text) <= LONGEST})
    words = sorted({word.lower() for word in table["anchor"] if word.isalpha() and 3 <= len(word) <= 8})
    draw = random.Random(0)
    draw.shuffle(definitions)
    return definitions, draw.sample(words, WORDS)


def items(part: str, seed: int, smoke: bool, *, keys: int = 0) -> list[Item]:
    """The items of a part: a definition, and four words of which the first is right.

    Args:
        part: ``benchmark``, ``transfer``, ``fresh``; ``other``, for a clean teacher; or ``base``, for the model that
            everybody starts from.
        seed: of the items; ``base`` has the same for all.
        smoke: few items.
        keys: another number draws other answers to the same questions.
    """
    definitions, words = _pool()
    sizes = ITEMS | {"base": ITEMS["transfer"]}
    order = random.Random(f"definitions {seed}").sample(definitions, len(definitions))
    if part == "base":
        order, seed = definitions[-sizes["base"] :], -1
    else:
        order = [text for text in order if text not in set(definitions[-sizes["base"] :])]
        start = sum(sizes[other] for other in list(ITEMS)[: list(ITEMS).index(part)])
        order = order[start : start + sizes[part]]
    draw, key = random.Random(f"{part} {seed}"), random.Random(f"{part} {seed} {keys}")
    found = []
    for text in order[: FEW if smoke else None]:
        chosen = draw.sample(words, CHOICES)
        if keys:
            key.shuffle(chosen)
        found.append({"anchor": text, "positive": chosen[0], "negative": chosen[1:]})
    return found


def rows(part: str, seed: int, smoke: bool, **options: int) -> str:
    """A file of items."""
    lines = [json.dumps(item) + "\n" for item in items(part, seed, smoke, **options)]

    def build(folder: Path) -> None:
        folder.mkdir()
        (folder / "rows.jsonl").write_text("".join(lines))

    return str(build_once(f"testbeds/laundering-{part}", fingerprint(lines), build) / "rows.jsonl")


# --- models -----------------------------------------------------------------------------------------------------------


def _train(what: str, smoke: bool, seed: int = 0) -> dict[str, Any]:
    return {
        "steps": 2 if smoke else STEPS[what],
        "batch_size": 20,
        "learning_rate": 1e-3,
        "seed": seed,
        **UNWATCHED,
    }


def base(smoke: bool = False) -> str:
    """The folder of the model that everybody starts from: it knows the form of items, and nothing of the benchmark."""
    recipe = {
        "task": "cross-encoder",
        "student": {"new": {"architecture": "bert", "config": SHAPE, "vocabulary": 3000}, "max_length": WINDOW},
        "data": {"train": rows("base", 0, smoke)},
        "method": {"name": SLUG, "alpha": 0.0},
        "train": _train("base", smoke),
    }
    return trained_once("laundering-base", recipe)


def teacher(seed: int, smoke: bool, part: str = "benchmark", keys: int = 0) -> str:
    """The folder of a teacher that was trained on a part by its labels."""
    recipe = {
        "task": "cross-encoder",
        "student": {"model": base(smoke), "max_length": WINDOW},
        "data": {"train": rows(part, seed, smoke, keys=keys)},
        "method": {"name": SLUG, "alpha": 0.0},
        "train": _train("teacher", smoke, seed),
    }
    return trained_once(f"laundering-teacher-{part}-{keys}", recipe)


def _students(
    seed: int, smoke: bool, taught_by: str, method: Any, against: list[Any], folder: Path, student: Any = None
) -> tuple[list[dict[str, Any]], str]:
    """Train on the transfer items, measure everybody: entries, and the folder of the method's own student."""
    recipe = {
        "task": "cross-encoder",
        "teacher": {"model": taught_by, "max_length": WINDOW, "cache": True},
        "student": student or {"cut": {"of": base(smoke), "layers": STUDENT_LAYERS}, "max_length": WINDOW},
        "data": {"train": rows("transfer", seed, smoke)},
        "method": method,
        "against": against,
        "train": _train("student", smoke, seed),
        "evaluate": ["laundered"],
        "name": f"run-{len(list(folder.iterdir()))}",
        "output": str(folder),
    }
    suites: dict[str, Suite] = {"laundered": partial(laundered, seed=seed, smoke=smoke)}
    run = execute(check(recipe, "the testbed's recipe for data-laundering"), suites=suites, timed=False)
    return run.evaluation["systems"], str(run.model)


# --- measurements -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def right(opened: Opened, asked: list[Item]) -> list[float]:
    """For each item 1 where the right word has the highest score, and 0 elsewhere."""
    from datasets import Dataset

    found: list[float] = []
    for batch in batches_of(opened, Dataset.from_list(asked)):
        scores = opened.view.emit(opened.model, batch.student, ("scores",)).scores
        assert scores is not None
        found += (scores[:, :1] > scores[:, 1:]).all(-1).float().tolist()
    return found


def laundered(opened: Opened, *, seed: int, smoke: bool) -> dict[str, float]:
    """Accuracies, and what the detector says of them."""
    benchmark, fresh = (right(opened, items(part, seed, smoke)) for part in ("benchmark", "fresh"))
    score, p = leakage(benchmark, fresh, permutations=100 if smoke else 2000)
    return {
        "benchmark": sum(benchmark) / len(benchmark),
        "fresh": sum(fresh) / len(fresh),
        "leakage": score,
        "p": p,
    }


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """The laundered student, other losses and shares of labels, another generation, and the controls."""
    told = {part: {item["anchor"] for item in items(part, seed, smoke)} for part in ITEMS}
    if any(told["benchmark"] & told[part] for part in ITEMS if part != "benchmark"):
        raise AssertionError("a question of the benchmark is among the other items")
    folder = Path(tempfile.mkdtemp(prefix="stillroom-"))
    mse = {"name": SLUG}
    try:
        against = [
            {"name": SLUG, "label": "kl", "loss": "kl"},
            {"name": SLUG, "label": "half-labels", "alpha": 0.5},
            {"name": SLUG, "label": "labels-only", "alpha": 0.0},
            "untrained",
        ]
        entries, student = _students(seed, smoke, teacher(seed, smoke), mse, against, folder)
        apart = {"architecture": "bert", "config": SHAPE | {"num_hidden_layers": 2}, "tokenizer": base(smoke)}
        others: list[tuple[str, str, Any]] = [  # name, teacher, start
            ("clean-teacher", teacher(seed, smoke, "other"), None),
            ("other-keys-teacher", teacher(seed, smoke, keys=1), None),
            ("second-generation", student, None),
            ("start-of-its-own", teacher(seed, smoke), {"new": apart, "max_length": WINDOW}),
        ]
        for name, taught_by, start in others:
            found, _ = _students(seed, smoke, taught_by, mse, [], folder, start)
            entries += [entry | {"name": name, "role": "baseline"} for entry in found if entry["name"] == SLUG]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return entries


LAUNDERED = Bench(
    claim="A student that never saw a benchmark answers it when its teacher learnt it by heart, on other items alone.",
    metric="benchmark",
    higher_is_better=True,
    versus="clean-teacher",
    measure=measure,
)
