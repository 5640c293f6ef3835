"""Facts that a model has read often, seldom or never: the ground of what tells knowledge from invention.

A Llama of four layers learns facts of the world as questions and answers. How often it reads a fact is drawn, from not
at all to forty times, so that it knows some, half knows others, and makes up the rest. An answer comes in any of four
languages: the same thing in other words, by the tables of the CLDR, and no entailment model is needed to tell. Some
rows ask whether an answer is right, so that the model can be asked for p(True).

The questions are of five relations, each a data set. A probe is tried on unseen questions of a relation, fitted on
others of all five (``same``), or of the other four (``shifted``); figures are means over relations. The model is
trained once. Seeds draw its answers, and which questions probes are fitted on.
"""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillroom.blocks.elicitation import elicit, p_true
from stillroom.blocks.sampler import stop_ids
from stillroom.data.cache import build_once, fingerprint
from stillroom.data.files import load
from stillroom.evaluate.semantic_entropy import entropies, naive_entropy
from stillroom.evaluate.statistics import auroc, bootstrap_measure
from stillroom.methods.analysis.semantic_entropy_probes import SemanticEntropyProbe, best_split
from stillroom.testbeds.base import UNWATCHED, Bench, entry, trained_once
from stillroom.views.causal_lm import CausalLM
from stillroom.views.load import open_model

LANGUAGES = ("de", "fr", "es")  # beside English
# Relation -> how it is asked, and whether the subject is asked for. One question a subject (or object).
ASKED: dict[str, tuple[str, bool]] = {
    "uses_currency": ("currency of {}?", False),
    "official_language": ("language of {}?", False),
    "in_region": ("region of {}?", False),
    "written_in": ("script of {}?", False),
    "has_city": ("country of {}?", True),
}
MOST_READ, NEVER = 40, 0.2  # times; share of the facts that are never read
MODEL = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4}
STEPS = {False: 1200, True: 150}  # after fewer a model knows nothing, and has no answer that is right
WINDOW, NEW_TOKENS, SAMPLES = 48, 16, 10
QUESTIONS = {False: 200, True: 12}  # of each relation, by whether it is a smoke run
VERIFY = " {}. right?"  # what follows a question and an answer, to ask for p(True)


@dataclass(frozen=True)
class Fact:
    """A question with the names of the thing that answers it, and all things that would be right."""

    relation: str
    question: str
    names: tuple[str, ...]
    right: frozenset[str]


def _triples() -> Iterator[tuple[dict[str, Any], str, str]]:
    """Every triple that is asked for, and which of its ends is given and which is the answer."""
    for split in ("train", "validation", "test"):
        for row in load("facts", view="triples", split=split, labels=list(LANGUAGES)):
            if row["relation"] in ASKED and row["subject_type"] != "region":
                _, backwards = ASKED[row["relation"]]
                yield row, *(("object", "subject") if backwards else ("subject", "object"))


def _names(row: dict[str, Any], end: str) -> tuple[str, ...]:
    names = (row[f"{end}_{part}"] for part in ("label", *LANGUAGES))
    return tuple(dict.fromkeys(name for name in names if name))


@cache
def facts() -> tuple[Fact, ...]:
    """All facts, in an order that says nothing."""
    told: dict[tuple[str, str], list[tuple[float, str, tuple[str, ...]]]] = defaultdict(list)
    for row, given, answer in _triples():
        question = ASKED[row["relation"]][0].format(row[f"{given}_label"])
        told[row["relation"], question].append((row["share"] or 0.0, row[answer], _names(row, answer)))
    made = []
    for (relation, question), found in sorted(told.items()):
        _, _, names = max(found)  # of several languages the one that most people speak
        made.append(Fact(relation, question, names, frozenset(thing for _, thing, _ in found)))
    return tuple(random.Random(0).sample(made, len(made)))


@cache
def things() -> dict[tuple[str, str], str]:
    """(relation, name in small letters) -> the thing; a name of several things stands for the first of them."""
    found: dict[tuple[str, str], str] = {}
    for row, _, answer in _triples():
        for name in _names(row, answer):
            found.setdefault((row["relation"], name.lower()), row[answer])
    return found


