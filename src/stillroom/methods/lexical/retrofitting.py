"""Retrofitting: word vectors are moved towards their neighbours in a lexicon.

**Paper**: Faruqui, Dodge, Jauhar, Dyer, Hovy and Smith 2015, "Retrofitting Word Vectors to Semantic Lexicons" (NAACL
2015, arXiv 1411.4166).

**Idea**: A lexicon says which words belong together, corpora say what else words have in common. So after training,
whatever trained them, each word's vector is moved towards those of its neighbours in the lexicon, and held near where
it was; a convex problem that a few sweeps over the vocabulary solve.

**Objective**: with vectors p_i [D] as they came, weights alpha_i and beta_ij and the lexicon's edges E, the result q is

    argmin over q of  sum_i [ alpha_i |q_i - p_i|^2 + sum_{(i,j) in E} beta_ij |q_i - q_j|^2 ],

by ten sweeps of q_i = (alpha_i p_i + sum_j beta_ij q_j) / (alpha_i + sum_j beta_ij), word after word in the order of
the vocabulary, each with what the sweep has changed already. By default alpha_i = 1 and beta_ij = 1 / degree(i).

**Kept and changed**: The update is the authors' own: a word is drawn by the words that its own entry lists, and not by
those that list it. So sweeps lead to the solution of (D_alpha + B) q = D_alpha p with one row a word, which is where
the objective (with half of beta) is least if beta_ij = beta_ji, and a fixed point otherwise; ``solver="direct"`` goes
there at once. A sweep is one triangular solve and gives what a loop over words would. The authors visit words in the
order of a Python set; here it is the vocabulary's. A word is no neighbour of itself, and an edge that is listed twice
counts once.

**Use it when**: vectors are given and cannot be trained again, and similarity matters more than relatedness. Like
scikit-learn's ``TSNE`` it has no ``transform``: it moves the words that it is fitted on, and says nothing of others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse.linalg import splu
from sklearn.base import BaseEstimator, TransformerMixin

from stillroom.evaluate.arrays import matrix

__all__ = [
    "Retrofitting",
    "lexicon_graph",
    "lexicon_word",
]

NUMBER, PUNCTUATION = "---num---", "---punc---"


class Retrofitting(TransformerMixin, BaseEstimator):
    """Word vectors [words, D], moved towards their neighbours in a lexicon.

    Attributes (after ``fit``):
        embedding_: the moved vectors [words, D].
        changes_: the mean distance that a word moved in each sweep; empty of the direct solution.

    Args:
        graph: sparse [words, words], row i true at the neighbours of word i (`lexicon_graph`), or a function that makes
            one of the vectors.
        alpha: how much a word keeps of its own vector, >= 0; one number, or one a word.
        beta: how much a neighbour counts, >= 0; ``degree`` for one over the number of neighbours, or a number.
        iterations: sweeps over the vocabulary, >= 1; what ``solver="direct"`` does without.
        solver: ``sweeps``, or ``direct`` for where they lead in the end.
        normalise: bring the vectors to unit length first.
    """

    def __init__(
        self,
        *,
        graph: Any,
        alpha: float | ArrayLike = 1.0,
        beta: Literal["degree"] | float = "degree",
        iterations: int = 10,
        solver: Literal["sweeps", "direct"] = "sweeps",
        normalise: bool = True,
    ) -> None:
        self.graph = graph
        self.alpha = alpha
        self.beta = beta
        self.iterations = iterations
        self.solver = solver
        self.normalise = normalise

    @classmethod
    def example(cls) -> Retrofitting:
        """With the nearest vectors for neighbours."""
        from functools import partial

        from sklearn.neighbors import kneighbors_graph

        return cls(graph=partial(kneighbors_graph, n_neighbors=3))

    def fit(self, X: ArrayLike, y: object = None) -> Retrofitting:
        """Move the vectors X [words, D].

        Raises:
            ValueError: a weight below 0, a graph of other words or without an edge, or a vector that isn't finite.
        """
        vectors = matrix(X)
        if self.iterations < 1 or self.solver not in ("sweeps", "direct"):
            raise ValueError(
                f"iterations must be at least 1 and solver sweeps or direct; they are {self.iterations} and "
                f"{self.solver!r}"
            )
        if self.normalise:
            vectors = vectors / np.sqrt((vectors**2).sum(1, keepdims=True) + 1e-6)
        neighbours = self._neighbours(vectors)
        alpha = np.broadcast_to(np.asarray(self.alpha, dtype=np.float64), len(vectors))
        weights = self._weights(neighbours)
        if alpha.min() < 0 or not np.isfinite(alpha).all():
            raise ValueError("alpha must be finite and at least 0 for every word")
        if self.solver == "direct" and alpha.min() == 0:
            raise ValueError("the direct solution needs alpha above 0 for every word; take solver='sweeps'")
        self.n_features_in_ = vectors.shape[1]
        self.changes_: list[float] = []
        total = alpha + np.asarray(weights.sum(1)).ravel()
        still = total == 0  # nothing holds the word and nothing draws it: it stays
        system = (sparse.diags_array(np.where(still, 1.0, total)) - weights).tocsr()
        held = np.where(still, 1.0, alpha)[:, None] * vectors
        if self.solver == "direct":
            self.embedding_ = splu(system.tocsc()).solve(held)
            return self
        # In the order of the vocabulary, a sweep is a triangular solve; unpermuted, its factors are the system itself.
        lower = splu(sparse.tril(system, format="csc"), permc_spec="NATURAL", diag_pivot_thresh=0.0)
        upper = sparse.triu(system, k=1, format="csr")
        moved = vectors
        for _ in range(self.iterations):
            before = moved
            moved = lower.solve(held - upper @ before)
            self.changes_.append(float(np.linalg.norm(moved - before, axis=1).mean()))
        self.embedding_ = moved
        return self

    def fit_transform(self, X: ArrayLike, y: object = None) -> np.ndarray:
        """The moved vectors [words, D]."""
        return self.fit(X).embedding_

    def _neighbours(self, vectors: np.ndarray) -> sparse.csr_array:
        graph = self.graph(vectors) if callable(self.graph) else self.graph
        found = sparse.csr_array(graph).astype(bool).astype(np.float64)
        if found.shape != (len(vectors), len(vectors)):
            raise ValueError(f"{len(vectors)} words need a graph of as many, not one of shape {found.shape}")
        found.setdiag(0)
        found.eliminate_zeros()
        if not found.nnz:
            raise ValueError("no word has a neighbour in the lexicon that has a vector; check how both write words")
        return found

    def _weights(self, neighbours: sparse.csr_array) -> sparse.csr_array:
        if self.beta == "degree":
            degree = np.asarray(neighbours.sum(1)).ravel()
            return (sparse.diags_array(1 / np.maximum(degree, 1)) @ neighbours).tocsr()
        if isinstance(self.beta, str) or not np.isfinite(self.beta) or self.beta < 0:
            raise ValueError(f"beta must be 'degree' or a finite number of at least 0; it is {self.beta!r}")
        return (neighbours * float(self.beta)).tocsr()


def lexicon_word(word: str) -> str:
    """A word as lexicons are read: in lower case, one token for all numbers and one for all punctuation."""
    if re.search(r"\d", word):
        return NUMBER
    return word.lower() if re.search(r"\w", word) else PUNCTUATION


def lexicon_graph(
    words: Sequence[str], pairs: Iterable[tuple[str, str]], *, symmetric: bool = False
) -> sparse.csr_array:
    """The neighbours of words [words, words], for `Retrofitting`.

    Args:
        words: the vocabulary, in the order of its vectors.
        pairs: (word, one of its neighbours); pairs with a word that is not in the vocabulary are left out.
        symmetric: whether the neighbour gets the word for a neighbour too. Lexicons that list both ways need none of
            it, and of others (what is above a word) it is a decision.

    Raises:
        ValueError: no pair has both its words in the vocabulary.
    """
    place = {word: number for number, word in enumerate(words)}
    read = ((place.get(lexicon_word(first)), place.get(lexicon_word(second))) for first, second in pairs)
    edges = {(first, second) for first, second in read if first is not None and second is not None and first != second}
    if not edges:
        raise ValueError("no pair of the lexicon has both its words in the vocabulary; check how both write words")
    rows, columns = (np.array(side) for side in zip(*sorted(edges), strict=True))
    graph = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(words), len(words)))
    return ((graph + graph.T) > 0).astype(np.float64).tocsr() if symmetric else graph
