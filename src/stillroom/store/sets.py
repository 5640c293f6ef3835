"""The kept ids of a row's tokens as a string of bytes: how many each token keeps, which, and a small number for each.

A row is coded by itself, so its bytes do not depend on its neighbours and it is read without them. It is

====================== ================================================================================================
a head                 three numbers of 7 bits a byte: tokens, bytes of the buckets, bytes of the prefixes
a field a token        how many ids it keeps, and an extra number of a fixed width
buckets, unary         the bucket of each id less that of the id before it in its token
prefixes, unary        those of the numbers, which have an exponential Golomb code
remainders             the place of each id in its bucket, then the low bits of each number
====================== ================================================================================================

The ids of a token are a set, so they are coded in ascending order. This is the coding of Elias (1974) and Fano (1971),
a unary code of what falls into which bucket and the rest in plain bits, with buckets that widen with the id: tokenizers
number their tokens from frequent to rare (byte pair encoding merges the frequent pairs first), so the likely ids of a
token crowd in the low numbers. Another order costs bytes and changes nothing else.

Shapes: ``R`` rows, ``L`` tokens of all rows, ``N`` kept ids of all tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillroom.store.bits import Bytes, Numbers, pack, pack_unary, unpack, unpack_unary


class Layout(NamedTuple):
    """What writer and reader agree on.

    vocabulary: how many ids there are. most: how many a token keeps at most. extra: bits of the extra number a token.
    order: of the exponential Golomb code: numbers below 2^order have the shortest, of order + 1 bits.
    """

    vocabulary: int
    most: int
    extra: int
    order: int


class Sets(NamedTuple):
    """Kept ids of tokens, one after another.

    lengths [R] tokens a row; counts [L] ids a token; extras [L]; ids [N], ascending within a token; numbers [N], >= 0.
    """

    lengths: Numbers
    counts: Numbers
    extras: Numbers
    ids: Numbers
    numbers: Numbers


def write_row(layout: Layout, sets: Sets) -> bytes:
    """One row."""
    count_bits = layout.most.bit_length()
    fields = pack(sets.counts | sets.extras << count_bits, np.full(len(sets.counts), count_bits + layout.extra))
    buckets, rest, widths = _to_buckets(layout.vocabulary, sets.counts, sets.ids)
    steps = np.diff(buckets, prepend=0)
    first = (np.cumsum(sets.counts) - sets.counts)[sets.counts > 0]
    steps[first] = buckets[first]
    # The number n has the prefix q of 2^order (2^q - 1) <= n < 2^order (2^(q+1) - 1), and q + order bits below it.
    shifted = (sets.numbers >> layout.order) + 1
    prefixes = np.frexp(shifted.astype(np.float64))[1].astype(np.int64) - 1
    low = sets.numbers - (((1 << prefixes) - 1) << layout.order)
    streams = [pack_unary(steps), pack_unary(prefixes)]
    rests = pack(np.concatenate([rest, low]), np.concatenate([widths, prefixes + layout.order]))
    head = b"".join(_seven_bits(size) for size in (len(sets.counts), *map(len, streams)))
    return head + b"".join(part.tobytes() for part in (fields, *streams, rests))


def read_rows(layout: Layout, packed: Bytes, sizes: NDArray[Any]) -> Sets:
    """The rows that lie one after another in ``packed``, each as many bytes as ``sizes`` [R] says."""
    begins = np.cumsum(sizes) - sizes
    heads = np.array([_read_head(packed, int(begin)) for begin in begins], dtype=np.int64).reshape(-1, 4)
    lengths, bucket_bytes, prefix_bytes, fields_at = heads.T
    width = layout.most.bit_length() + layout.extra
    buckets_at = fields_at + (lengths * width + 7) // 8
    prefixes_at = buckets_at + bucket_bytes
    rests_at = prefixes_at + prefix_bytes

    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    fields = unpack(packed, np.repeat(8 * fields_at, lengths) + within * width, np.full(len(within), width))
    counts = fields & ((1 << layout.most.bit_length()) - 1)
    of_row = _sums(counts, lengths)
    steps = unpack_unary(_cut(packed, buckets_at, bucket_bytes), bucket_bytes, of_row)
    prefixes = unpack_unary(_cut(packed, prefixes_at, prefix_bytes), prefix_bytes, of_row)
    starts, widths = _from_buckets(layout.vocabulary, counts, steps)

    low_widths = prefixes + layout.order
    rests_bits = 8 * rests_at
    ids = starts + unpack(packed, _fields_at(rests_bits, widths, of_row), widths)
    lows_bits = rests_bits + _sums(widths, of_row)
    low = unpack(packed, _fields_at(lows_bits, low_widths, of_row), low_widths)
    return Sets(lengths, counts, fields >> layout.most.bit_length(), ids, low + (((1 << prefixes) - 1) << layout.order))


def tokens_of(packed: Bytes, sizes: NDArray[Any]) -> int:
    """How many tokens the rows have together."""
    begins = np.cumsum(sizes) - sizes
    return sum(_read_head(packed, int(begin))[0] for begin in begins)


def bits_at_most(layout: Layout) -> float:
    """Bits of a token that keeps as many ids as it may, evenly spread, with numbers of a few times 2^order."""
    fineness = int(_fineness(np.array([layout.most]))[0])
    starts, widths = _edges(layout.vocabulary, fineness)
    places = np.diff(np.append(starts, layout.vocabulary)) @ widths / layout.vocabulary
    unary = 1 + min(len(starts) / layout.most, len(starts))
    return float(layout.most.bit_length() + layout.extra + layout.most * (unary + places + layout.order + 2))


def as_table(counts: Numbers, values: NDArray[Any], fill: Any, width: int) -> NDArray[Any]:
    """Values [N] of tokens that have ``counts`` [L] of them, as [L, width]."""
    table = np.full((len(counts), width), fill, dtype=values.dtype)
    table[np.arange(width) < counts[:, None]] = values
    return table


# --- buckets ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _edges(vocabulary: int, fineness: int) -> tuple[Numbers, Numbers]:
    """Where each bucket starts and how many bits a place in it takes; a bucket is about start / 2^fineness wide."""
    starts, widths, start = [], [], 0
    while start < vocabulary:
        width = max(((start + CROWD) >> fineness).bit_length() - 1, 0)
        starts.append(start)
        widths.append(width)
        start += 1 << width
    return np.array(starts), np.array(widths)


@lru_cache(maxsize=64)
def _tables(vocabulary: int) -> tuple[Numbers, Numbers, Numbers]:
    """The buckets of every fineness one after another: starts, widths; and where those of each fineness begin."""
    every = [_edges(vocabulary, fineness) for fineness in range(FINEST + 1)]
    begins = np.cumsum([0, *(len(starts) for starts, _ in every[:-1])])
    return np.concatenate([e[0] for e in every]), np.concatenate([e[1] for e in every]), begins


CROWD = 1024
FINEST = 8


def _fineness(counts: Numbers) -> Numbers:
    """More ids take narrower buckets; a bucket and a half for each id costs least."""
    return np.clip(np.frexp(np.maximum(counts, 1).astype(np.float64))[1] - 2, 0, FINEST)


def _to_buckets(vocabulary: int, counts: Numbers, ids: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """The bucket of each id [N], its place there, and the bits that the place takes."""
    starts, widths, begins = _tables(vocabulary)
    fineness = np.repeat(_fineness(counts), counts)
    buckets = np.empty_like(ids)
    for level in np.unique(fineness):
        chosen = fineness == level
        buckets[chosen] = np.searchsorted(_edges(vocabulary, int(level))[0], ids[chosen], side="right") - 1
    at = begins[fineness] + buckets
    return buckets, ids - starts[at], widths[at]


def _from_buckets(vocabulary: int, counts: Numbers, steps: Numbers) -> tuple[Numbers, Numbers]:
    """Where the bucket of each id starts, and the bits of a place in it, from the steps between buckets."""
    starts, widths, begins = _tables(vocabulary)
    ends = np.cumsum(steps)
    first = np.cumsum(counts) - counts
    before = np.concatenate([[0], ends])[first]
    at = np.repeat(begins[_fineness(counts)] - before, counts) + ends
    return starts[at], widths[at]


# --- heads and streams ------------------------------------------------------------------------------------------------


def _seven_bits(number: int) -> bytes:
    """A number in 7 bits a byte, the lowest first; the eighth says that more follows."""
    written = bytearray()
    while number >= 128:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])


def _read_head(packed: Bytes, at: int) -> tuple[int, int, int, int]:
    """Tokens, bytes of the buckets, bytes of the prefixes, and where the head ends."""
    found = []
    for _ in range(3):
        number = shift = 0
        while (byte := int(packed[at])) >= 128:
            number |= (byte & 127) << shift
            shift, at = shift + 7, at + 1
        found.append(number | byte << shift)
        at += 1
    return found[0], found[1], found[2], at


def _cut(packed: Bytes, begins: Numbers, sizes: Numbers) -> Bytes:
    pieces = [packed[begin : begin + size] for begin, size in zip(begins.tolist(), sizes.tolist(), strict=True)]
    return np.concatenate(pieces) if pieces else packed[:0]


def _sums(values: Numbers, lengths: Numbers) -> Numbers:
    """The sum of each row's values, where rows lie one after another."""
    ends = np.concatenate([[0], np.cumsum(values)])
    stops = np.cumsum(lengths)
    return ends[stops] - ends[stops - lengths]


def _fields_at(begins: Numbers, widths: Numbers, lengths: Numbers) -> Numbers:
    """The bit at which each field begins, the fields of a row one after another from the row's ``begins`` on."""
    before = np.cumsum(widths) - widths
    firsts = np.concatenate([before, [0]])[np.minimum(np.cumsum(lengths) - lengths, len(before))]
    return before + np.repeat(begins - firsts, lengths)


def join(rows: Sequence[bytes]) -> tuple[Bytes, Numbers]:
    """Rows one after another, and how many bytes each takes."""
    return np.frombuffer(b"".join(rows), dtype=np.uint8), np.array([len(row) for row in rows], dtype=np.int64)
