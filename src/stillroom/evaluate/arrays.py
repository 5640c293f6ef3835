"""What estimators and measures are given, checked: arrays of finite numbers in the shape that they were promised."""

from __future__ import annotations

from typing import Any

import numpy as np


def matrix(values: Any, what: str = "X", *, width: int | None = None, least: int = 1) -> np.ndarray:
    """``values`` as an array [rows, width] of float64.

    Args:
        values: anything NumPy makes an array of.
        what: how to call it in a message.
        width: that it must have.
        least: rows that it must have.

    Raises:
        ValueError: another shape, fewer rows, or a number that isn't finite; the message names the row.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{what} must be a matrix of rows and columns; its shape is {array.shape}")
    if width is not None and array.shape[1] != width:
        raise ValueError(f"{what} must have {width} columns, as what was fitted on; it has {array.shape[1]}")
    if len(array) < least:
        raise ValueError(f"{what} must have at least {least} rows; it has {len(array)}")
    wrong = ~np.isfinite(array).all(1)
    if wrong.any():
        raise ValueError(f"row {int(wrong.argmax())} of {what} holds a number that is NaN or infinite")
    return array


def column(values: Any, what: str = "y", *, rows: int | None = None) -> np.ndarray:
    """``values`` as an array [rows] of float64.

    Raises:
        ValueError: another shape, another number of rows, or a number that isn't finite; the message names the row.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or (rows is not None and len(array) != rows):
        wanted = "a list of numbers" if rows is None else f"a list of {rows} numbers, one a row"
        raise ValueError(f"{what} must be {wanted}; its shape is {array.shape}")
    wrong = ~np.isfinite(array)
    if wrong.any():
        raise ValueError(f"number {int(wrong.argmax())} of {what} is NaN or infinite")
    return array
