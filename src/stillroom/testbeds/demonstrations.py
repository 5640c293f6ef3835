"""Word problems after a demonstration: the ground of decoding rules, on which nothing is trained but the model.

A small Llama learns to solve problems of one step that follow another, solved one, written alike; so it reads
demonstrations, and a wrong one leads it astray. Then everybody decodes with this model, the same problems after the
same demonstration, which the seeds draw. What differs between them is the rule alone.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import torch
from transformers import LogitsProcessorList

from stillroom.blocks.sampler import stop_ids
from stillroom.data.cache import build_once, fingerprint
from stillroom.methods.language.distillation_contrastive_decoding import (
    Demonstration,
    DistillationContrastiveDecoding,
    contrast_prompts,
)
from stillroom.testbeds.base import UNWATCHED, Bench, entry, trained_once
from stillroom.views.base import pad
from stillroom.views.causal_lm import CausalLM
from stillroom.views.load import Opened, open_model

SHOWN, ASKED = "Q: {question}\nA:{rationale}\n\n", "Q: {question}\nA:"
ASKED_PROBLEMS = {False: 300, True: 8}
NEW_TOKENS = 40
WINDOW = 192
MODEL = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
AMATEUR = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
STEPS = {False: 600, True: 2}

SLUG = "distillation-contrastive-decoding"
# Name -> settings of the rule, whether the amateur's demonstration is wrong, whether it is the smaller model.
RULES: dict[str, tuple[dict[str, Any], bool, bool]] = {
    SLUG: ({"beta": 0.8, "dropout": 0.2}, True, False),
    "dcd-0.5": ({"beta": 0.5, "dropout": 0.2}, True, False),
    "dcd-0.2": ({"beta": 0.2, "dropout": 0.2}, True, False),
    "contrastive-prompt": ({"beta": 0.8, "dropout": 0.0}, True, False),
    "dropout-only": ({"beta": 0.8, "dropout": 0.2}, False, False),
    "contrastive-decoding": ({"beta": 0.8, "dropout": 0.0}, False, True),
}


def stated(text: str) -> str | None:
    """The number that a solution states in the end; None where it states none."""
    found = re.search(r"The answer is (\d+)\.", text)
    return found[1] if found else None


def _problems(part: str, smoke: bool) -> list[dict[str, str]]:
    """The problems of one step."""
    from stillroom.testbeds.language import problems

    rows = [json.loads(line) for line in Path(problems(part, smoke)).read_text().splitlines()]
    return [row for row in rows if row["completion"].count(" = ") == 1]


def _pairs(part: str, smoke: bool, count: int, seed: int) -> list[tuple[Demonstration, dict[str, str]]]:
    """Problems of a part, each with a solved one of the training part."""
    draw = random.Random(f"{part} {seed}")
    known, asked = _problems("train", smoke), _problems(part, smoke)
    rows = draw.sample(asked, min(count, len(asked)))
    shown = [draw.choice([other for other in draw.sample(known, 2) if other != row]) for row in rows]
    return [(Demonstration(one["prompt"], one["completion"]), row) for one, row in zip(shown, rows, strict=True)]


def _training_rows(smoke: bool) -> str:
    """A file of {prompt, completion}: a solved problem and a question, and its solution."""
    lines = []
    for demonstration, row in _pairs("train", smoke, 1_000_000, 0):
        prompt, _ = contrast_prompts([demonstration], row["prompt"], wrong=None, shown=SHOWN, asked=ASKED)
        lines.append(json.dumps({"prompt": prompt, "completion": row["completion"]}) + "\n")

    def build(folder: Path) -> None:
        folder.mkdir()
        (folder / "rows.jsonl").write_text("".join(lines))

    return str(build_once("testbeds/demonstrations", fingerprint(lines), build) / "rows.jsonl")


def reader(smoke: bool = False, *, small: bool = False) -> str:
    """The folder of the model that decodes, or of a smaller one with its tokens."""
    shape = (AMATEUR if small else MODEL) | {"max_position_embeddings": 256, "tie_word_embeddings": True}
    scratch = {"architecture": "llama", "config": shape, "vocabulary": 768}
    recipe = {
        "task": "language",
        "student": {"new": scratch | ({"tokenizer": reader(smoke)} if small else {}), "max_length": WINDOW},
        "data": {"train": _training_rows(smoke)},
        "method": "sft",
        "train": {
            "steps": STEPS[smoke],
            "batch_size": 32,
            "learning_rate": 3e-3,
            **UNWATCHED,
        },
    }
    return trained_once(f"demonstrations-{'small' if small else 'reader'}", recipe)


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """How many problems of the test each rule solves: entries as in a run's evaluation.json."""
    opened = open_model(reader(smoke), "language", max_length=WINDOW)
    small = open_model(reader(smoke, small=True), "language").model.eval()
    model: Any = opened.model.eval()
    pairs = _pairs("test", smoke, ASKED_PROBLEMS[smoke], seed)
    both = [contrast_prompts([shown], row["prompt"], shown=SHOWN, asked=ASKED) for shown, row in pairs]
    experts = [opened.view.tokenizer(expert)["input_ids"] for expert, _ in both]
    spoilt = [opened.view.tokenizer(amateur)["input_ids"] for _, amateur in both]
    entries = [entry("greedy", "baseline", model, {"exact_match": _share(opened, experts, pairs, None)})]
    for name, (settings, wrong, other) in RULES.items():
        torch.manual_seed(seed)
        rules = [
            DistillationContrastiveDecoding(
                model, (spoilt if wrong else experts)[start : start + 64], amateur=small if other else None, **settings
            )
            for start in range(0, len(pairs), 64)
        ]
        share = _share(opened, experts, pairs, rules)
        entries.append(entry(name, "student" if name == SLUG else "baseline", model, {"exact_match": share}))
    return entries


def _share(
    opened: Opened,
    prompts: list[list[int]],
    pairs: list[tuple[Demonstration, dict[str, str]]],
    rules: list[DistillationContrastiveDecoding] | None,
) -> float:
    """The share of problems answered rightly, 64 at a time; each batch has a rule of its own."""
    view, model = opened.view, opened.model
    generate: Any = model.generate
    assert isinstance(view, CausalLM)
    said: list[str] = []
    for number, start in enumerate(range(0, len(prompts), 64)):
        backwards, real = pad([prompt[::-1] for prompt in prompts[start : start + 64]])
        out = generate(
            input_ids=backwards.flip(1),
            attention_mask=real.flip(1).long(),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=stop_ids(model, view.tokenizer),
            pad_token_id=view.tokenizer.pad_token_id,
            logits_processor=LogitsProcessorList([] if rules is None else [rules[number]]),
        )
        said += view.tokenizer.batch_decode(out[:, backwards.shape[1] :], skip_special_tokens=True)
    return sum(stated(text) == row["answer"] for text, (_, row) in zip(said, pairs, strict=True)) / len(pairs)


CONTRASTED = Bench(
    claim="Contrasted with itself under dropout and a wrong demonstration, a model solves more than greedily.",
    metric="exact_match",
    higher_is_better=True,
    versus="greedy",
    measure=measure,
)
