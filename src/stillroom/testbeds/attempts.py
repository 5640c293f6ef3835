"""Few solved problems and many with answers alone: the ground of `dpo-self-training`.

The problems are those of the family `language`, of one or two steps with numbers up to 30. Their solutions carry a
calculator's marks: samples are drawn with one, and everybody is measured with it, as in the paper, and without.
Everybody begins with one small Llama that can read the questions and has never seen one solved. The student alone is
fine-tuned on those that are labelled; classic self-training and DPO-ST have the same problems, rounds, samples and
fine-tuning steps beside. What could be reached is shown by a student that is told all solutions.
"""

from __future__ import annotations

import json
import random
import re
import tempfile
import time
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import torch

from stillroom.blocks.calculator import Calculator
from stillroom.data.cache import build_once, fingerprint
from stillroom.methods.reasoning.dpo_self_training import SelfTraining
from stillroom.testbeds import language
from stillroom.testbeds.base import Bench, entry
from stillroom.testbeds.small_llama import parameters, train, untrained, writer
from stillroom.verify.answers import number_in, same_number

LABELLED = {False: 250, True: 8}
QUESTIONS = {False: 500, True: 12}
TESTED = {False: 200, True: 4}
READING = {False: 300, True: 2}
STEPS = {False: 120, True: 2}
PREFERRING = {False: 30, True: 1}
ROUNDS, SAMPLES = 2, {False: 3, True: 1}
NEW_TOKENS = {False: 64, True: 4}
CONFIG = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
OPENING, CLOSING = "<<", " >>."  # the full stop, too: the tokenizer makes one token of both
_VERSION = 1


def marked(solution: str) -> str:
    """The sums of a solution between a calculator's marks."""
    return re.sub(r"(\d+ [-+*/] \d+ = \d+)\.", rf"{OPENING} \1{CLOSING}", solution)


@cache
def rows(part: str, smoke: bool) -> list[dict[str, str]]:
    """The problems of a part: {prompt, completion, answer}."""
    read = map(json.loads, Path(language.problems(part, smoke)).read_text().splitlines())
    return [{**row, "prompt": f"{row['prompt']}\n", "completion": marked(row["completion"].strip())} for row in read]


def reader(smoke: bool = False) -> str:
    """The folder of the model that everybody starts from: it says questions again, and names their numbers."""

    def build(folder: Path) -> None:
        known = rows("train", smoke)
        read = []
        for row in known:
            numbers = " ".join(re.findall(r"\d+", row["prompt"]))
            read.append({"prompt": f"{row['prompt']}Again:\n", "completion": row["prompt"].strip()})
            read.append({"prompt": f"{row['prompt']}Numbers:\n", "completion": f" {numbers}"})
        texts = [row["prompt"] + row["completion"] for row in known]
        start = untrained(folder / "untrained", CONFIG, texts, 900)
        train(folder, start, read, steps=READING[smoke], learning_rate=6e-3)

    mark = fingerprint(_VERSION, CONFIG, READING[smoke], OPENING, CLOSING)
    return str(build_once("testbeds/attempts-reader", mark, build) / "run" / "model")


def drawn(smoke: bool, seed: int) -> list[dict[str, str]]:
    """The training questions of a seed, all solved."""
    known = rows("train", smoke)
    return random.Random(seed).sample(known, min(QUESTIONS[smoke], len(known)))


def questions(smoke: bool, seed: int) -> list[dict[str, str]]:
    """The training questions of a seed; only the first ones keep their solutions."""
    every, few = drawn(smoke, seed), LABELLED[smoke]
    return every[:few] + [{"prompt": row["prompt"], "answer": row["answer"]} for row in every[few:]]


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """Fine-tune, self-train, and self-train with DPO: entries as in a run's evaluation.json."""
    start, known = reader(smoke), questions(smoke, seed)
    entries = []
    with tempfile.TemporaryDirectory() as place:
        folders = (Path(place) / str(number) for number in count())

        def fine_tune(given: list[dict[str, str]]) -> str:
            return train(
                next(folders), start, given, steps=STEPS[smoke], learning_rate=4e-3, schedule="cosine", seed=seed
            )[0]

        def prefer(model: str, pairs: list[dict[str, str]]) -> str:
            return train(
                next(folders),
                model,
                pairs,
                method="dpo-self-training",
                steps=PREFERRING[smoke],
                learning_rate=2e-4,
                schedule="cosine",
                batch_size=16,
                seed=seed,
            )[0]

        def sample(model: str) -> Any:
            torch.manual_seed(seed)
            return writer(model, new_tokens=NEW_TOKENS[smoke], processors=_calculator)

        began = time.monotonic()
        settings: dict[str, Any] = {"rounds": ROUNDS, "samples": SAMPLES[smoke], "relabels": SAMPLES[smoke]}
        alone = SelfTraining(known, fine_tune, sample, **settings)
        first = alone.warm_up()
        entries.append(_tried("sft", "baseline", first, smoke, time.monotonic() - began))
        began = time.monotonic()
        every = [{"prompt": row["prompt"], "completion": row["completion"]} for row in drawn(smoke, seed)]
        entries.append(_tried("all-labelled", "baseline", fine_tune(every), smoke, time.monotonic() - began))
        for name, learn in (("self-training", None), ("dpo-self-training", prefer)):
            began = time.monotonic()
            loop = SelfTraining(known, fine_tune, sample, learn, **settings)
            loop.model = first  # the same f_0 for both
            for _ in range(ROUNDS):
                loop.round()
            found = {f"right_{number}": float(told.right) for number, told in enumerate(loop.history, 1)}
            role = "student" if name == "dpo-self-training" else "baseline"
            entries.append(_tried(name, role, loop.model, smoke, time.monotonic() - began, **found))
    return entries


def _tried(name: str, role: str, model: str, smoke: bool, seconds: float, **found: float) -> dict[str, Any]:
    asked = rows("test", smoke)[: TESTED[smoke]]
    prompts = [row["prompt"] for row in asked]

    def share(**extra: Any) -> float:
        said = writer(model, new_tokens=NEW_TOKENS[smoke], **extra)(prompts, 1, 0.0)
        right = [
            same_number(number_in(text), number_in(row["answer"])) for (text,), row in zip(said, asked, strict=True)
        ]
        return sum(right) / len(right)

    metrics = {"exact_match": share(processors=_calculator), "without_calculator": share(), **found}
    return entry(name, role, parameters(model), metrics, seconds, alone=name == "sft")


def _calculator(tokenizer: Any) -> list[Any]:
    return [Calculator(tokenizer, opening=OPENING, closing=CLOSING, before=" ")]


ATTEMPTED = Bench(
    claim="Self-trained with DPO on its right and wrong solutions, a model solves more problems than self-trained.",
    metric="exact_match",
    higher_is_better=True,
    versus="self-training",
    measure=measure,
)
