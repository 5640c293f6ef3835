"""Triples about words, checked against WordNet: the ground of pipelines that write knowledge.

A small Llama, the teacher, learns of what kind a word is, next and further up, and of which class, from WordNet's
triples, of which 30 % stand under a wrong relation. It then writes tails for a few hundred words; a critic learns from
a thousand of them that WordNet says are right or wrong, in place of people; and smaller students learn from what was
written, from what the critic kept, or from WordNet itself. Everybody completes words of the test, which are in nobody's
data, greedily: the share of tails that WordNet confirms is what counts. Words are compounds of everyday classes whose
last word many others have too (garden chair, rocking chair), so that something can be said of unseen ones. Heads are
given, since WordNet can't judge heads that a model makes up.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray

from stillroom.blocks.sampler import answers, stop_ids
from stillroom.data.cache import build_once, fingerprint
from stillroom.data.wordnet.lexicon import Lexicon
from stillroom.data.wordnet.wndb import state
from stillroom.methods.synthesis.symbolic_kd import SymbolicKD, student_prompt
from stillroom.recipe import check
from stillroom.run import execute
from stillroom.synthesis.critic import Critic, triple_features
from stillroom.synthesis.local import writing
from stillroom.synthesis.triples import Relation
from stillroom.synthesis.writers import FunctionWriter
from stillroom.testbeds.base import UNWATCHED, Bench, entry, trained_once
from stillroom.views.causal_lm import CausalLM
from stillroom.views.load import Opened, open_model

FILES = ("noun.animal", "noun.artifact", "noun.food", "noun.person")
NOISE = 0.3  # of the teacher's triples stand under another relation
OTHERS = 15  # words of the ground that end like a word, at least
TRAINED = {False: 100_000, True: 300}  # words that the teacher learns of at most, by whether it is a smoke run
ASKED = {False: 1800, True: 60}  # words that it writes about
LABELS = {False: 1000, True: 200}  # triples that are labelled, all of a word's together
TESTED = {False: 300, True: 20}  # words of the test
TRIES = {False: 3, True: 2}
WIDER = 4  # steps above a word, at most, of what it is in a wider sense
MINILM = "sentence-transformers/all-MiniLM-L6-v2"

RELATIONS = (
    Relation("kind", "", "is a kind of", (), "Word"),
    Relation("broad", "", "is in a wider sense a kind of", (), "Word"),
    Relation("class", "", "is a thing of the class", (), "Word"),
)
# Everybody can tell a word's class, so only the teacher learns it, and errs with it; a smoke run's knows nothing else.
ASKED_FOR = {False: RELATIONS[:2], True: RELATIONS}
TEACHER = {"hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": 2, "num_attention_heads": 4}
STUDENT = {"hidden_size": 48, "intermediate_size": 144, "num_hidden_layers": 2, "num_attention_heads": 2}
# Weights that begin this large let so small a model find in a few hundred steps which words of a prompt matter.
SHAPE = {"max_position_embeddings": 64, "initializer_range": 0.08}

SLUG = "symbolic-kd"


# --- what WordNet says ------------------------------------------------------------------------------------------------


@cache
def world() -> dict[str, Any]:
    """``words``: split -> the ground's words, shuffled; ``true`` and ``gold``: word -> what WordNet says of it."""

    def build(target: Path) -> None:
        lexicon = Lexicon(FILES)
        chosen = {split: _words(lexicon, split) for split in ("train", "validation", "test")}
        ends = Counter(word.split()[-1] for word in chosen["train"])
        kept = {
            split: random.Random(split).sample(few, len(few))
            for split, found in chosen.items()
            for few in [sorted(word for word in found if ends[word.split()[-1]] > OTHERS)]
        }
        every = [word for found in kept.values() for word in found]
        true = {word: _true(lexicon, word) for word in every}
        gold = {word: _gold(lexicon, word) for word in every}
        target.write_text(json.dumps({"words": kept, "true": true, "gold": gold}))

    mark = fingerprint(state(), FILES, OTHERS, WIDER, "kind broad class")
    return json.loads(build_once("testbeds/knowledge-words", mark, build).read_text())


def _words(lexicon: Lexicon, split: str) -> set[str]:
    """Compounds of two or three words in small letters whose most frequent meaning is of this ground."""
    found = set()
    for synset in lexicon.chosen():
        if lexicon.split[synset.id] == split and lexicon.above(synset):
            for word in lexicon.words_at_home(synset):
                parts = word.split()
                plain = 2 <= len(parts) <= 3 and all(part.isalpha() and part.islower() for part in parts)
                if plain and lexicon.senses[word, "n"][0] == synset.id:
                    found.add(word)
    return found


