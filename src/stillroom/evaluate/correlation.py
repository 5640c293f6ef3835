"""Correlations that survive a collapsed model: where one side is constant there is none, and the answer is NaN."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np


def pearson(left: np.ndarray, right: np.ndarray) -> float:
    """Linear correlation of two equally long lists; in [-1, 1]."""
    from scipy.stats import pearsonr

    return _quietly(pearsonr, left, right)


def spearman(left: np.ndarray, right: np.ndarray) -> float:
    """Rank correlation of two equally long lists, ties at their mean rank; in [-1, 1]."""
    from scipy.stats import spearmanr

    return _quietly(spearmanr, left, right)


def _quietly(measure: Callable[..., Any], left: np.ndarray, right: np.ndarray) -> float:
    from scipy.stats import ConstantInputWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        return float(measure(left, right)[0])
