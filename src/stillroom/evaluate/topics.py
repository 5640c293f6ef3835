"""Are topics told by different words, and do the words of each belong together?

Topics are lists of words, the most important first, of equal or different lengths.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Topics = Sequence[Sequence[str]]


class Coherence(NamedTuple):
    """The mean cosine of two words of one topic, and the share of the words that have a vector."""

    value: float
    coverage: float


def topic_diversity(topics: Topics) -> float:
    """The share of different words among those of all topics (Dieng, Ruiz and Blei, 2020); in (0, 1]."""
    words = _words(topics)
    return len(set(words)) / len(words)


def topic_coherence(topics: Topics, vectors: Mapping[str, ArrayLike]) -> Coherence:
    """The mean cosine of any two words of a topic, over topics, in a space of word vectors.

    ``external`` where the vectors come from other texts, ``internal`` where from the topics' own. Words without a
    vector are left out and show in ``coverage``; so is a topic with fewer than two that have one.

    Raises:
        ValueError: no topic has two words with vectors.
    """
    words = _words(topics)
    found = []
    for topic in topics:
        known = np.array([vectors[word] for word in topic if word in vectors], dtype=np.float64)
        if len(known) > 1:
            units = known / np.maximum(np.linalg.norm(known, axis=1, keepdims=True), 1e-12)
            found.append(float((units @ units.T)[np.triu_indices(len(units), k=1)].mean()))
    if not found:
        raise ValueError("no topic has two words with vectors; take vectors of another corpus")
    return Coherence(float(np.mean(found)), sum(word in vectors for word in words) / len(words))


def topic_npmi(topics: Topics, documents: Sequence[Collection[str]]) -> float:
    """Normalised pointwise mutual information of any two words of a topic, over topics; in [-1, 1].

    Two words that never meet in a document count -1, two that come in all documents 1.

    Args:
        topics: lists of words.
        documents: the words of each document, as sets.
    """
    words = set(_words(topics))
    where = {word: {place for place, document in enumerate(documents) if word in document} for word in words}
    found = []
    for topic in topics:
        pairs = [_npmi(where[one], where[other], len(documents)) for one, other in combinations(topic, 2)]
        found += [sum(pairs) / len(pairs)] if pairs else []
    if not found:
        raise ValueError("topics need two words each for any two of them to meet")
    return sum(found) / len(found)


def stop_word_share(topics: Topics, stop_words: Collection[str]) -> float:
    """The share of stop words among the words of all topics, in [0, 1]."""
    words = _words(topics)
    return sum(word in stop_words for word in words) / len(words)


def purity(assigned: Sequence[int], labels: Sequence[int]) -> float:
    """The share of documents whose topic's most frequent class is their own, in (0, 1]."""
    if len(assigned) != len(labels) or not len(labels):
        raise ValueError(f"as many topics as labels are needed, not {len(assigned)} and {len(labels)}")
    topics, classes = (np.unique(np.asarray(side), return_inverse=True)[1] for side in (assigned, labels))
    table = np.zeros((topics.max() + 1, classes.max() + 1))
    np.add.at(table, (topics, classes), 1)
    return float(table.max(1).sum() / len(labels))


def _npmi(one: set[int], other: set[int], count: int) -> float:
    both = len(one & other) / count
    if both == 0:
        return -1.0
    if both == 1:
        return 1.0
    return math.log(both / (len(one) * len(other) / count**2)) / -math.log(both)


def _words(topics: Topics) -> list[str]:
    words = [word for topic in topics for word in topic]
    if not words:
        raise ValueError("there is no topic with a word")
    return words
