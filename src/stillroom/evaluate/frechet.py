"""How far two clouds of features lie apart, as normal distributions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def frechet_distance(first: ArrayLike, second: ArrayLike, *, shrink: float = 1e-6) -> float:
    """||m_1 - m_2||^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)) of the rows' means and covariances, 0 for equal ones.

    The squared Fréchet distance of two normal distributions (Dowson and Landau, 1982), which is the FID where features
    are those of Inception (Heusel et al., 2017). The trace of the root is the sum of the roots of the eigenvalues of
    C_1^(1/2) C_2 C_1^(1/2), which is symmetric.

    Args:
        first: features [rows, width], at least two rows.
        second: likewise.
        shrink: is added to both covariances' diagonals.

    Raises:
        ValueError: too few rows, or different widths.
    """
    one, two = (np.asarray(rows, dtype=np.float64) for rows in (first, second))
    if one.ndim != 2 or two.ndim != 2 or one.shape[1] != two.shape[1] or min(len(one), len(two)) < 2:
        raise ValueError(f"features are [rows, width] with two rows at least; found {one.shape} and {two.shape}")
    ridge = shrink * np.eye(one.shape[1])
    c1, c2 = np.cov(one, rowvar=False) + ridge, np.cov(two, rowvar=False) + ridge
    values, vectors = np.linalg.eigh(c1)
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    mixed = np.sqrt(np.clip(np.linalg.eigvalsh(root @ c2 @ root), 0, None)).sum()
    apart = one.mean(0) - two.mean(0)
    return float(max(apart @ apart + np.trace(c1) + np.trace(c2) - 2 * mixed, 0.0))
