"""Questions about countries and what they mean: the ground of few-shot semantic parsers.

The questions are those of `stillroom.data.facts`: each has a canonical wording, which stands for one logical form,
and three others. A small Llama learns English from texts of this world alone: sentences about all countries, and
training questions in all wordings, a country's together, but never which of them mean the same. It is then tuned on a
few pairs of a question in another wording and its canonical wording, or its form, and parses other wordings of
questions about other countries. What it may write are the canonical wordings, or the forms, of the test's questions; a
free search with the same beam may write anything. A parse is right if its form gives the answer of the gold form.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.facts import load
from stillroom.data.facts.logic import answer
from stillroom.errors import UserError
from stillroom.methods.parsing.constrained_lm_parser import ConstrainedLMParser, Parse, training_rows
from stillroom.recipe import check
from stillroom.run import execute
from stillroom.testbeds.base import UNWATCHED, Bench, entry, trained_once
from stillroom.views.load import Opened, open_model

MODEL = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4}
SHAPE = {"max_position_embeddings": 256, "initializer_range": 0.08}
WINDOW = 224
PAIRS = {False: (200, 50), True: (8,)}  # that a model is tuned on; the first number is what the claim is tested with
ASKED = {False: 120, True: 6}  # questions of the test
BEAM = 5
KINDS = (  # skeletons whose questions name one or two things, so that all canonical wordings stay near 300
    *("population", "literacy", "currency", "official_languages", "main_language", "count_official", "region"),
    *("more_people", "city_country", "city_currency"),
)

SLUG = "constrained-lm-parser"


@cache
def questions(split: str) -> list[dict[str, Any]]:
    """The questions of a split in English, of the chosen kinds."""
    found = load("questions", split, None, 0)
    kept = ("question", "canonical", "form", "skeleton", "wording", "countries", "id")
    return [{name: row[name] for name in kept} for row in found if row["skeleton"] in KINDS]


def _texts(smoke: bool) -> str:
    """A file of texts: what is known of two countries, in any order; and training questions about one country."""

    def build(folder: Path) -> None:
        folder.mkdir()
        draw = random.Random(0)
        asked_of: dict[str, list[str]] = defaultdict(list)
        for row in questions("train"):
            asked_of[row["countries"][0]].append(row["question"])
        told = _told()
        texts = []
        for _ in range(1 if smoke else 25):
            names = draw.sample(sorted(told), len(told))
            for pair in zip(names[::2], names[1::2], strict=False):
                said = [one for name in pair for one in draw.sample(told[name], min(len(told[name]), 4))]
                texts.append(" ".join(draw.sample(said, len(said))))
            texts += [" ".join(draw.sample(own, min(len(own), 4))) for own in asked_of.values()]
        draw.shuffle(texts)
        (folder / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

    mark = fingerprint([row["question"] for row in questions("train")], SENTENCES, smoke)
    return str(build_once("testbeds/meanings", mark, build) / "rows.jsonl")


SENTENCES = {
    "in_region": ("{a} lies in {b}.", "In {b} one finds {a}."),
    "uses_currency": ("People in {a} pay with the {b}.", "The {b} is the money of {a}."),
    "official_language": ("The government of {a} speaks {b}.", "{b} is official in {a}."),
    "has_city": ("{b} is a city in {a}.", "A city of {a} is {b}."),
    "has_population": ("{b} people live in {a}.", "The population of {a} is {b}."),
}


def _told() -> dict[str, list[str]]:
    """Country -> sentences about it, each with its name; of all countries, as a model that reads knows all names."""
    found: dict[str, list[str]] = defaultdict(list)
    for split in ("train", "validation", "test"):
        for row in load("triples", split, None, 0):
            if row["subject_type"] == "country" and row["relation"] in SENTENCES:
                names = {"a": row["subject_label"], "b": row["object_label"]}
                found[row["subject"]] += [one.format(**names) for one in SENTENCES[row["relation"]]]
    return found


def _settings(steps: int, rate: float, *, batch: int = 16, seed: int = 0) -> dict[str, Any]:
    return {
        "steps": steps,
        "batch_size": batch,
        "learning_rate": rate,
        "group_by_length": True,
        **UNWATCHED,
        "seed": seed,
    }


def reader(smoke: bool = False) -> str:
    """The folder of the model that knows the world's English."""
    new = {"architecture": "llama", "config": MODEL | SHAPE, "vocabulary": 1536}
    recipe = {
        "task": "language",
        "student": {"new": new, "max_length": WINDOW},
        "data": _texts(smoke),
        "method": "sft",
        "train": _settings(2 if smoke else 800, 2e-3, batch=24),
    }
    return trained_once("meanings-reader", recipe)