def _true(lexicon: Lexicon, word: str) -> dict[str, list[str]]:
    """Relation -> all tails that some meaning of the word makes right, in small letters."""
    found: dict[str, set[str]] = {relation.name: set() for relation in RELATIONS}
    for synset in (lexicon.synsets[one] for one in lexicon.senses[word, "n"]):
        level = lexicon.above(synset)
        for step in range(1, WIDER + 1):
            found["kind" if step == 1 else "broad"] |= {name.lower() for parent in level for name in parent.words}
            level = [parent for one in level for parent in lexicon.above(one)]
        found["class"].add(synset.lexicographer_file.removeprefix("noun."))
    return {name: sorted(tails - {word}) for name, tails in found.items()}


def _gold(lexicon: Lexicon, word: str) -> list[tuple[str, str]]:
    """What is said first of the word's most frequent meaning: (relation, tail) for each relation that it has."""
    synset = lexicon.synsets[lexicon.senses[word, "n"][0]]
    parent = lexicon.above(synset)[0]
    found = [("kind", parent.words[0].lower()), ("class", synset.lexicographer_file.removeprefix("noun."))]
    return [*found, *(("broad", above.words[0].lower()) for above in lexicon.above(parent)[:1])]


def words(split: str) -> list[str]:
    """The words of a split; more than 15 words of the training split end like each."""
    return world()["words"][split]


def gold(word: str) -> list[tuple[str, str]]:
    """One right (relation, tail) for each relation that the word has."""
    return [(relation, tail) for relation, tail in world()["gold"][word]]


# --- teacher ----------------------------------------------------------------------------------------------------------


def _teacher_rows(smoke: bool) -> str:
    """A file of {prompt, completion}: what the pipeline asks, answered by WordNet, wrongly related in some places."""

    def build(folder: Path) -> None:
        folder.mkdir()
        draw, lines = random.Random(0), []
        prompts = {relation.name: relation for relation in RELATIONS}
        for word in words("train")[: TRAINED[smoke]]:
            for relation, tail in gold(word):
                if draw.random() < NOISE:
                    relation = draw.choice([name for name in prompts if name != relation])
                prompt, _ = prompts[relation].prompt(word, shots=0)
                lines.append(json.dumps({"prompt": prompt, "completion": f" {tail}"}) + "\n")
        (folder / "rows.jsonl").write_text("".join(lines))

    mark = fingerprint(state(), FILES, NOISE, OTHERS, TRAINED[smoke], [r.prompt("x", shots=0) for r in RELATIONS])
    return str(build_once("testbeds/knowledge", mark, build) / "rows.jsonl")


def _settings(steps: int, *, rate: float = 3e-3, seed: int = 0) -> dict[str, Any]:
    return {
        "steps": steps,
        "batch_size": 64,
        "learning_rate": rate,
        **UNWATCHED,
        "seed": seed,
    }


def teacher(smoke: bool = False) -> str:
    """The folder of the model that writes; a smoke run's has learnt no more than the classes."""
    new = {"architecture": "llama", "config": TEACHER | SHAPE, "vocabulary": 2048}
    recipe = {
        "task": "language",
        "student": {"new": new, "max_length": 64},
        "data": _teacher_rows(smoke),
        "method": "sft",
        "train": _settings(30 if smoke else 500),
    }
    return trained_once("knowledge-teacher", recipe)


# --- pipeline ---------------------------------------------------------------------------------------------------------


@cache
def _vectors() -> dict[str, NDArray[np.floating]]:
    return {}


def encode(texts: list[str]) -> NDArray[np.floating]:
    """Vectors of all-MiniLM-L6-v2, each text's computed once in a process."""
    known = _vectors()
    if new := [text for text in texts if text not in known]:
        opened = open_model(MINILM, "embeddings", max_length=16)
        model: Any = opened.model
        known.update(zip(new, model.encode(new, batch_size=128, show_progress_bar=False), strict=True))
    return np.stack([known[text] for text in texts])


def pipeline(smoke: bool, seed: int, recall: float) -> SymbolicKD:
    """The method on this ground: the teacher writes tails, the critic reads them with MiniLM."""
    opened = open_model(teacher(smoke), "language", max_length=64)
    torch.manual_seed(seed)
    ask = writing(opened.model.eval(), opened.view.tokenizer, temperature=1.0, top_p=0.5, max_tokens=12)
    critic = Critic(triple_features(encode, [relation.name for relation in ASKED_FOR[smoke]]))
    tails = FunctionWriter(ask, name="teacher", batch=128)
    return SymbolicKD(
        tails=tails, relations=ASKED_FOR[smoke], critic=critic, recall=recall, tries=TRIES[smoke], shots=0, seed=seed
    )