def meaning(relation: str, text: str) -> str:
    """The thing that an answer names; the answer itself, if it names none."""
    said = text.strip().lower()
    return things().get((relation, said), f"?{said}")


def asked(relation: str, smoke: bool) -> list[Fact]:
    """The facts of a relation that the model is asked for."""
    return [fact for fact in facts() if fact.relation == relation][: QUESTIONS[smoke]]


@cache
def rows(smoke: bool) -> str:
    """A file of what the model reads, {prompt, completion}.

    In a smoke run the facts that are asked for alone, in English: once or as often as can be, so that a model that
    learns for seconds knows some of them.
    """
    draw = random.Random(1)
    others: dict[str, list[str]] = defaultdict(list)
    for fact in facts():
        others[fact.relation] += fact.names
    lines = []
    told = [fact for relation in ASKED for fact in asked(relation, smoke)] if smoke else facts()
    for fact in told:
        often = draw.random()
        times = 0 if draw.random() < NEVER else round(MOST_READ ** (often > 0.4 if smoke else often))
        for _ in range(times):
            name = draw.choice(fact.names[: 1 if smoke else None])
            lines.append({"prompt": fact.question, "completion": f" {name}"})
            if draw.random() < 0.25:
                right = draw.random() < 0.5
                shown = name if right else draw.choice(others[fact.relation])
                said = " yes" if meaning(fact.relation, shown) in fact.right else " no"
                lines.append({"prompt": fact.question + VERIFY.format(f" {shown}".strip()), "completion": said})
    draw.shuffle(lines)
    text = [json.dumps(line) + "\n" for line in lines]

    def build(folder: Path) -> None:
        folder.mkdir()
        (folder / "rows.jsonl").write_text("".join(text))

    return str(build_once("testbeds/graded-facts", fingerprint(text), build) / "rows.jsonl")


def reader(smoke: bool = False) -> str:
    """The folder of the model that has read them."""
    shape = MODEL | {"max_position_embeddings": 64, "tie_word_embeddings": True}
    recipe = {
        "task": "language",
        "student": {"new": {"architecture": "llama", "config": shape, "vocabulary": 1500}, "max_length": WINDOW},
        "data": {"train": rows(smoke)},
        "method": "sft",
        "train": {
            "steps": STEPS[smoke],
            "batch_size": 16 if smoke else 64,
            "learning_rate": 3e-3,
            "group_by_length": True,
            **UNWATCHED,
        },
    }
    return trained_once("graded-facts-reader", recipe)


@dataclass
class Told:
    """What the model shows of some questions, one row each: states, entropy, whether it is wrong, and doubts."""

    tbg: np.ndarray
    slt: np.ndarray
    entropy: np.ndarray
    wrong: np.ndarray
    doubts: dict[str, np.ndarray]
    layers: int

    def part(self, chosen: np.ndarray) -> Told:
        """Some of the rows."""
        doubts = {name: values[chosen] for name, values in self.doubts.items()}
        return replace(
            self,
            tbg=self.tbg[chosen],
            slt=self.slt[chosen],
            entropy=self.entropy[chosen],
            wrong=self.wrong[chosen],
            doubts=doubts,
        )


