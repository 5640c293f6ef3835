"""SEPs: semantic entropy probes, which tell from one forward pass whether a model is making something up.

**Paper**: Kossen, Han, Razzak, Schut, Malik and Gal 2024, "Semantic Entropy Probes: Robust and Cheap Hallucination
Detection in LLMs" (arXiv 2406.15927).

**Idea**: A model that confabulates answers the same question with one meaning now and another then, and the entropy
over meanings of some ten answers shows it, at ten times the cost. The model's hidden states know before it has
answered once: a linear probe reads off them whether that entropy would be high. No label of right or wrong is needed.

**Objective**: a logistic regression from the hidden states of one token to the class of the semantic entropy y,

    high where y > t,   t = argmin over 100 points of linspace(1e-10, max y) of
                            sum_{y < t} (y - mean)^2 + sum_{y >= t} (y - mean)^2,

first for each layer, then for the best run of at least five layers next to each other, side by side. The token is the
last of the prompt (TBG, before anything is generated) or the last but one of the answer (SLT). The entropy is
`stillroom.evaluate.semantic_entropy`, of ten answers drawn at temperature 1; hidden states are those of an answer drawn
at 0.1 (`stillroom.blocks.elicitation` asks the model for both).

**Kept and changed**: Layers are chosen by the AUROC on a fifth of the rows that is held out, as in the authors' code;
then the probe is fitted on all of them. The regression is scikit-learn's with its defaults but for more iterations,
since states are not scaled (``standardise`` does). Clusters keep the answers that they have: the authors' code lets a
later founder take an answer over. An answer of one token has no last but one; its SLT is then its TBG. p(True) is asked
for one answer, without examples and without the other answers beside it.

**Use it when**: answers must be screened as they are written and sampling ten is too dear, and there are some hundred
questions of the kind to fit on. The same class, fitted on 1 for a wrong answer and 0 for a right one, is the accuracy
probe that it is held against: better where questions of that very kind have been labelled, worse elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stillroom.evaluate.arrays import column, matrix
from stillroom.evaluate.statistics import auroc

__all__ = [
    "SemanticEntropyProbe",
    "best_split",
]


class SemanticEntropyProbe(ClassifierMixin, BaseEstimator):
    """Hidden states [N, layers * width] to the probability that the semantic entropy is high.

    Attributes (after ``fit``):
        threshold_: entropies above it are high, in nats.
        layer_auroc_: of each layer alone, on the rows that were held out; NaN where these were of one class.
        first_, last_: the layers that are read, both included.
        classes_: 0 for low, 1 for high.

    Args:
        layers: that a row holds, one after another; widths are equal.
        span: layers next to each other that are read at least, >= 1; all, where there are fewer.
        validation: share of the rows that layers are chosen by, in (0, 1).
        iterations: of the regression, at most.
        standardise: bring each state to mean 0 and variance 1 first, by which the regression converges much sooner.
        random_state: of the division into rows to fit on and rows to choose by.
    """

    def __init__(
        self,
        *,
        layers: int = 1,
        span: int = 5,
        validation: float = 0.2,
        iterations: int = 1000,
        standardise: bool = False,
        random_state: int = 0,
    ) -> None:
        self.layers = layers
        self.span = span
        self.validation = validation
        self.iterations = iterations
        self.standardise = standardise
        self.random_state = random_state

    @classmethod
    def example(cls) -> SemanticEntropyProbe:
        """For rows of four columns: four layers of width 1."""
        return cls(layers=4, span=2)

    def fit(self, X: ArrayLike, y: ArrayLike) -> SemanticEntropyProbe:
        """Fit on hidden states X [N, layers * width] and semantic entropies y [N] in nats.

        Raises:
            ValueError: a setting outside its range, a number that isn't finite, or fewer than two rows that are high,
                or low.
        """
        if self.layers < 1 or self.span < 1 or not 0 < self.validation < 1 or self.iterations < 1:
            raise ValueError(
                "layers, span and iterations must be at least 1 and validation in (0, 1); they are "
                f"{self.layers}, {self.span}, {self.iterations} and {self.validation}"
            )
        rows = matrix(X)
        entropy = column(y, rows=len(rows))
        if rows.shape[1] % self.layers:
            raise ValueError(f"X has {rows.shape[1]} columns, which {self.layers} layers of one width can't have")
        self.n_features_in_, self.classes_ = rows.shape[1], np.array([0, 1])
        self.threshold_ = best_split(entropy)
        high = self._high(entropy)
        if min(high.sum(), (1 - high).sum()) < 2:
            raise ValueError(
                f"{int(high.sum())} of {len(high)} rows have a high entropy; a probe needs two of each kind at least"
            )
        states = rows.reshape(len(rows), self.layers, -1)
        self._choose(states, high)
        self.regression_ = self._regression().fit(self._read(states), high)
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """The probabilities of low and of high entropy [N, 2].

        Raises:
            ValueError: another width, or a number that isn't finite.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        rows = matrix(X, width=self.n_features_in_)
        return self.regression_.predict_proba(self._read(rows.reshape(len(rows), self.layers, -1)))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """1 where the entropy is held to be high [N]."""
        return (self.predict_proba(X)[:, 1] > 0.5).astype(int)

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: None = None) -> float:
        """AUROC of the probability for high entropies, by the threshold that was fitted; NaN where all are alike."""
        probabilities = self.predict_proba(X)[:, 1]
        return auroc(self._high(column(y, rows=len(probabilities))), probabilities)

    def _high(self, entropy: np.ndarray) -> np.ndarray:
        return (entropy > self.threshold_).astype(int)

    def _regression(self) -> Any:
        regression = LogisticRegression(max_iter=self.iterations)
        return make_pipeline(StandardScaler(), regression) if self.standardise else regression

    def _read(self, states: np.ndarray) -> np.ndarray:
        return states[:, self.first_ : self.last_ + 1].reshape(len(states), -1)

    def _choose(self, states: np.ndarray, high: np.ndarray) -> None:
        """The run of layers whose mean AUROC on held-out rows is the highest; the first of equals."""
        fitted, held_out = train_test_split(
            np.arange(len(high)), test_size=self.validation, random_state=self.random_state, stratify=high
        )
        self.layer_auroc_ = np.array(
            [
                auroc(
                    high[held_out],
                    self._regression().fit(states[fitted, n], high[fitted]).decision_function(states[held_out, n]),
                )
                for n in range(self.layers)
            ]
        )
        known = np.nan_to_num(self.layer_auroc_, nan=0.5)
        least = min(self.span, self.layers)
        runs = [(a, b) for a in range(self.layers) for b in range(a + least, self.layers + 1)]
        first, end = max(runs, key=lambda run: float(known[slice(*run)].mean()))
        self.first_, self.last_ = first, end - 1


def best_split(values: ArrayLike, points: int = 100) -> float:
    """The threshold that divides values [N] into two groups of least squared distance from their means."""
    rows = column(values, "values")
    candidates = np.linspace(1e-10, rows.max(), points)

    def scatter(threshold: float) -> float:
        low = rows < threshold
        return sum(float(((part - part.mean()) ** 2).sum()) for part in (rows[low], rows[~low]) if len(part))

    return float(candidates[int(np.argmin([scatter(candidate) for candidate in candidates]))])
