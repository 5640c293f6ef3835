"""Distributions in as few bits as they need: the codecs ``packed`` and ``drawn``, for the tokens of a row together.

``packed`` keeps the ids of a `TopK` whose log-prob is finite, each with its height above the least likely of them in
steps of 1/8 nat (``packed-coarse``: 1/2), and the log-odds of the tail in steps of 1/16. Read back, the kept
probabilities are made to sum to what the tail leaves, so neither the largest log-prob nor the range need be kept, and
kept and tail sum to 1 as before.

``drawn`` keeps how often each id was drawn, exactly.

How ids and numbers become bits stands in `stillroom.store.sets`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from stillroom.signals import Drawn, TopK
from stillroom.store.bits import Bytes
from stillroom.store.checked import as_array, check_ids, checked_top_k, refuse
from stillroom.store.sets import Layout, Sets, as_table, join, read_rows, write_row

if TYPE_CHECKING:
    from stillroom.store.header import Signal

STEPS = {"packed": 1 / 8, "packed-coarse": 1 / 2}  # nats
ODDS_STEP = 1 / 16
ODDS_BITS = 10
ODDS_ZERO = 1 << (ODDS_BITS - 1)  # what stands for even odds; 0 stands for no tail at all
NATS_KEPT = 32.0
HEIGHT_ORDERS = {"packed": 3, "packed-coarse": 1}  # heights are mostly a nat or less
ROUNDED = 1e-3  # how far from 1 a distribution may sum


def packed_layout(signal: Signal) -> Layout:
    """Of the codecs ``packed`` and ``packed-coarse``."""
    assert signal.k is not None and signal.vocabulary is not None
    return Layout(signal.vocabulary, most=signal.k, extra=ODDS_BITS, order=HEIGHT_ORDERS[signal.codec])


def drawn_layout(signal: Signal) -> Layout:
    """Of the codec ``drawn``."""
    assert signal.k is not None and signal.vocabulary is not None
    return Layout(signal.vocabulary, most=signal.k, extra=0, order=0)


def encode_packed(signal: Signal, rows: list[TopK]) -> tuple[Bytes, NDArray[np.int64]]:
    """Each row as bytes of its own, and how many."""
    return join([write_row(packed_layout(signal), _to_sets(signal, row)) for row in rows])


def _to_sets(signal: Signal, row: TopK) -> Sets:
    assert signal.k is not None and signal.vocabulary is not None
    ids, log_probs, tail = checked_top_k(row, signal.vocabulary)
    top = log_probs.max(-1, initial=-np.inf, keepdims=True)
    refuse(bool(np.isneginf(top).any()), "a position gives every kept id the probability 0")
    mass = np.exp(log_probs, dtype=np.float64).sum(-1) + tail
    if (np.abs(mass - 1) > ROUNDED).any():
        worst = mass[np.abs(mass - 1).argmax()]
        refuse(True, f"a position's kept probabilities and its tail sum to {worst:.4g}, not 1; use the codec topk8")
    kept = log_probs >= top - NATS_KEPT
    counts = kept.sum(-1)
    refuse(bool((counts > signal.k).any()), f"a position has {counts.max(initial=0)} ids, more than k = {signal.k}")
    lowest = np.where(kept, log_probs, np.inf).min(-1, initial=np.inf, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):  # of what is not kept
        heights = np.rint((log_probs - lowest) / STEPS[signal.codec])
    order, chosen = _ascending(ids, kept, signal.vocabulary)
    return Sets(
        np.array([len(ids)]),
        counts.astype(np.int64),
        _odds(tail.astype(np.float64)),
        np.take_along_axis(ids, order, -1)[chosen].astype(np.int64),
        np.take_along_axis(heights, order, -1)[chosen].astype(np.int64),
    )


def _ascending(ids: NDArray[Any], kept: NDArray[Any], vocabulary: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """An order of each position's ids, the kept ones ascending and first, and which places then hold them."""
    keys = np.where(kept, ids, vocabulary)
    order = np.argsort(keys, axis=-1, kind="stable")
    keys = np.take_along_axis(keys, order, -1)
    chosen = keys < vocabulary
    refuse(bool(((keys[:, 1:] == keys[:, :-1]) & chosen[:, 1:]).any()), "a position keeps an id twice")
    return order, chosen


