"""Small Llamas made, trained and asked outside a bench's recipe: what grounds that train several times a seed share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stillroom.blocks.sampler import answers, stop_ids
from stillroom.recipe import Scratch, check
from stillroom.run import execute
from stillroom.students.open import new_model, train_tokenizer
from stillroom.views.causal_lm import CausalLM
from stillroom.views.load import Opened, open_model

# Weights drawn wider than Llama's own 0.02, which is meant for widths of thousands: models this small then learn to
# copy numbers in 200 steps, and not in 1,000.
SHAPE = {"max_position_embeddings": 256, "tie_word_embeddings": True, "initializer_range": 0.1}


def untrained(folder: Path, config: Mapping[str, Any], texts: Iterable[str], vocabulary: int) -> str:
    """Write a Llama with a tokenizer of these texts, in which each number below 200 is one token."""
    numbers = " ".join(map(str, range(200)))
    tokenizer = train_tokenizer([*texts, *[f" {numbers}"] * 200], vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text("{}")  # where a tokenizer lies is told by it
    new_model(
        Scratch(architecture="llama", config={**SHAPE, **config}, tokenizer=str(folder)), "language", lambda: [], folder
    )
    return str(folder)


def train(folder: Path, start: str, rows: Sequence[Mapping[str, Any]], **settings: Any) -> tuple[str, float]:
    """Train a model on rows; the folder of the trained one, and the seconds it took.

    Args:
        folder: for the rows and the run.
        start: the folder of the model to begin with.
        rows: to learn from.
        settings: ``method`` (a name, or plain data), ``window``, and those of a recipe's ``train``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    method, window = settings.pop("method", "sft"), settings.pop("window", 160)
    plain = {"batch_size": 32, "betas": [0.9, 0.95], "group_by_length": True, "evaluate_every": 0, "save_every": 0}
    recipe = {
        "name": "run",
        "output": str(folder),
        "task": "language",
        "student": {"model": start, "max_length": window},
        "data": {"train": str(file), "validation": {"source": str(file), "limit": 8}},
        "method": method,
        "train": {**plain, "device": "cpu", **settings},
    }
    began = time.monotonic()
    return str(execute(check(recipe), timed=False).model), time.monotonic() - began


def writer(folder: str, *, new_tokens: int, processors: Callable[[Any], list[Any]] | None = None) -> Any:
    """A function of prompts, n and temperature that gives n texts a prompt, written by the model in this folder.

    Args:
        folder: of the model.
        new_tokens: of a text, at most.
        processors: the tokenizer to further logits processors.
    """
    opened = open_model(folder, "language")
    extra = processors(opened.view.tokenizer) if processors else []

    def write(prompts: Sequence[str], n: int, temperature: float) -> list[list[str]]:
        repeated = [prompt for prompt in prompts for _ in range(n)]
        said = _said(opened, repeated, new_tokens, temperature, extra)
        return [said[start : start + n] for start in range(0, len(said), n)]

    return write


def _said(opened: Opened, prompts: list[str], new: int, temperature: float, extra: list[Any]) -> list[str]:
    """The texts, in the order of the prompts; those of like length are written together."""
    view, model = opened.view, opened.model
    assert isinstance(view, CausalLM)
    ids = view.tokenizer(prompts)["input_ids"]
    order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    said = [""] * len(ids)
    for start in range(0, len(order), 128):
        places = order[start : start + 128]
        written = answers(
            model,
            [ids[place] for place in places],
            stop=stop_ids(model, view.tokenizer),
            max_new_tokens=new,
            temperature=temperature,
            vocabulary=view.vocabulary,
            processors=extra,
        )
        texts = view.tokenizer.batch_decode(written, skip_special_tokens=True)
        for place, text in zip(places, texts, strict=True):
            said[place] = text
    return said


def parameters(folder: str) -> int:
    """How many a saved model has."""
    return sum(parameter.numel() for parameter in open_model(folder, "language").model.parameters())