def pairs(count: int, seed: int, target: str) -> list[tuple[str, str]]:
    """So many training questions in other wordings, of all kinds alike, each with its target column."""
    draw = random.Random(seed)
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in questions("train"):
        if row["wording"]:
            by_kind[row["skeleton"]].append(row)
    for rows in by_kind.values():
        draw.shuffle(rows)
    kinds = sorted(by_kind)
    chosen = [by_kind[kinds[place % len(kinds)]][place // len(kinds)] for place in range(count)]
    return [(row["question"], row[target]) for row in chosen]


def tuned(count: int, target: str, smoke: bool, seed: int) -> tuple[Opened, float]:
    """The model tuned on so many pairs, and the seconds that took."""
    model, began = reader(smoke), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows = training_rows(pairs(count, seed, target))
        Path(f"{folder}/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe = {
            "name": "run",
            "output": folder,
            "task": "language",
            "student": {"model": model, "max_length": WINDOW},
            "data": f"{folder}/rows.jsonl",
            "method": "sft",
            "train": _settings(2 if smoke else 150, 1e-3, seed=seed),
        }
        run = execute(check(recipe), timed=False)
        return open_model(str(run.model), "language", max_length=WINDOW), time.monotonic() - began


def asked(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """Test questions in other wordings."""
    rows = [row for row in questions("test") if row["wording"]]
    return random.Random(f"asked {seed}").sample(rows, ASKED[smoke])


@cache
def language(target: str) -> dict[str, str]:
    """What may be written -> its form: the canonical wordings of the test's questions, or their forms themselves."""
    return {row[target]: row["form"] for row in questions("test")}


def scored(rows: list[dict[str, Any]], parses: list[list[Parse]], target: str) -> dict[str, float]:
    """Shares of the questions.

    ``denotation``: the answer is that of the gold form; ``exact``: the sentence is the gold one; ``exact@5``: it is
    among the beam's; ``valid``: what is written is a form that has an answer, or a sentence that stands for one.
    """
    right = exact = among = valid = 0
    for row, found in zip(rows, parses, strict=True):
        text, form = (found[0].text, found[0].meaning) if found else ("", None)
        said = _answer(form or (text if target == "form" else ""))
        valid += said is not None
        right += said == answer(row["form"])
        exact += text == row[target]
        among += any(one.text == row[target] for one in found)
    shares = {"denotation": right, "exact": exact, f"exact@{BEAM}": among, "valid": valid}
    return {name: count / len(rows) for name, count in shares.items()}


def _answer(form: str) -> list[Any] | None:
    """None for a text that is no form, or that takes too long to be answered."""
    try:
        return answer(form)
    except UserError:
        return None


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """How many questions are answered rightly: constrained or free, to canonical wordings or to forms."""
    rows = asked(smoke, seed)
    said = [row["question"] for row in rows]
    entries: list[dict[str, Any]] = []
    for count in PAIRS[smoke]:
        for target, name in (("canonical", "canonical"), ("form", "meaning")):
            opened, seconds = tuned(count, target, smoke, seed)
            for constrained in (True, False):
                parser = ConstrainedLMParser(
                    opened.model,
                    opened.view.tokenizer,
                    language=language(target),
                    constrained=constrained,
                    shots=0,
                    beam=BEAM,
                    batch=32,
                )
                metrics = scored(rows, parser.parse(said), target)
                label = f"{'constrained' if constrained else 'free'}-{name}-{count}"
                entries.append(entry(label, "baseline", opened.model, metrics, seconds))
    entries[0] |= {"name": SLUG, "role": "student"}
    for one in entries[1:4]:
        one["name"] = one["name"].rpartition("-")[0]
    return entries


PARSED = Bench(
    claim="Constrained to canonical sentences, a model tuned on 200 pairs answers more than one free to write forms.",
    metric="denotation",
    higher_is_better=True,
    versus="free-meaning",
    measure=measure,
)