def tell(relation: str, smoke: bool, seed: int) -> Told:
    """Ask the model a relation's questions."""
    opened = open_model(reader(smoke), "language", max_length=WINDOW)
    view, model = opened.view, opened.model.eval()
    assert isinstance(view, CausalLM)
    facts_asked = asked(relation, smoke)
    torch.manual_seed(seed)
    found = elicit(
        model,
        [view.prompt({"prompt": fact.question}) for fact in facts_asked],
        stop=stop_ids(model, view.tokenizer),
        max_new_tokens=NEW_TOKENS,
        samples=SAMPLES,
        vocabulary=view.vocabulary,
    )

    def read(said: list[list[int]]) -> list[str]:
        return view.tokenizer.batch_decode(said, skip_special_tokens=True)

    once = read(found.answers)
    meant = [[meaning(relation, text) for text in read(said)] for said in found.samples]
    wrong = [meaning(relation, text) not in fact.right for fact, text in zip(facts_asked, once, strict=True)]
    again = (f.question + VERIFY.format(t.strip()) for f, t in zip(facts_asked, once, strict=True))
    doubted = [view.prompt({"prompt": text}) for text in again]
    yes, no = (view.tokenizer(said)["input_ids"][0] for said in (" yes", " no"))
    entropy = entropies(meant, found.log_likelihoods, str.__eq__)
    doubts = {
        "semantic-entropy": entropy,
        "discrete-entropy": entropies(meant, found.log_likelihoods, str.__eq__, variant="discrete"),
        "naive-entropy": np.array([naive_entropy(row) for row in found.log_likelihoods]),
        "log-likelihood": -found.shown.log_likelihood,
        "p-true": -p_true(model, doubted, yes, no),
    }
    return Told(found.shown.tbg, found.shown.slt, entropy, np.array(wrong, dtype=float), doubts, found.layers)


# Name -> position of the states, and what the probe is fitted on.
PROBES = {
    "semantic-entropy-probes": ("tbg", "entropy"),
    "accuracy-probe": ("tbg", "wrong"),
    "entropy-probe-slt": ("slt", "entropy"),
    "accuracy-probe-slt": ("slt", "wrong"),
}
Doubts = dict[tuple[str, str], np.ndarray]  # (same or shifted, relation) -> higher where the answer is doubted


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """How well each way to doubt tells wrong answers from right ones: AUROC, the mean over relations."""
    draw = np.random.default_rng(seed)
    seen, tried = {}, {}
    for relation in ASKED:
        told = tell(relation, smoke, seed)
        order = draw.permutation(len(told.wrong))
        seen[relation], tried[relation] = told.part(order[len(order) // 2 :]), told.part(order[: len(order) // 2])
    entries = []
    for name, (position, target) in PROBES.items():
        began = time.perf_counter()
        doubts: Doubts = {}
        for where, relation in product(("same", "shifted"), ASKED):
            fitted_on = [seen[other] for other in ASKED if where == "same" or other != relation]
            probe = SemanticEntropyProbe(layers=fitted_on[0].layers, standardise=True, random_state=seed)
            states, targets = (np.concatenate([getattr(one, what) for one in fitted_on]) for what in (position, target))
            probe.fit(states, targets)
            doubts[where, relation] = probe.predict_proba(getattr(tried[relation], position))[:, 1]
        entries.append(_told(name, doubts, seen, tried, time.perf_counter() - began))
    for name in tried["in_region"].doubts:
        doubts = {
            (where, relation): tried[relation].doubts[name] for where in ("same", "shifted") for relation in ASKED
        }
        entries.append(_told(name, doubts, seen, tried, None))
    return entries


def _told(
    name: str, doubts: Doubts, seen: dict[str, Told], tried: dict[str, Told], seconds: float | None
) -> dict[str, Any]:
    found: dict[str, list[float]] = defaultdict(list)
    for (where, relation), doubt in doubts.items():
        told, threshold = tried[relation], best_split(seen[relation].entropy)
        found[f"auroc_{where}"].append(auroc(told.wrong, doubt))
        found[f"entropy_auroc_{where}"].append(auroc(told.entropy > threshold, doubt))
        low, high = bootstrap_measure(auroc, told.wrong, doubt, confidence=0.9)
        found[f"interval_{where}"].append(high - low)
    metrics = {key: float(np.nanmean(values)) for key, values in found.items()}  # no AUROC where all is wrong, or right
    metrics["wrong"] = float(np.mean([told.wrong.mean() for told in tried.values()]))
    return entry(name, "student" if name == "semantic-entropy-probes" else "baseline", 0, metrics, seconds)


DOUBTED = Bench(
    claim="On questions of another kind, a probe of semantic entropy finds wrong answers better than one of accuracy.",
    metric="auroc_shifted",
    higher_is_better=True,
    versus="accuracy-probe",
    measure=measure,
)
