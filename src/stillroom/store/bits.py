"""Numbers in as many bits as they need: fields of any width one after another, and unary codes, without a loop.

Bits fill each byte from the lowest up. A unary code of q is q zeros and a one. A stream begins at a byte of its own, so
several streams can be read at once: they are told apart by where they begin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]
MOST = 56  # bits of a field: with up to 7 bits before it, it still lies within the 8 bytes that are read at once


def pack(values: NDArray[Any], widths: NDArray[Any]) -> Bytes:
    """The lowest ``widths`` bits of each value [N], one after another, in whole bytes."""
    values, widths = np.asarray(values, dtype=np.int64), np.asarray(widths, dtype=np.int64)
    ends = np.cumsum(widths)
    total = int(ends[-1]) if len(ends) else 0
    place = np.arange(total, dtype=np.int64) - np.repeat(ends - widths, widths)
    return np.packbits((np.repeat(values, widths) >> place).astype(np.uint8) & 1, bitorder="little")


def unpack(packed: Bytes, starts: Numbers, widths: NDArray[Any]) -> Numbers:
    """The fields [N] that begin at the bits ``starts`` and are ``widths`` wide, at most 56."""
    padded = np.concatenate([packed, np.zeros(8, dtype=np.uint8)])
    # One number of 8 bytes from every byte on; the windows overlap, and nothing is copied before it is asked for.
    windows = np.ndarray((len(packed) + 1,), dtype="<u8", buffer=padded, strides=(1,))
    shifted = windows[starts >> 3] >> (starts & 7).astype(np.uint64)
    return (shifted & ((np.uint64(1) << widths.astype(np.uint64)) - np.uint64(1))).astype(np.int64)


def pack_unary(values: NDArray[Any]) -> Bytes:
    """Each value [N], at least 0, as that many zeros and a one, in whole bytes."""
    values = np.asarray(values, dtype=np.int64)
    ends = np.cumsum(values + 1)
    bits = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
    bits[ends - 1] = 1
    return np.packbits(bits, bitorder="little")


def unpack_unary(packed: Bytes, sizes: Numbers) -> tuple[Numbers, Numbers]:
    """The values of several streams that lie one after another.

    Args:
        packed: the streams.
        sizes: [streams] bytes of each.

    Returns:
        The values of all together [N], and how many each stream holds [streams].
    """
    ones = np.flatnonzero(np.unpackbits(packed, bitorder="little"))
    ends = 8 * np.cumsum(sizes)
    stops = np.searchsorted(ones, ends)
    counts = np.diff(stops, prepend=0)
    before = np.concatenate([[-1], ones[:-1]]) if len(ones) else ones
    # The first value of a stream is counted from where the stream begins, not from the last one before it.
    held = counts > 0
    before[(stops - counts)[held]] = (ends - 8 * sizes - 1)[held]
    return ones - before - 1, counts


def within(counts: NDArray[Any]) -> Numbers:
    """0, 1, 2, ... anew for each count: [sum of counts]."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)


def running(values: Numbers, counts: NDArray[Any]) -> Numbers:
    """The sum of the values up to and with each one, anew for each group of ``counts`` values."""
    sums = np.concatenate([[0], np.cumsum(values)])
    return sums[1:] - np.repeat(sums[np.cumsum(counts) - counts], counts)


def totals(values: Numbers, counts: NDArray[Any]) -> Numbers:
    """The sum of each group of ``counts`` values."""
    sums = np.concatenate([[0], np.cumsum(values)])
    stops = np.cumsum(counts)
    return sums[stops] - sums[stops - counts]
