"""S^3: semantic signal separation, topics as independent axes of meaning.

**Paper**: Kardos, Kostkan, Vermillet, Nielbo, Enevoldsen and Rocca 2024, "S^3 -- Semantic Signal Separation" (arXiv
2406.09556).

**Idea**: Documents are mixtures of meanings, so the axes that mix in their embeddings can be told apart as voices are
in a recording: by independent component analysis. An axis has two ends; words, embedded by the same encoder and
projected on it, say what it is about. Nothing is counted, so nothing needs to be cleaned first.

**Objective**: with embeddings X [N, D] of documents, FastICA finds C [T, D] such that the columns of

    S = (X - mean) C^T   [N, T]

are independent and have unit variance: S is how much of each topic is in a document, of either sign. Of words V [W, D]
the projections P = (V - mean) C^T give the importance of word j for topic t

    axial P_jt,   angular P_jt / |P_j|,   combined (axial)^2 * angular = P_jt^3 / |P_j|.

**Kept and changed**: The signs and the order of independent axes are arbitrary; here S is skewed to the right on each
axis, and axes come in the order of the variance that they explain. Embedding is left to the encoder that the user has:
fitting again with another number of topics takes the same X. In time (`over_time`), each slice's axes are the
least-squares map from its centred embeddings to their S, as in the authors' code; words are centred by the mean of all.

**Use it when**: a corpus is to be described in a few axes that differ from each other, by raw texts and a sentence
encoder. Where each document must have one topic, clusters say it more plainly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import FastICA
from sklearn.feature_extraction.text import CountVectorizer

from stillroom.evaluate.arrays import matrix

__all__ = [
    "SemanticSignalSeparation",
    "Topic",
    "named",
    "vocabulary",
]

Importance = Literal["combined", "axial", "angular"]


class Topic(NamedTuple):
    """The words at the two ends of an axis, the most important first."""

    positive: list[str]
    negative: list[str]


class SemanticSignalSeparation(TransformerMixin, BaseEstimator):
    """Embeddings of documents [N, D] to topics [N, T], and words to what they say of each.

    Attributes (after ``fit``):
        mean_: of the embeddings [D].
        components_: C [T, D], whitening included.
        explained_: the share of the embeddings' variance that each topic explains [T], falling.
        iterations_: that FastICA took.

    Args:
        topics: how many, >= 1; at most the rank of the embeddings.
        importance: of words: ``combined``, ``axial`` or ``angular``.
        iterations: of FastICA, at most; scikit-learn warns where they don't suffice.
        tolerance: at which it has converged, > 0.
        random_state: of its start.
    """

    def __init__(
        self,
        *,
        topics: int = 10,
        importance: Importance = "combined",
        iterations: int = 200,
        tolerance: float = 1e-4,
        random_state: int = 0,
    ) -> None:
        self.topics = topics
        self.importance = importance
        self.iterations = iterations
        self.tolerance = tolerance
        self.random_state = random_state

    @classmethod
    def example(cls) -> SemanticSignalSeparation:
        """For rows of a few columns."""
        return cls(topics=2, tolerance=1e-3)

    def fit(self, X: ArrayLike, y: object = None) -> SemanticSignalSeparation:
        """Find the axes of embeddings X [N, D].

        Raises:
            ValueError: a setting outside its range, a number that isn't finite, or embeddings of too low a rank.
        """
        if self.topics < 1 or self.iterations < 1 or self.tolerance <= 0 or self.importance not in _IMPORTANCE:
            raise ValueError(
                f"topics and iterations must be at least 1, tolerance above 0 and importance one of "
                f"{', '.join(_IMPORTANCE)}; they are {self.topics}, {self.iterations}, {self.tolerance} and "
                f"{self.importance!r}"
            )
        rows = matrix(X, least=2)
        centred = rows - rows.mean(0)
        rank = int(np.linalg.matrix_rank(centred))
        if self.topics > rank:
            raise ValueError(
                f"{len(rows)} documents whose embeddings have rank {rank} don't hold {self.topics} topics; ask for "
                "fewer, or give more and different documents"
            )
        ica = FastICA(
            self.topics,
            algorithm="parallel",
            fun="logcosh",
            whiten="unit-variance",
            max_iter=self.iterations,
            tol=self.tolerance,
            random_state=self.random_state,
        )
        signals = ica.fit_transform(rows)
        signs = np.where((signals**3).mean(0) < 0, -1.0, 1.0)
        explained = (ica.mixing_**2).sum(0) / centred.var(0).sum()
        order = np.argsort(-explained, kind="stable")
        self.n_features_in_, self.iterations_ = rows.shape[1], int(ica.n_iter_)
        self.mean_, self.explained_ = ica.mean_, explained[order]
        self.components_ = (ica.components_ * signs[:, None])[order]
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """How much of each topic is in documents X [N, D]: S [N, T], of either sign.

        Raises:
            ValueError: another width, or a number that isn't finite.
        """
        return self._project(X, "X")

    def word_importance(self, words: ArrayLike) -> np.ndarray:
        """How much each word says of each topic [T, W], from embeddings of words [W, D] by the documents' encoder."""
        return _IMPORTANCE[self.importance](self._project(words, "words"))

    def describe(self, words: Sequence[str], vectors: ArrayLike, *, top: int = 10) -> list[Topic]:
        """The words at both ends of each axis.

        Args:
            words: that may be named.
            vectors: their embeddings [W, D].
            top: words at each end.
        """
        return named(words, self.word_importance(vectors), top=top)

    def over_time(self, X: ArrayLike, times: Sequence[Any], words: ArrayLike) -> dict[Any, np.ndarray]:
        """Time -> how much each word said of each topic then [T, W].

        Args:
            X: embeddings [N, D].
            times: [N], equal for documents of one slice.
            words: embeddings of words [W, D].
        """
        rows, signals = matrix(X, width=self._width()), self.transform(X)
        if len(times) != len(rows):
            raise ValueError(f"{len(rows)} documents need as many times, not {len(times)}")
        centred = matrix(words, "words", width=self._width()) - self.mean_
        found = {}
        for time in sorted(set(times)):
            here = np.array([one == time for one in times])
            inside, outside = (part[here] - part[here].mean(0) for part in (rows, signals))
            axes = np.linalg.lstsq(inside, outside, rcond=None)[0]  # [D, T]
            found[time] = _IMPORTANCE[self.importance](centred @ axes)
        return found

    def _width(self) -> int:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        return int(self.n_features_in_)

    def _project(self, rows: ArrayLike, what: str) -> np.ndarray:
        return (matrix(rows, what, width=self._width()) - self.mean_) @ self.components_.T


