"""Isotropy: repairs of a space in which all sentences point the same way.

**Paper**: Hämmerl, Fastowski, Libovický and Fraser 2023, "Exploring Anisotropy and Outliers in Multilingual Language
Models for Cross-Lingual Semantic Sentence Similarity" (Findings of ACL 2023, arXiv 2306.00458).

**Idea**: In an encoder that was only pre-trained, any two sentences have a high cosine, and a few dimensions of large
mean make most of it. Measure this (`stillroom.evaluate.isotropy`), and try what needs no training: drop those
dimensions, take the dominant directions out of each cluster (CBIE), or whiten.

**Objective**: nothing is trained. On vectors X [N, D] of one language and data set,

    drop        x_k := 0 for outliers k, |mu_k| > mean(mu) + 3 std(mu), mu = the mean of X
    clusters    k-means with max(N // 300, 1) clusters; in each, y = x - m - sum_{j <= 12} ((x - m) . u_j) u_j
                with its mean m and its first principal directions u_j
    whitening   Y = (X - mu) V diag(1 / sqrt(lambda + 1e-5)) V^T, from the eigenvalues of the covariance of dimensions

**Kept and changed**: The authors' whitening takes the covariance of the rows where that of the dimensions is meant,
so that it whitens N x N; ``parity="code"`` does so, for the rows that it is fitted on alone (eigenvalues that rounding
made negative are 0 there). A repair that is fitted serves other rows as well: they go to the nearest cluster. The
authors fit each language on its own; so does who fits one transform for each. K-means is scikit-learn's, with ten
starts, where theirs is SciPy's with one.

**Use it when**: an encoder that nobody tuned for sentences must do for retrieval or likeness, and a few hundred texts
of the kind are at hand. A sentence transformer gains less: look at its anisotropy first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans

from stillroom.evaluate.arrays import matrix
from stillroom.evaluate.isotropy import outlier_dimensions

__all__ = ["Isotropy"]


class Isotropy(TransformerMixin, BaseEstimator):
    """Vectors [N, D] in a space that is more even.

    Attributes (after ``fit``):
        dimensions_: those that ``drop`` sets to zero.
        mean_: of all vectors [D].
        whitening_: [D, D], or [N, N] in parity with the authors' code.
        clusters_: the fitted k-means; ``means_`` [clusters, D] and ``directions_``, a list of [up to 12, D], are what
            each cluster loses.

    Args:
        repair: ``whitening``, ``clusters`` (CBIE) or ``drop``.
        dimensions: what ``drop`` sets to zero, numbers from 0; None for the outliers of the rows it is fitted on.
        clusters: of ``clusters``, >= 1; None for one for each 300 rows.
        directions: that are taken out of each cluster, >= 0.
        epsilon: added to the eigenvalues of ``whitening``, >= 0.
        parity: ``paper``, or ``code`` for whitening by the covariance of rows.
        random_state: of k-means.
    """

    def __init__(
        self,
        *,
        repair: Literal["whitening", "clusters", "drop"] = "whitening",
        dimensions: Sequence[int] | None = None,
        clusters: int | None = None,
        directions: int = 12,
        epsilon: float = 1e-5,
        parity: Literal["paper", "code"] = "paper",
        random_state: int = 0,
    ) -> None:
        self.repair = repair
        self.dimensions = dimensions
        self.clusters = clusters
        self.directions = directions
        self.epsilon = epsilon
        self.parity = parity
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: object = None) -> Isotropy:
        """Learn the repair from vectors X [N, D].

        Raises:
            ValueError: a setting outside its range, a number that isn't finite, or fewer rows than the repair needs.
        """
        if self.repair not in _FITS or self.parity not in ("paper", "code"):
            raise ValueError(
                f"repair must be one of {', '.join(_FITS)} and parity paper or code; they are {self.repair!r} and "
                f"{self.parity!r}"
            )
        if self.epsilon < 0 or self.directions < 0 or (self.clusters is not None and self.clusters < 1):
            raise ValueError("epsilon and directions must be at least 0, and clusters at least 1")
        rows = matrix(X, least=2)
        self.n_features_in_ = rows.shape[1]
        self.mean_ = rows.mean(0)
        _FITS[self.repair](self, rows)
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Vectors X [N, D], repaired.

        Raises:
            ValueError: another width, or a number that isn't finite.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        rows = matrix(X, width=self.n_features_in_)
        if self.repair == "drop":
            kept = np.ones(rows.shape[1], dtype=bool)
            kept[self.dimensions_] = False
            return rows * kept
        if self.repair == "whitening":
            centred = rows - self.mean_
            if self.parity == "paper":
                return centred @ self.whitening_
            if len(rows) != len(self.whitening_):
                raise ValueError(
                    f"parity='code' whitens the {len(self.whitening_)} rows that it was fitted on, not {len(rows)}"
                )
            return self.whitening_ @ centred
        where = self.clusters_.predict(rows)
        centred = rows - self.means_[where]
        for number, directions in enumerate(self.directions_):
            here = where == number
            centred[here] -= centred[here] @ directions.T @ directions
        return centred

    def _fit_drop(self, rows: np.ndarray) -> None:
        chosen = outlier_dimensions(rows) if self.dimensions is None else list(self.dimensions)
        if any(not 0 <= place < rows.shape[1] for place in chosen):
            raise ValueError(f"dimensions must lie in [0, {rows.shape[1]}); they are {chosen}")
        self.dimensions_ = chosen

    def _fit_whitening(self, rows: np.ndarray) -> None:
        centred = rows - self.mean_
        if self.parity == "code":
            covariance = np.cov(centred)
        elif len(rows) <= rows.shape[1]:
            raise ValueError(
                f"whitening needs more rows than dimensions; there are {len(rows)} rows of {rows.shape[1]} dimensions"
            )
        else:
            covariance = np.cov(centred, rowvar=False).reshape(rows.shape[1], rows.shape[1])
        values, directions = np.linalg.eigh(covariance)
        scales = np.sqrt(np.maximum(values, 0) + self.epsilon)
        if scales.min() == 0:
            raise ValueError("a direction has no variance; whitening it needs epsilon above 0")
        self.whitening_ = (directions / scales) @ directions.T

    def _fit_clusters(self, rows: np.ndarray) -> None:
        count = max(len(rows) // 300, 1) if self.clusters is None else self.clusters
        if count > len(rows):
            raise ValueError(f"{len(rows)} rows can't be put into {count} clusters")
        self.clusters_ = KMeans(count, n_init=10, random_state=self.random_state).fit(rows)
        parts = [rows[self.clusters_.labels_ == number] for number in range(count)]
        # k-means stops within a tolerance: its centres are nearly, but not quite, the means of its clusters.
        self.means_ = np.stack([part.mean(0) for part in parts])
        components = (
            np.linalg.svd(part - mean, full_matrices=False)[2] for part, mean in zip(parts, self.means_, strict=True)
        )
        self.directions_ = [found[: self.directions] for found in components]


_FITS = {
    "whitening": Isotropy._fit_whitening,
    "clusters": Isotropy._fit_clusters,
    "drop": Isotropy._fit_drop,
}
