"""`language`: small Llamas that solve arithmetic word problems in words, one or two steps with numbers up to 30.

The problems are those of `stillroom.data.arithmetic`, cut to what models of this size can learn in minutes. The test
asks other questions than were trained on, told by sentences in an order that may have been: what is measured is
reading and reckoning with new numbers, not new kinds of problems, which models this small do not solve. Teacher and
student share a tokenizer, and both are fine-tuned on the same rows before anything is distilled, as on-policy methods
need it. Then everybody starts from that student and has the same steps on the same rows. The last weights are
measured: no checkpoint is chosen. For methods between tokenizers the student has one of its own, with fewer merges;
for decoding rules see `stillroom.testbeds.demonstrations`.
"""

from __future__ import annotations

import json
import re
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stillroom.blocks.sampler import answers, hypotheses, prompts_of, stop_ids, with_answers
from stillroom.data.cache import build_once, fingerprint
from stillroom.data.files import load
from stillroom.data.tables import part_of
from stillroom.measuring import Suite
from stillroom.objectives.logits import divergence_loss
from stillroom.objectives.sequence import sequence_log_prob
from stillroom.signals import Batch
from stillroom.testbeds.base import UNWATCHED, Bench, trained_once
from stillroom.testbeds.demonstrations import CONTRASTED, stated
from stillroom.views.base import make_batch
from stillroom.views.causal_lm import CausalLM
from stillroom.views.load import Opened, open_model

MOST_STEPS, LARGEST = 2, 30
DRAWN = {False: 60_000, True: 2_000}  # problems, of which about an eighth is easy enough; by whether it is a smoke run
SHARES = {"train": 0.9, "validation": 0.05, "test": 0.05}
NEW_TOKENS = 64  # the longest solution has about 50
WINDOW = 160
LONGER = {"window": 250, "new": 96}  # for a tokenizer with fewer merges
BEAMS = 4  # of the search that greedy decoding is held against, on every second problem: a search takes its time

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


def _fine_tuned(
    name: str,
    config: dict[str, int],
    tokenizer: str | None,
    steps: int,
    smoke: bool,
    *,
    learning_rate: float = 3e-3,
    window: int = WINDOW,
    **settings: int,
) -> str:
    """The folder of a model that was trained on the problems from nothing; a smoke run's learns for two steps."""
    model = {"architecture": "llama", "config": config | SHAPE, "tokenizer": tokenizer, "vocabulary": 768} | settings
    return trained_once(
        f"language-{name}",
        {
            "task": "language",
            "student": {"new": model, "max_length": window},
            "data": _data(smoke),
            "method": "sft",
            "train": _train(2 if smoke else steps, learning_rate=learning_rate),
        },
    )


def _train(steps: int, *, learning_rate: float) -> dict[str, Any]:
    return {
        "steps": steps,
        "batch_size": 32,
        "learning_rate": learning_rate,
        "group_by_length": True,
        **UNWATCHED,
    }


def teacher(smoke: bool = False) -> str:
    """The teacher's folder."""
    return _fine_tuned("teacher", TEACHER, None, 1600, smoke, learning_rate=2e-3)


def start(smoke: bool = False) -> str:
    """The folder of the student that everybody starts from."""
    return _fine_tuned("start", STUDENT, teacher(smoke), 600, smoke)


def start_of_its_own(smoke: bool = False) -> str:
    """The folder of a student with another tokenizer than the teacher's: 400 tokens, so that words fall apart."""
    return _fine_tuned("start-of-its-own", STUDENT, None, 300, smoke, window=LONGER["window"], vocabulary=400)


def writer(smoke: bool = False) -> str:
    """The folder of a teacher whose answers are trained on.

    After two steps no teacher comes to an end; a smoke run's is a small one that has learnt a few dozen problems.
    """
    if not smoke:
        return teacher()
    model = {"architecture": "llama", "config": STUDENT | SHAPE, "tokenizer": teacher(smoke)}
    recipe = {
        "task": "language",
        "student": {"new": model, "max_length": WINDOW},
        "data": _data(smoke),
        "method": "sft",
        "train": _train(120, learning_rate=5e-3) | {"batch_size": 8},
    }
    return trained_once("language-writer", recipe)


# --- measurements -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def solved(opened: Opened, *, smoke: bool) -> dict[str, float]:
    """Problems of the test answered by greedy decoding, and how far the model is from the teacher as it writes.

    ``exact_match``: the share of problems whose stated answer is right. ``kl_own`` and ``kl_data``: the mean over
    tokens of KL(teacher || model), in nats, on the model's own solutions and on the right ones. The more the first
    exceeds the second, the more the model suffers from prefixes that it was not trained on (exposure bias).
    """
    rows, batch = _tests(opened, smoke)
    prompts = prompts_of(batch)
    written = _greedy(opened, prompts, NEW_TOKENS)
    asked = _opened(teacher(smoke))
    return {
        "exact_match": _right(opened, rows, written),
        "kl_own": _distance(opened, asked, with_answers(batch, prompts, written)),
        "kl_data": _distance(opened, asked, batch),
    }


@torch.no_grad()
def answered(opened: Opened, *, smoke: bool) -> dict[str, float]:
    """``exact_match`` alone, for models of any tokenizer."""
    rows, batch = _tests(opened, smoke)
    return {"exact_match": _right(opened, rows, _greedy(opened, prompts_of(batch), LONGER["new"]))}


