"""Word vectors of definitions and docstrings, and a lexicon: the ground of what is done to vectors afterwards.

Skip-gram vectors of 100 dimensions are trained on WordNet's glosses and on docstrings, anew for every seed. The lexicon
is WordNet's synonyms, hypernyms and hyponyms, without any pair of words that people judged: what is asked in the end
must not have been told as an edge. Everything is held against people's judgements of likeness (SimLex-999) and of
relatedness (WordSim-353).
"""

from __future__ import annotations

import random
import re
import time
from functools import cache
from typing import Any

import numpy as np

from stillroom.data import judgements
from stillroom.data.files import load
from stillroom.data.pydocs import Source, functions
from stillroom.errors import need
from stillroom.evaluate.similarity import word_similarity
from stillroom.methods.lexical.retrofitting import Retrofitting, lexicon_graph
from stillroom.testbeds.base import Bench, entry
from stillroom.testbeds.described import PACKAGES

WIDTH = 100
GLOSSES, DOCSTRINGS = 94_000, 4_000  # at most so many
EPOCHS = 3
SPLITS = ("train", "validation", "test")

Pairs = list[tuple[str, str]]


@cache
def corpus(smoke: bool) -> list[list[str]]:
    """Texts as lists of words in lower case."""
    glosses = load("wordnet", view="glosses", split="train", limit=1500 if smoke else GLOSSES)["text"]
    packages = Source(("huggingface_hub",) if smoke else PACKAGES)
    docstrings = functions("train", packages)["docstring"][: 100 if smoke else DOCSTRINGS]
    return [re.findall(r"[a-z]+", text.lower()) for text in (*glosses, *docstrings)]


@cache
def lexicon() -> dict[str, Pairs]:
    """Relation -> (word, neighbour), both ways: ``synonyms``; ``above`` and below; ``judged``, what people judged.

    A judged pair is in the last list alone.
    """
    asked = {frozenset(pair[:2]) for name in ("simlex999", "wordsim353") for pair in judged(name)}
    found: dict[str, Pairs] = {"synonyms": [], "above": [], "judged": []}
    for split in SPLITS:
        table = load("wordnet", view="constraints", split=split)[:]
        for first, second, relation in zip(table["first"], table["second"], table["relation"], strict=True):
            if relation == "antonym":
                continue
            kind = "synonyms" if relation == "synonym" else "above"
            found["judged" if frozenset((first, second)) in asked else kind] += [(first, second), (second, first)]
    return found


def judged(name: str) -> list[tuple[str, str, float]]:
    """Pairs of words in lower case, with people's judgement."""
    rows = {"simlex999": judgements.simlex999, "wordsim353": judgements.wordsim353}[name]()
    return [(row["first"].lower(), row["second"].lower(), row["score"]) for row in rows]


def skip_gram(texts: list[list[str]], *, seed: int, smoke: bool) -> tuple[list[str], np.ndarray]:
    """Words, and their vectors [words, 100]."""
    word2vec = need("gensim.models", "lexical").Word2Vec
    model = word2vec(
        texts,
        vector_size=WIDTH,
        window=5,
        min_count=2 if smoke else 5,
        sg=1,
        negative=5,
        sample=1e-3,
        epochs=1 if smoke else EPOCHS,
        workers=1,  # more would be faster, and different every time
        seed=seed,
    )
    return list(model.wv.index_to_key), np.asarray(model.wv.vectors, dtype=np.float64)


def likeness(words: list[str], vectors: np.ndarray) -> dict[str, float]:
    """Spearman correlation with people, and the share of pairs that have vectors."""
    known = dict(zip(words, vectors, strict=True))
    found: dict[str, float] = {}
    for name in ("simlex999", "wordsim353"):
        spearman, coverage = word_similarity(known, judged(name))
        found |= {name: spearman, f"{name}_coverage": coverage}
    return found


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """Vectors as they were trained, retrofitted, and trained with the lexicon among the texts."""
    texts = corpus(smoke)
    words, vectors = skip_gram(texts, seed=seed, smoke=smoke)
    known = set(words)
    listed = {kind: [pair for pair in pairs if known.issuperset(pair)] for kind, pairs in lexicon().items()}
    everything = listed["synonyms"] + listed["above"]
    lexicons = {
        "retrofitting": everything,
        "synonyms-only": listed["synonyms"],
        "shuffled-lexicon": _shuffled(everything, seed),
        "judged-pairs-told": everything + listed["judged"],
    }
    entries = [_told("trained", words, vectors)]
    for name, pairs in lexicons.items():
        began = time.perf_counter()
        moved = Retrofitting(graph=lexicon_graph(words, pairs)).fit_transform(vectors)
        entries.append(_told(name, words, moved, time.perf_counter() - began))
    began = time.perf_counter()
    told = [list(pair) for pair in everything[::2]]  # one way: skip-gram reads both
    joint = skip_gram([*texts, *told], seed=seed, smoke=smoke)
    return [*entries, _told("lexicon-in-training", *joint, time.perf_counter() - began)]


def _shuffled(pairs: Pairs, seed: int) -> Pairs:
    """Each word with the neighbours of others, as many as it had."""
    neighbours = [second for _, second in pairs]
    random.Random(seed).shuffle(neighbours)
    return [(first, other) for (first, _), other in zip(pairs, neighbours, strict=True)]


def _told(name: str, words: list[str], vectors: np.ndarray, seconds: float | None = None) -> dict[str, Any]:
    role = "student" if name == "retrofitting" else "baseline"
    return entry(name, role, vectors.size, likeness(words, vectors), seconds)


RETROFITTED = Bench(
    claim="Moved towards their neighbours in a lexicon, word vectors agree better with people on likeness.",
    metric="simlex999",
    higher_is_better=True,
    versus="trained",
    measure=measure,
)
