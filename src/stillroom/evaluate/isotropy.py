"""How evenly vectors point in all directions: anisotropy and who causes it, outlier dimensions, partition isotropy.

Vectors are rows [N, D], as they come: nothing is centred or normalised but where a cosine needs it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from stillroom.evaluate.arrays import matrix


class Anisotropy(NamedTuple):
    """The mean cosine of two vectors drawn by chance, in [-1, 1], and what each dimension adds to it [D]."""

    value: float
    contributions: np.ndarray

    def top(self, count: int = 10) -> list[tuple[int, float]]:
        """The dimensions that add most, and how much, the largest first."""
        order = np.argsort(-self.contributions, kind="stable")[:count]
        return [(int(place), float(self.contributions[place])) for place in order]


def anisotropy(
    vectors: ArrayLike, others: ArrayLike | None = None, *, pairs: int = 10_000, seed: int = 0
) -> Anisotropy:
    """The mean cosine over random pairs of different rows (Ethayarajh, 2019), dimension by dimension.

    Args:
        vectors: [N, D].
        others: [N, D], the same texts in another language; pairs then have one of each, of different texts.
        pairs: how many are drawn.
        seed: of the draw.

    Raises:
        ValueError: fewer than two rows, a row of zeros, or other shapes of the two.
    """
    left = _units(vectors, "vectors")
    right = left if others is None else _units(others, "others")
    if left.shape != right.shape or len(left) < 2:
        raise ValueError(f"two or more rows of one shape are needed, not {left.shape} and {right.shape}")
    draw = np.random.default_rng(seed)
    first = draw.integers(len(left), size=pairs)
    second = (first + draw.integers(1, len(left), size=pairs)) % len(left)
    contributions = np.einsum("nd,nd->d", left[first], right[second]) / pairs
    return Anisotropy(float(contributions.sum()), contributions)


def outlier_dimensions(*vectors: ArrayLike, deviations: float = 3.0) -> list[int]:
    """Dimensions whose mean is far larger than those of the others, in size.

    Dimension k is one if |mean_k| is more than the mean of all means plus ``deviations`` of their standard deviations
    (n - 1). The first is signed and the second is not, as Hämmerl et al. (2023) count them.

    Args:
        vectors: [N, D] each, one of each language; their means are averaged.
        deviations: how many.
    """
    means = np.mean([matrix(each, "vectors").mean(0) for each in vectors], axis=0)
    if len(means) < 2:
        return []
    return np.flatnonzero(np.abs(means) > means.mean() + deviations * means.std(ddof=1)).tolist()


def partition_isotropy(vectors: ArrayLike) -> float:
    """I_PC = min over u of F(u) / max of it, F(u) = sum_i exp(x_i . u) (Mu and Viswanath, 2018); 1 is isotropic.

    u are the eigenvectors of X^T X, each in the direction in which the vectors' sum lies; in (0, 1].
    """
    rows = matrix(vectors, "vectors")
    _, directions = np.linalg.eigh(rows.T @ rows)
    along = rows @ directions
    along *= np.where(along.sum(0) < 0, -1.0, 1.0)
    values = logsumexp(along, axis=0)
    return float(np.exp(values.min() - values.max()))


def dimension_harm(vectors: ArrayLike, translations: ArrayLike) -> np.ndarray:
    """What parallel texts gain in mean cosine when a dimension is set to zero, for each [D]; above 0 it does harm.

    Args:
        vectors: [N, D].
        translations: [N, D], row by row the same texts.

    Raises:
        ValueError: other shapes, a row of zeros, or one that has but one dimension that isn't 0.
    """
    left, right = matrix(vectors, "vectors"), matrix(translations, "translations")
    if left.shape != right.shape:
        raise ValueError(f"parallel texts need arrays of one shape, not {left.shape} and {right.shape}")
    whole = (_units(left, "vectors") * _units(right, "translations")).sum(1).mean()
    products = left * right
    lengths = [np.sqrt(np.maximum((side**2).sum(1, keepdims=True) - side**2, 0)) for side in (left, right)]
    if min(length.min() for length in lengths) == 0:
        raise ValueError("a vector has only one dimension that isn't 0; without it there is no cosine")
    without = (products.sum(1, keepdims=True) - products) / (lengths[0] * lengths[1])
    return without.mean(0) - whole


def _units(vectors: ArrayLike, what: str) -> np.ndarray:
    rows = matrix(vectors, what)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if (lengths == 0).any():
        raise ValueError(f"row {int((lengths == 0).argmax())} of {what} is all zeros, and has no cosine")
    return rows / lengths
