"""What every codec asks of the values that it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillroom.signals import TopK


def refuse(wrong: bool, what: str) -> None:
    """Raise a ValueError that says what is wrong, if it is."""
    if wrong:
        raise ValueError(what)


def as_array(values: Tensor) -> NDArray[Any]:
    """float32 in the machine's memory."""
    return values.detach().to("cpu", torch.float32).contiguous().numpy()


def checked_top_k(
    values: TopK, vocabulary: int, k: int | None = None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """ids, log-probs and tail as arrays, after all that can be wrong with them was looked for.

    Args:
        values: of L positions.
        vocabulary: how many ids there are.
        k: how many a position must have; None for any number.

    Raises:
        ValueError: shapes that disagree, ids outside the vocabulary, NaN, log-probs or masses that are none.
    """
    ids, log_probs, tail = values.ids.cpu().numpy(), as_array(values.log_probs), as_array(values.tail)
    refuse(
        (k is not None and ids.shape[-1] != k) or ids.shape != log_probs.shape,
        f"it must have {ids.shape[-1] if k is None else k} ids and log-probs each",
    )
    refuse(tail.shape != ids.shape[:-1], f"its tail has shape {tail.shape}, not {ids.shape[:-1]}")
    check_ids(ids, vocabulary)
    refuse(bool(np.isnan(log_probs).any() or np.isnan(tail).any()), "it holds NaN")
    refuse(bool((log_probs > 0).any()), "log-probs must not exceed 0")
    refuse(bool(((tail < 0) | (tail > 1)).any()), "its tail must lie in [0, 1]")
    return ids, log_probs, tail


def check_ids(ids: NDArray[Any], vocabulary: int) -> None:
    """Raise a ValueError where one lies outside the vocabulary."""
    refuse(bool(((ids < 0) | (ids >= vocabulary)).any()), f"ids must lie in [0, {vocabulary})")
