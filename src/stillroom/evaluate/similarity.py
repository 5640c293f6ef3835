"""Vectors against people's judgements of likeness: word pairs (SimLex-999, WordSim-353) and documents (Lee).

The measure is the Spearman correlation of cosine and judgement: people's scales have no fixed distances, only an
order. The judgements themselves come as arguments (`stillroom.data.judgements` reads them). Results are NaN where all
cosines are equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from stillroom.evaluate.correlation import spearman


class WordSimilarity(NamedTuple):
    """Spearman correlation over the pairs whose words both have a vector, and the share of pairs that are such."""

    spearman: float
    coverage: float


def word_similarity(vectors: Mapping[str, ArrayLike], pairs: Sequence[tuple[str, str, float]]) -> WordSimilarity:
    """Word vectors against judged pairs of words.

    Pairs with a word that has no vector are left out and show in ``coverage``: a correlation over the easy half of the
    pairs must not be compared with one over all.

    Args:
        vectors: word -> [D].
        pairs: (word, word, judgement), higher is more alike.

    Raises:
        ValueError: fewer than two pairs are covered.
    """
    known = [(first, second, score) for first, second, score in pairs if first in vectors and second in vectors]
    if len(known) < 2:
        raise ValueError(f"{len(known)} of {len(pairs)} pairs have vectors; a correlation needs at least 2")
    left = np.array([vectors[first] for first, _, _ in known], dtype=np.float64)
    right = np.array([vectors[second] for _, second, _ in known], dtype=np.float64)
    return WordSimilarity(pair_similarity(left, right, [score for *_, score in known]), len(known) / len(pairs))


def pair_similarity(first: ArrayLike, second: ArrayLike, judgements: ArrayLike) -> float:
    """Spearman correlation of the cosine of two texts with how alike people found them; in [-1, 1].

    Args:
        first: [N, D] vectors of one side.
        second: [N, D] of the other.
        judgements: [N], higher is more alike.
    """
    cosines = (_unit(first) * _unit(second)).sum(1)
    return spearman(cosines, np.asarray(judgements, dtype=np.float64))


def document_similarity(vectors: ArrayLike, judgements: ArrayLike) -> float:
    """Spearman correlation over all pairs of documents with the judged likeness (Lee et al., 2005); in [-1, 1].

    Args:
        vectors: [N, D], one a document.
        judgements: [N, N], symmetric; each pair counts once, and no document is compared with itself.
    """
    units, judged = _unit(vectors), np.asarray(judgements, dtype=np.float64)
    if judged.shape != (len(units), len(units)):
        raise ValueError(f"{len(units)} documents need a square of judgements, not one of shape {judged.shape}")
    pairs = np.triu_indices(len(units), k=1)
    return spearman((units @ units.T)[pairs], judged[pairs])


def _unit(vectors: ArrayLike) -> np.ndarray:
    rows = np.asarray(vectors, dtype=np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
