"""A trained critic: which rows people would call good, by a logistic head on features of any encoder.

Its strength of regularisation is chosen as a fine-tuned critic's checkpoint is: by the precision on held-out labels at
a recall that matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stillroom.errors import UserError
from stillroom.synthesis.threshold import threshold_for

Rows = Sequence[Mapping[str, Any]]
Features = Callable[[Rows], NDArray[np.floating]]
Encode = Callable[[list[str]], NDArray[np.floating]]

STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0)


class Critic(ClassifierMixin, BaseEstimator):
    """Logistic regression on standardised features.

    Args:
        features: rows -> [N, D].
        strengths: of regularisation to choose among (scikit-learn's C, small ones regularise much).
        recall: at which the precision on the held-out rows chooses, in (0, 1].
        passes: how often rows are scored, and the mean taken; for features that are drawn (an encoder with dropout).

    Attributes:
        strength_: the one that was chosen.
    """

    def __init__(
        self, features: Features, *, strengths: Sequence[float] = STRENGTHS, recall: float = 0.8, passes: int = 1
    ) -> None:
        self.features, self.strengths, self.recall, self.passes = features, strengths, recall, passes

    def fit(self, X: Rows, y: Sequence[bool], held_out: tuple[Rows, Sequence[bool]] | None = None) -> Critic:
        """Learn from labelled rows; ``held_out`` ones choose the strength (the first of `strengths` without them).

        Raises:
            UserError: all labels are the same.
        """
        labels = np.asarray(y, dtype=bool)
        if labels.all() or not labels.any():
            raise UserError("a critic learns from good and bad rows, and these are all of one kind; label some more")
        found, self.classes_ = self.features(X), np.array([False, True])
        best = -1.0
        other = None if held_out is None else self.features(held_out[0])
        for strength in self.strengths:
            head = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)).fit(found, labels)
            if held_out is None:
                self.head_, self.strength_ = head, strength
                break
            precision = threshold_for(
                head.predict_proba(other)[:, 1].tolist(), list(held_out[1]), recall=self.recall
            ).precision
            if precision > best:
                best, self.head_, self.strength_ = precision, head, strength
        return self

    def predict_proba(self, X: Rows) -> NDArray[np.floating]:
        """The probabilities of bad and good [N, 2]."""
        return np.mean([self.head_.predict_proba(self.features(X)) for _ in range(self.passes)], axis=0)

    def predict(self, X: Rows) -> NDArray[np.bool_]:
        """Whether good is likelier than bad."""
        return self.scores(X) > 0.5

    def scores(self, X: Rows) -> NDArray[np.floating]:
        """The probability of good [N]; none for no rows."""
        return self.predict_proba(X)[:, 1] if len(X) else np.empty(0)


def triple_features(encode: Encode, relations: Sequence[str]) -> Features:
    """Features of rows with head, relation and tail: how the two texts stand to each other, for each relation apart.

    With vectors u of the head and v of the tail: u, v, |u - v|, u * v and their cosine, in the block of the row's
    relation, zeros in the other blocks; so a linear head judges by relation.

    Args:
        encode: texts -> vectors [N, D].
        relations: the names that rows may have.
    """
    places = {name: place for place, name in enumerate(relations)}

    def features(rows: Rows) -> NDArray[np.floating]:
        texts = list(dict.fromkeys(str(row[name]) for row in rows for name in ("head", "tail")))
        where, vectors = {text: place for place, text in enumerate(texts)}, np.asarray(encode(texts))
        u, v = (vectors[[where[str(row[name])] for row in rows]] for name in ("head", "tail"))
        norms = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
        cosine = (u * v).sum(1) / np.maximum(norms, 1e-12)
        both = np.concatenate([u, v, np.abs(u - v), u * v, cosine[:, None], np.ones((len(u), 1))], axis=1)
        out = np.zeros((len(rows), len(relations), both.shape[1]), dtype=both.dtype)
        out[np.arange(len(rows)), [places[row["relation"]] for row in rows]] = both
        return out.reshape(len(rows), -1)

    return features