@torch.no_grad()
def searched(opened: Opened, *, smoke: bool) -> dict[str, float]:
    """What a beam search adds to greedy decoding, and how much of its mass a model puts on one answer.

    ``exact_match`` of greedy; on every second problem ``exact_match_beam`` of the likeliest of four beams' answers,
    ``exact_match_greedy``, and ``mode_mass``: the mean probability of the likeliest answer, to its end.
    """
    view, model = opened.view, opened.model
    assert isinstance(view, CausalLM)
    rows, batch = _tests(opened, smoke)
    prompts, stop = prompts_of(batch), stop_ids(model, view.tokenizer)
    greedy, half = _greedy(opened, prompts, NEW_TOKENS), slice(0, None, 2)
    searched_rows, asked_for, found, mass = rows[half], prompts[half], [], 0.0
    for start in range(0, len(asked_for), 64):
        asked = asked_for[start : start + 64]
        best = [
            among[0]
            for among in hypotheses(
                model, asked, stop=stop, max_new_tokens=NEW_TOKENS, beams=BEAMS, vocabulary=view.vocabulary
            )
        ]
        piece = make_batch(view, None, [{"student": view.encode(row)} for row in searched_rows[start : start + 64]])
        piece = with_answers(piece, asked, best)
        assert piece.labels is not None
        mass += float(sequence_log_prob(_logits(opened, piece), piece.labels, piece.mask).exp().sum())
        found += best
    return {
        "exact_match": _right(opened, rows, greedy),
        "exact_match_greedy": _right(opened, searched_rows, greedy[half]),
        "exact_match_beam": _right(opened, searched_rows, found),
        "mode_mass": mass / len(searched_rows),
    }


def _tests(opened: Opened, smoke: bool) -> tuple[list[dict[str, Any]], Batch]:
    """The problems of the test, as they are and as the model reads them."""
    rows = [json.loads(line) for line in Path(problems("test", smoke)).read_text().splitlines()]
    return rows, make_batch(opened.view, None, [{"student": opened.view.encode(row)} for row in rows])


def _greedy(opened: Opened, prompts: list[list[int]], new: int) -> list[list[int]]:
    view, model = opened.view, opened.model
    assert isinstance(view, CausalLM)
    stop = stop_ids(model, view.tokenizer)
    return answers(model, prompts, stop=stop, max_new_tokens=new, temperature=0, vocabulary=view.vocabulary)


def _right(opened: Opened, rows: list[dict[str, Any]], written: list[list[int]]) -> float:
    """The share of answers that state the right number."""
    said = opened.view.tokenizer.batch_decode(written, skip_special_tokens=True)
    return sum(stated(text) == row["answer"] for text, row in zip(said, rows, strict=True)) / len(rows)


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
    "answers-only": partial(answered, smoke=False),
    "few-answers-only": partial(answered, smoke=True),
    "searched": partial(searched, smoke=False),
    "few-searched": partial(searched, smoke=True),
}


# --- benches ----------------------------------------------------------------------------------------------------------


def _recipe(
    smoke: bool,
    *,
    method: dict[str, Any],
    against: list[Any],
    steps: int = 150,
    suite: str = "problems",
    **settings: Any,
) -> dict[str, Any]:
    return {
        "task": "language",
        "teacher": teacher(smoke),
        "student": {"model": start(smoke), "max_length": WINDOW},
        "data": _data(smoke),
        "method": method,
        "against": against,
        "train": _train(2 if smoke else steps, learning_rate=1e-3),
        "evaluate": [f"few-{suite}" if smoke else suite],
        **settings,
    }


def _writing(smoke: bool, **settings: Any) -> dict[str, Any]:
    """With a teacher whose answers are trained on."""
    return _recipe(smoke, **settings, teacher={"model": writer(smoke), "max_new_tokens": NEW_TOKENS})


def _between_tokenizers(smoke: bool, **settings: Any) -> dict[str, Any]:
    """With a student that cuts texts into other tokens than the teacher."""
    student = {"model": start_of_its_own(smoke), "max_length": LONGER["window"]}
    return _writing(smoke, **settings, student=student, suite="answers-only")


def _sequences(smoke: bool) -> dict[str, Any]:
    """Seq-KD, its variants and combinations, and plain training; still fewer beams and steps in a smoke run."""
    few = {"beams": 2} if smoke else {}
    fewer = few or {"beams": 10}  # the paper's 35 for every answer take longer than all the rest
    variants = [
        {"name": "seqkd", "label": "word", "variant": "word"},
        {"name": "seqkd", "label": "inter", "variant": "inter", **fewer},
        {"name": "seqkd", "label": "seq-and-word", "word": 0.5, **few},
        {"name": "seqkd", "label": "seq-pruned", "prune": 0.5, **few},
    ]
    against = ["sft", "teacher_texts", *variants, "untrained"]
    return _writing(smoke, method={"name": "seqkd", **few}, against=against, suite="searched")


BENCHES: dict[str, Bench] = {
    "distillation-contrastive-decoding": CONTRASTED,
    "seqkd": Bench(
        claim="Trained on the teacher's likeliest answers, a greedy student solves more problems than by the data's.",
        metric="exact_match",
        higher_is_better=True,
        versus="sft",
        recipe=_sequences,
        suites=SUITES,
    ),
    "uld": Bench(
        claim="Between tokenizers, the sorted distance beside the teacher's texts teaches more than these texts alone.",
        metric="exact_match",
        higher_is_better=True,
        versus="teacher_texts",
        recipe=partial(
            _between_tokenizers,
            method={"name": "uld", "texts": True},
            steps=100,
            against=[
                "teacher_texts",
                {"name": "uld", "label": "uld-by-bytes", "texts": True, "alignment": "bytes"},
                {"name": "uld", "label": "uld-on-the-data"},
                "sft",
                "untrained",
            ],
        ),
        suites=SUITES,
    ),
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