def named(words: Sequence[str], importance: np.ndarray, *, top: int = 10) -> list[Topic]:
    """The words of the largest and of the smallest importance [T, W] for each topic; ties in the words' order."""
    if len(words) != importance.shape[1]:
        raise ValueError(f"{importance.shape[1]} words have embeddings, and {len(words)} have names")
    falling, rising = (np.argsort(sign * importance, axis=1, kind="stable")[:, :top] for sign in (-1, 1))
    return [Topic([words[n] for n in up], [words[n] for n in down]) for up, down in zip(falling, rising, strict=True)]


def vocabulary(documents: Iterable[str], *, least: int = 10, stop_words: str | None = "english") -> list[str]:
    """The words that stand in at least ``least`` documents, in the order of the alphabet.

    Args:
        documents: texts.
        least: documents that a word must stand in; the authors' package has 10.
        stop_words: as of scikit-learn's ``CountVectorizer``; None keeps all, which the method can bear.

    Raises:
        ValueError: no word is left.
    """
    try:
        return CountVectorizer(min_df=least, stop_words=stop_words).fit(documents).get_feature_names_out().tolist()
    except ValueError as error:
        raise ValueError(f"no word stands in {least} documents and is no stop word; lower least") from error


def _angular(axial: np.ndarray) -> np.ndarray:
    return axial / np.maximum(np.linalg.norm(axial, axis=1, keepdims=True), 1e-12)


_IMPORTANCE = {
    "combined": lambda axial: (axial**2 * _angular(axial)).T,
    "axial": lambda axial: axial.T,
    "angular": lambda axial: _angular(axial).T,
}