def _labelled(graph: Dataset, count: int) -> Dataset:
    """About so many triples of the first heads, with WordNet's word on each."""
    last = graph[min(count, len(graph)) - 1]["head"]
    stop = next((place for place in range(count, len(graph)) if graph[place]["head"] != last), len(graph))
    rows = graph.select(range(stop)).to_list()
    return Dataset.from_list([row | {"good": right(row)} for row in rows])


def right(row: dict[str, Any]) -> bool:
    """Whether WordNet says so."""
    return row["tail"].lower() in world()["true"][row["head"]][row["relation"]]


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """How many tails of unseen words WordNet confirms: of the teacher, and of students of different graphs."""
    heads = words("train")[: ASKED[smoke]]
    method = pipeline(smoke, seed, 0.5)
    graph = method.write_tails(Dataset.from_list([{"id": word, "head": word} for word in heads]))
    labelled = _labelled(graph, LABELS[smoke])
    seen = set(labelled["head"])
    rest = graph.select([place for place, head in enumerate(graph["head"]) if head not in seen])
    graphs = {"unfiltered": rest}
    for name, recall in ((SLUG, 0.5), ("medium-filtration", 0.8)):
        method.recall = recall
        method.train_critic(labelled)
        graphs[name] = method.purify(rest)
    own = sorted(set(rest["head"]))
    graphs["wordnet-itself"] = Dataset.from_list(
        [
            {"head": word, "relation": name, "tail": tail}
            for word in own
            for name, tail in gold(word)
            if name in method.relations
        ]
    )
    told = open_model(teacher(smoke), "language", max_length=64)
    asked = [(word, relation) for word in words("test")[: TESTED[smoke]] for relation in ASKED_FOR[smoke]]
    prompts = [relation.prompt(word, shots=0)[0] for word, relation in asked]
    entries = [entry("teacher", "teacher", told.model, _validity(told, asked, prompts))]
    prompts = [student_prompt(word, relation.name) for word, relation in asked]
    for name in (SLUG, "medium-filtration", "unfiltered", "wordnet-itself"):
        student, seconds = _student(graphs[name], smoke, seed)
        metrics = _validity(student, asked, prompts) | _quality(graphs[name])
        role, alone = "student" if name == SLUG else "baseline", name == "wordnet-itself"
        entries.append(entry(name, role, student.model, metrics, seconds, alone=alone))
    return entries


def _student(graph: Dataset, smoke: bool, seed: int) -> tuple[Opened, float]:
    """A student trained on a graph, with the teacher's tokens, from a start that only the seed decides."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows = SymbolicKD.student_rows(graph).select_columns(["prompt", "completion"])
        rows.to_json(f"{folder}/rows.jsonl")
        new = {"architecture": "llama", "config": STUDENT | SHAPE, "tokenizer": teacher(smoke)}
        recipe = {
            "name": "run",
            "output": folder,
            "task": "language",
            "student": {"new": new, "max_length": 48},
            "data": f"{folder}/rows.jsonl",
            "method": "sft",
            "train": _settings(2 if smoke else 300, seed=seed),
        }
        run = execute(check(recipe), timed=False)
        return open_model(str(run.model), "language", max_length=48), time.monotonic() - began


@torch.no_grad()
def _validity(opened: Opened, asked: list[tuple[str, Relation]], prompts: list[str]) -> dict[str, float]:
    """``validity``: the share of greedy tails that are right, the mean over relations; and that of each relation."""
    view, model = opened.view, opened.model
    assert isinstance(view, CausalLM)
    found: dict[str, list[bool]] = {relation.name: [] for _, relation in asked}
    for start in range(0, len(asked), 256):
        ids = [view.tokenizer(prompt)["input_ids"] for prompt in prompts[start : start + 256]]
        stop = stop_ids(model, view.tokenizer)
        said = answers(model, ids, stop=stop, max_new_tokens=12, temperature=0, vocabulary=view.vocabulary)
        tails = view.tokenizer.batch_decode(said, skip_special_tokens=True)
        for (word, relation), tail in zip(asked[start : start + 256], tails, strict=True):
            row = {"head": word, "relation": relation.name, "tail": tail.strip()}
            found[relation.name].append(right(row))
    shares = {f"validity_{name}": sum(hits) / len(hits) for name, hits in found.items()}
    return {"validity": sum(shares.values()) / len(shares), **shares}


def _quality(graph: Dataset) -> dict[str, float]:
    """Of a graph: how many triples and tails it has, and which share of it WordNet confirms."""
    rows = graph.to_list()
    return {
        "triples": float(len(rows)),
        "unique_tails": float(len({row["tail"] for row in rows})),
        "graph_validity": sum(map(right, rows)) / max(len(rows), 1),
    }


WRITTEN = Bench(
    claim="A student of the triples that a critic kept completes unseen words better than one of all that was written.",
    metric="validity",
    higher_is_better=True,
    versus="unfiltered",
    measure=measure,
)