def _odds(tail: NDArray[np.float64]) -> NDArray[np.int64]:
    """The log-odds of the tail in steps from even odds; 0 where there is no tail."""
    with np.errstate(divide="ignore"):
        steps = np.rint((np.log(tail) - np.log1p(-tail)) / ODDS_STEP)
    return np.where(tail == 0, 0, (steps + ODDS_ZERO).clip(1, (1 << ODDS_BITS) - 1)).astype(np.int64)


def decode_packed(signal: Signal, packed: Bytes, sizes: NDArray[np.int64]) -> list[TopK]:
    """The rows; an empty place is id 0 with the log-prob -inf.

    Positions have k places; where they were cut, as many as the largest of all rows needs.
    """
    assert signal.k is not None
    sets = read_rows(packed_layout(signal), packed, sizes)
    width = max(int(sets.counts.max(initial=0)), 1) if signal.cut else signal.k
    nats = sets.numbers.astype(np.float32) * np.float32(STEPS[signal.codec])
    heights = as_table(sets.counts, nats, -np.inf, width)
    odds = (sets.extras - ODDS_ZERO) * ODDS_STEP
    none = sets.extras == 0
    tail = np.where(none, 0.0, 1 / (1 + np.exp(-odds)))
    log_rest = np.where(none, 0.0, -np.log1p(np.exp(odds)))  # of 1 - tail, without losing its digits
    top = heights.max(-1, initial=0.0)
    with np.errstate(divide="ignore"):
        total = top + np.log(np.exp(heights - top[:, None]).sum(-1))
    log_probs = np.minimum(heights - (total - log_rest).astype(np.float32)[:, None], 0.0, dtype=np.float32)
    parts = (as_table(sets.counts, sets.ids, 0, width), log_probs, tail.astype(np.float32))
    lengths = sets.lengths.tolist()
    split = (torch.from_numpy(part).split(lengths) for part in parts)
    return [TopK(*row) for row in zip(*split, strict=True)]


def encode_drawn(signal: Signal, rows: list[Drawn]) -> tuple[Bytes, NDArray[np.int64]]:
    """Each row as bytes of its own, and how many."""
    assert signal.k is not None and signal.vocabulary is not None
    written = []
    for row in rows:
        ids, weights = row.ids.cpu().numpy(), as_array(row.weights)
        refuse(ids.shape != weights.shape, f"it has {ids.shape} ids and {weights.shape} weights")
        check_ids(ids, signal.vocabulary)
        times = np.rint(weights * signal.k)
        whole = (np.abs(times - weights * signal.k) < ROUNDED) & (times >= 0)
        refuse(
            not bool(whole.all() and (times.sum(-1) == signal.k).all()),
            f"its weights must be shares of {signal.k} draws that sum to 1",
        )
        order, chosen = _ascending(ids, times > 0, signal.vocabulary)
        sets = Sets(
            np.array([len(ids)]),
            chosen.sum(-1).astype(np.int64),
            np.zeros(len(ids), dtype=np.int64),
            np.take_along_axis(ids, order, -1)[chosen].astype(np.int64),
            np.take_along_axis(times, order, -1)[chosen].astype(np.int64) - 1,
        )
        written.append(write_row(drawn_layout(signal), sets))
    return join(written)


def decode_drawn(signal: Signal, packed: Bytes, sizes: NDArray[np.int64]) -> list[Drawn]:
    """The rows, each with as many places a position as the largest of all needs; an empty place is id 0, weight 0."""
    assert signal.k is not None
    sets = read_rows(drawn_layout(signal), packed, sizes)
    width = max(int(sets.counts.max(initial=0)), 1)
    weights = as_table(sets.counts, ((sets.numbers + 1) / signal.k).astype(np.float32), 0, width)
    lengths = sets.lengths.tolist()
    split = (torch.from_numpy(part).split(lengths) for part in (as_table(sets.counts, sets.ids, 0, width), weights))
    return [Drawn(*row) for row in zip(*split, strict=True)]
