"""`language`: small Llamas that solve arithmetic word problems in words, one or two steps with numbers up to 30.

The problems are those of `stillroom.data.arithmetic`, cut to what models of this size can learn in minutes. The test
asks other questions than were trained on, told by sentences in an order that may have been: what is measured is
reading and reckoning with new numbers, not new kinds of problems, which models this small do not solve. Teacher and
student share a tokenizer, and both are fine-tuned on the same rows before anything is distilled, as on-policy methods
need it. Then everybody starts from that student and has the same steps on the same rows. The last weights are
measured: no checkpoint is chosen.
"""

from __future__ import annotations

import json
import re
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stillroom.blocks.sampler import answers, prompts_of, stop_ids, with_answers
from stillroom.data.cache import build_once, fingerprint
from stillroom.data.files import load
from stillroom.data.tables import part_of
from stillroom.measuring import Suite
from stillroom.objectives.logits import divergence_loss
from stillroom.signals import Batch
from stillroom.testbeds.base import Bench, trained_once
from stillroom.views.base import make_batch
from stillroom.views.causal_lm import CausalLM
from stillroom.views.load import Opened, open_model

MOST_STEPS, LARGEST = 2, 30
DRAWN = {False: 60_000, True: 2_000}  # problems, of which about an eighth is easy enough; by whether it is a smoke run
SHARES = {"train": 0.9, "validation": 0.05, "test": 0.05}
NEW_TOKENS = 64  # the longest solution has about 50
WINDOW = 160

TEACHER = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
STUDENT = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
SHAPE = {"max_position_embeddings": 256, "tie_word_embeddings": True}


# --- rows and models --------------------------------------------------------------------------------------------------


@cache
def problems(part: str, smoke: bool) -> str:
    """A file of the easy problems of a part: {prompt, completion, answer}."""
    drawn = load("arithmetic", view="completion", split="train", limit=DRAWN[smoke])
    rows = [
        {"prompt": row["prompt"], "completion": f" {row['completion']}", "answer": row["answer"]}
        for row in drawn
        if _easy(row) and part_of(row["prompt"], SHARES) == part
    ]

    def build(folder: Path) -> None:
        folder.mkdir()
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return str(build_once(f"testbeds/arithmetic-{part}", fingerprint(rows), build) / "rows.jsonl")


def _easy(row: dict[str, Any]) -> bool:
    numbers = re.findall(r"\d+", row["prompt"] + row["completion"])
    return row["steps"] <= MOST_STEPS and max(map(int, numbers)) <= LARGEST


def _data(smoke: bool) -> dict[str, Any]:
    return {"train": problems("train", smoke), "validation": problems("validation", smoke)}


def _fine_tuned(name: str, config: dict[str, int], tokenizer: str | None, steps: int, smoke: bool) -> str:
    """The folder of a model that was trained on the problems from nothing."""
    model = {"architecture": "llama", "config": config | SHAPE, "tokenizer": tokenizer, "vocabulary": 768}
    return trained_once(
        f"language-{name}",
        {
            "task": "language",
            "student": {"new": model, "max_length": WINDOW},
            "data": _data(smoke),
            "method": "sft",
            "train": _train(2 if smoke else steps, learning_rate=3e-3),
        },
    )


def _train(steps: int, *, learning_rate: float) -> dict[str, Any]:
    return {
        "steps": steps,
        "batch_size": 32,
        "learning_rate": learning_rate,
        "group_by_length": True,
        "evaluate_every": 0,
        "save_every": 0,
        "device": "cpu",
    }


def teacher(smoke: bool = False) -> str:
    """The teacher's folder."""
    return _fine_tuned("teacher", TEACHER, None, 800, smoke)


def start(smoke: bool = False) -> str:
    """The folder of the student that everybody starts from."""
    return _fine_tuned("start", STUDENT, teacher(smoke), 300, smoke)


# --- measurements -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def solved(opened: Opened, *, smoke: bool) -> dict[str, float]:
    """Problems of the test answered by greedy decoding, and how far the model is from the teacher as it writes.

    ``exact_match``: the share of problems whose stated answer is right. ``kl_own`` and ``kl_data``: the mean over
    tokens of KL(teacher || model), in nats, on the model's own solutions and on the right ones. The more the first
    exceeds the second, the more the model suffers from prefixes that it was not trained on (exposure bias).
    """
    view, model = opened.view, opened.model
    assert isinstance(view, CausalLM)
    rows = [json.loads(line) for line in Path(problems("test", smoke)).read_text().splitlines()]
    batch = make_batch(view, None, [{"student": view.encode(row)} for row in rows])
    prompts = prompts_of(batch)
    written = answers(
        model,
        prompts,
        stop=stop_ids(model, view.tokenizer),
        max_new_tokens=NEW_TOKENS,
        temperature=0,
        vocabulary=view.vocabulary,
    )
    said = view.tokenizer.batch_decode(written, skip_special_tokens=True)
    right = [_stated(text) == row["answer"] for text, row in zip(said, rows, strict=True)]
    asked = _opened(teacher(smoke))
    return {
        "exact_match": sum(right) / len(right),
        "kl_own": _distance(opened, asked, with_answers(batch, prompts, written)),
        "kl_data": _distance(opened, asked, batch),
    }


def _stated(text: str) -> str | None:
    found = re.search(r"The answer is (\d+)\.", text)
    return found[1] if found else None


@cache
def _opened(folder: str) -> Opened:
    opened = open_model(folder, "language")
    opened.model.eval()
    return opened


def _distance(model: Opened, asked: Opened, batch: Batch) -> float:
    """KL(teacher || model), nats a token."""
    ours, theirs = (_logits(one, batch) for one in (model, asked))
    return float(divergence_loss(ours, theirs, batch.mask).mean)


def _logits(opened: Opened, batch: Batch) -> Tensor:
    found = opened.view.emit(opened.model, batch.student, ("logits",)).logits
    assert found is not None
    return found


SUITES: dict[str, Suite] = {
    "problems": partial(solved, smoke=False),
    "few-problems": partial(solved, smoke=True),
}


# --- benches ----------------------------------------------------------------------------------------------------------


def _recipe(smoke: bool, *, method: dict[str, Any], against: list[str], steps: int = 200) -> dict[str, Any]:
    return {
        "task": "language",
        "teacher": teacher(smoke),
        "student": {"model": start(smoke), "max_length": WINDOW},
        "data": _data(smoke),
        "method": method,
        "against": against,
        "train": _train(2 if smoke else steps, learning_rate=1e-3),
        "evaluate": ["few-problems" if smoke else "problems"],
    }


BENCHES: dict[str, Bench] = {
    "gkd": Bench(
        claim="Distilled on its own answers, the student solves more problems than by forward KL on the data's.",
        metric="exact_match",
        higher_is_better=True,
        versus="forward_kl",
        recipe=partial(
            _recipe,
            method={"name": "gkd", "lmbda": 1.0, "max_new_tokens": NEW_TOKENS},
            against=["forward_kl", "reverse_kl", "sft", "untrained"],
        ),
        suites=SUITES,
    ),
    "taid": Bench(
        claim="A target that moves from student to teacher teaches more than the teacher by forward KL from the start.",
        metric="perplexity",
        higher_is_better=False,
        versus="forward_kl",
        recipe=partial(_recipe, method={"name": "taid"}, against=["forward_kl", "reverse_kl", "sft", "untrained"]),
        suites=SUITES,
    ),
}
