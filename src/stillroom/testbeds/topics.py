"""Definitions of ten kinds of things: the ground of topic models, on texts as they are.

The texts are WordNet's definitions from ten lexicographer files, which no model is told, embedded by all-MiniLM-L6-v2;
their words are embedded by it as well, one by one. Nothing is cleaned: whoever wants to leave out stop words must do so
by itself. Each model gives ten topics of ten words. The seeds draw three quarters of the texts, and starts.

Words are compared by skip-gram vectors of all of WordNet's definitions (``coherence``) and by how they meet in these
texts (``npmi``). ``purity`` holds each text's strongest topic against its lexicographer file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF, LatentDirichletAllocation
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.files import load
from stillroom.errors import need
from stillroom.evaluate import topics as measures
from stillroom.methods.lexical.s3_topics import SemanticSignalSeparation, vocabulary
from stillroom.testbeds.base import Bench, entry
from stillroom.testbeds.word_vectors import corpus, skip_gram

FILES = (
    *("noun.animal", "noun.plant", "noun.food", "noun.body", "noun.person"),
    *("noun.artifact", "noun.feeling", "noun.location", "noun.time", "noun.communication"),
)
TEXTS = {False: 400, True: 30}  # of each file, by whether it is a smoke run
DRAWN = 0.75  # share of them that a seed takes
LEAST = {False: 10, True: 3}  # documents that a word must stand in
TOPICS, TOP = 10, 10
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


class Texts(NamedTuple):
    """Definitions, their vectors [N, 384], and the number of each one's lexicographer file."""

    texts: list[str]
    vectors: np.ndarray
    labels: list[int]


@cache
def definitions(smoke: bool) -> Texts:
    """As many texts of each file."""
    texts: list[str] = []
    labels: list[int] = []
    table = load("wordnet", view="definitions", split="train")
    everything, files = table[:], np.array([table.features["label"].names.index(name) for name in FILES])
    for label, number in enumerate(files):
        places = np.flatnonzero(np.array(everything["label"]) == number)
        chosen = np.random.default_rng(0).permutation(places)[: TEXTS[smoke]]
        texts += [everything["text"][place] for place in chosen]
        labels += [label] * len(chosen)
    return Texts(texts, embedded(texts), labels)


def embedded(texts: list[str]) -> np.ndarray:
    """[texts, 384], computed once and kept."""

    def build(target: Path) -> None:
        model = need("sentence_transformers", "embeddings").SentenceTransformer(str(_encoder()), device="cpu")
        found = np.asarray(model.encode(texts, batch_size=64, show_progress_bar=False), dtype=np.float32)
        with target.open("wb") as file:
            np.save(file, found)

    return np.load(build_once("testbeds/embedded", fingerprint(ENCODER, texts), build)).astype(np.float64)


def _encoder() -> Path:
    from stillroom.views.locate import locate

    return locate(ENCODER)


@cache
def word_space(smoke: bool) -> dict[str, np.ndarray]:
    """Word -> its skip-gram vector."""

    def build(target: Path) -> None:
        words, vectors = skip_gram(texts, seed=0, smoke=smoke)
        with target.open("wb") as file:
            np.savez(file, words=np.array(words), vectors=vectors.astype(np.float32))

    texts = corpus(smoke)
    kept = np.load(build_once("testbeds/word-space", fingerprint(len(texts), texts[::997]), build))
    return dict(zip(kept["words"].tolist(), kept["vectors"], strict=True))


# --- models: each gives topics, the strongest topic of each text, and the seconds that it took ------------------------

Found = tuple[list[list[str]], np.ndarray]


def _separated(importance: Any) -> Callable[[Texts, list[str], int], Found]:
    def find(drawn: Texts, words: list[str], seed: int) -> Found:
        model = SemanticSignalSeparation(topics=TOPICS, importance=importance, random_state=seed)
        signals = model.fit_transform(drawn.vectors)
        described = model.describe(words, embedded(words), top=TOP)
        return [topic.positive for topic in described], np.abs(signals).argmax(1)

    return find


def _counted(kind: str) -> Callable[[Texts, list[str], int], Found]:
    def find(drawn: Texts, words: list[str], seed: int) -> Found:
        counts = CountVectorizer(vocabulary=words)
        model = {
            "lda": LatentDirichletAllocation(TOPICS, random_state=seed),
            "nmf": NMF(TOPICS, random_state=seed, max_iter=500),
        }[kind]
        shares = model.fit_transform(counts.transform(drawn.texts))
        return [[words[n] for n in row.argsort()[::-1][:TOP]] for row in model.components_], shares.argmax(1)

    return find


def _clustered(drawn: Texts, words: list[str], seed: int) -> Found:
    """k-means on the embeddings; words by class-based TF-IDF (Grootendorst, 2022): f_wc log(1 + A / f_w)."""
    counts = CountVectorizer(vocabulary=words)
    where = KMeans(TOPICS, n_init=10, random_state=seed).fit_predict(drawn.vectors)
    table = counts.transform(drawn.texts)
    by_class = np.stack([np.asarray(table[where == n].sum(0)).ravel() for n in range(TOPICS)]).astype(np.float64)
    weights = by_class * np.log1p(by_class.sum(1).mean() / np.maximum(by_class.sum(0), 1))
    return [[words[n] for n in row.argsort()[::-1][:TOP]] for row in weights], where


MODELS: dict[str, Callable[[Texts, list[str], int], Found]] = {
    "s3-topics": _separated("combined"),
    "lda": _counted("lda"),
    "nmf": _counted("nmf"),
    "clusters": _clustered,
    "s3-axial": _separated("axial"),
    "s3-angular": _separated("angular"),
}


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """What each model tells of the same texts."""
    everything = definitions(smoke)
    chosen = np.random.default_rng(seed).permutation(len(everything.texts))
    chosen = np.sort(chosen[: int(DRAWN * len(chosen))])
    drawn = Texts(
        [everything.texts[n] for n in chosen], everything.vectors[chosen], [everything.labels[n] for n in chosen]
    )
    words = vocabulary(drawn.texts, least=LEAST[smoke], stop_words=None)
    embedded(words)  # whoever comes first must not pay for it
    return [_told(name, find, drawn, words, seed, smoke) for name, find in MODELS.items()]


def _told(
    name: str, find: Callable[[Texts, list[str], int], Found], drawn: Texts, words: list[str], seed: int, smoke: bool
) -> dict[str, Any]:
    began = time.perf_counter()
    topics, strongest = find(drawn, words, seed)
    seconds = time.perf_counter() - began
    coherence = measures.topic_coherence(topics, word_space(smoke))
    read = CountVectorizer().build_analyzer()
    metrics = {
        "diversity": measures.topic_diversity(topics),
        "coherence": coherence.value,
        "coverage": coherence.coverage,
        "npmi": measures.topic_npmi(topics, [set(read(text)) for text in drawn.texts]),
        "stop_words": measures.stop_word_share(topics, ENGLISH_STOP_WORDS),
        "purity": measures.purity(strongest.tolist(), drawn.labels),
    }
    return entry(name, "student" if name == "s3-topics" else "baseline", 0, metrics, seconds)


SEPARATED = Bench(
    claim="Independent axes of raw texts are told by more different words than factors of their word counts.",
    metric="diversity",
    higher_is_better=True,
    versus="nmf",
    measure=measure,
)
