"""The kept ids of a row's tokens as a string of bytes: which ids each token keeps, and a small number for each.

A row is coded by itself, so its bytes do not depend on its neighbours and it is read without them. Its tokens help each
other. An id that many of them keep is coded once, as a column: the tokens that keep it, or those that don't where these
are fewer. What is left is coded token by token. Of a row this is, in order,

========== ============================================================================================================
head       tokens, columns, and bytes of the unary codes: 7 bits a byte
fields     of each token, how many ids it keeps beside the columns, and an extra number; of each column, its tokens
unary      the steps between buckets of ids; between the tokens of a column; the prefixes of the numbers
remainders the place of each id in its bucket; the low bits of the steps in columns, and of the numbers
========== ============================================================================================================

A set is coded in ascending order, with the high parts in unary and the low parts in plain bits, as by Elias (1974) and
Fano (1971); the steps in a column with the code of Golomb (1966) and Rice (1979). The buckets of ids widen with the id:
tokenizers number their tokens from frequent to rare (byte pair encoding merges the frequent pairs first), so the likely
ids crowd in the low numbers. Another order of the ids would cost bytes and change nothing else.

Shapes: ``R`` rows, ``L`` tokens of all rows, ``N`` kept ids of all tokens, ``C`` columns of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillroom.store.bits import Bytes, Numbers, pack, pack_unary, running, totals, unpack, unpack_unary, within

ALONE = 10  # bits that an id takes outside a column, and that a column's own id takes, about


class Layout(NamedTuple):
    """What writer and reader agree on.

    vocabulary: how many ids there are. most: how many a token keeps at most. extra: bits of the extra number a token.
    order: of the exponential Golomb code of the numbers: those below 2^order take the fewest bits, order + 1.
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
    tokens = len(sets.counts)
    of_token = np.repeat(np.arange(tokens), sets.counts)
    different, place, kept_by = np.unique(sets.ids, return_inverse=True, return_counts=True)
    chosen = _worth_a_column(tokens, kept_by)
    alone = ~chosen[place]
    columns, kept_by = different[chosen], kept_by[chosen]
    counts = np.bincount(of_token[alone], minlength=tokens)
    count_bits = layout.most.bit_length()
    fields = pack(
        np.concatenate([counts | sets.extras << count_bits, kept_by]),
        np.repeat([count_bits + layout.extra, tokens.bit_length()], [tokens, len(columns)]),
    )
    # The columns' own ids are one more set.
    set_counts = np.append(counts, len(columns))
    buckets, rest, rest_bits = _to_buckets(layout.vocabulary, set_counts, np.append(sets.ids[alone], columns))
    steps = np.diff(buckets, prepend=0)
    first = (np.cumsum(set_counts) - set_counts)[set_counts > 0]
    steps[first] = buckets[first]
    gaps, gap_bits = _columns_to_gaps(tokens, kept_by, np.cumsum(chosen)[place[~alone]] - 1, of_token[~alone])
    # The number n has the prefix q of 2^order (2^q - 1) <= n < 2^order (2^(q+1) - 1), and q + order bits below it.
    prefixes = np.frexp(((sets.numbers >> layout.order) + 1).astype(np.float64))[1].astype(np.int64) - 1
    low = sets.numbers - (((1 << prefixes) - 1) << layout.order)

    unary = pack_unary(np.concatenate([steps, gaps >> gap_bits, prefixes]))
    rests = pack(np.concatenate([rest, gaps, low]), np.concatenate([rest_bits, gap_bits, prefixes + layout.order]))
    head = b"".join(_seven_bits(size) for size in (tokens, len(columns), len(unary)))
    return head + b"".join(part.tobytes() for part in (fields, unary, rests))


def read_rows(layout: Layout, packed: Bytes, sizes: NDArray[Any]) -> Sets:
    """The rows that lie one after another in ``packed``, each as many bytes as ``sizes`` [R] says."""
    begins = (np.cumsum(sizes) - sizes).tolist()
    heads = np.array([_read_head(packed, begin) for begin in begins], dtype=np.int64).reshape(-1, 4)
    lengths, columns, unary_bytes, fields_at = heads.T
    count_bits, field_bits = layout.most.bit_length(), layout.most.bit_length() + layout.extra
    column_bits = np.frexp(lengths.astype(np.float64))[1].astype(np.int64)
    unary_at = fields_at + (lengths * field_bits + columns * column_bits + 7) // 8
    rests_at = 8 * (unary_at + unary_bytes)

    fields = unpack(packed, np.repeat(8 * fields_at, lengths) + within(lengths) * field_bits, _all(field_bits, lengths))
    alone, widths = fields & ((1 << count_bits) - 1), np.repeat(column_bits, columns)
    kept_by = unpack(
        packed, np.repeat(8 * fields_at + lengths * field_bits, columns) + within(columns) * widths, widths
    )
    listed = np.minimum(kept_by, np.repeat(lengths, columns) - kept_by)

    # How many values of each kind a row has, and where they lie among its unary codes.
    unary, found = unpack_unary(_cut(packed, unary_at, unary_bytes), unary_bytes)
    row_ends = np.cumsum(lengths)
    of_ids, of_gaps = totals(alone, lengths) + columns, totals(listed, columns)
    of_numbers = found - of_ids - of_gaps
    starts = np.cumsum(found) - found
    steps = unary[_ranges(starts, of_ids)]
    high_gaps = unary[_ranges(starts + of_ids, of_gaps)]
    prefixes = unary[_ranges(starts + of_ids + of_gaps, of_numbers)]

    set_counts = np.insert(alone, row_ends, columns)
    bucket_starts, rest_bits = _from_buckets(layout.vocabulary, set_counts, steps)
    ids = bucket_starts + _fields(packed, rests_at, rest_bits, of_ids)
    rests_at = rests_at + totals(rest_bits, of_ids)
    gap_bits = np.repeat(_rice(np.repeat(lengths, columns), listed), listed)
    gaps = high_gaps << gap_bits | _fields(packed, rests_at, gap_bits, of_gaps)
    rests_at = rests_at + totals(gap_bits, of_gaps)
    number_bits = prefixes + layout.order
    numbers = _fields(packed, rests_at, number_bits, of_numbers) + (((1 << prefixes) - 1) << layout.order)

    of_column = np.insert(np.zeros(len(alone), dtype=bool), row_ends, True)
    in_columns = np.repeat(of_column, set_counts)
    token, column = _gaps_to_columns(np.repeat(lengths, columns), kept_by, listed, gaps)
    token += np.repeat(row_ends - lengths, columns)[column]
    # A token's ids are in ascending order again, and its numbers stand in that order.
    keys = np.concatenate([np.repeat(np.arange(len(alone)), alone), token]) * layout.vocabulary
    keys += np.concatenate([ids[~in_columns], ids[in_columns][column]])
    keys.sort()
    of_token = keys // layout.vocabulary
    counts = np.bincount(of_token, minlength=len(alone))
    return Sets(lengths, counts, fields >> count_bits, keys - of_token * layout.vocabulary, numbers)


def tokens_of(packed: Bytes, sizes: NDArray[Any]) -> int:
    """How many tokens the rows have together."""
    begins = (np.cumsum(sizes) - sizes).tolist()
    return sum(_read_head(packed, begin)[0] for begin in begins)


def bits_at_most(layout: Layout) -> float:
    """Bits of a token that keeps as many ids as it may, evenly spread, with numbers of a few times 2^order."""
    fineness = int(_fineness(np.array([layout.most]))[0])
    starts, widths = _edges(layout.vocabulary, fineness)
    places = np.diff(np.append(starts, layout.vocabulary)) @ widths / layout.vocabulary
    unary = 1 + len(starts) / layout.most
    return float(layout.most.bit_length() + layout.extra + layout.most * (unary + places + layout.order + 2))


def as_table(counts: Numbers, values: NDArray[Any], fill: Any, width: int) -> NDArray[Any]:
    """Values [N] of tokens that have ``counts`` [L] of them, as [L, width]."""
    table = np.full((len(counts), width), fill, dtype=values.dtype)
    table[np.arange(width) < counts[:, None]] = values
    return table


# --- columns ----------------------------------------------------------------------------------------------------------


def _rice(tokens: NDArray[Any], listed: NDArray[Any]) -> Numbers:
    """The low bits of a step in a column: the binary logarithm of the mean step, rounded down."""
    return np.frexp((tokens // np.maximum(listed, 1)).astype(np.float64))[1].astype(np.int64).clip(1) - 1


def _worth_a_column(tokens: int, kept_by: Numbers) -> NDArray[np.bool_]:
    """Which ids take fewer bits as a column of the tokens that keep them than alone in each."""
    listed = np.minimum(kept_by, tokens - kept_by)
    low = _rice(np.array(tokens), listed)
    return ALONE + tokens.bit_length() + listed * (1 + low) + (tokens >> low) * (listed > 0) < ALONE * kept_by


def _columns_to_gaps(tokens: int, kept_by: Numbers, column: Numbers, token: Numbers) -> tuple[Numbers, Numbers]:
    """How many tokens lie between those listed of each column, and the low bits of each; entries are in any order."""
    keeps = np.zeros((len(kept_by), tokens), dtype=bool)
    keeps[column, token] = True
    keeps[2 * kept_by > tokens] ^= True
    column, token = np.nonzero(keeps)
    listed = np.minimum(kept_by, tokens - kept_by)
    gaps = np.diff(token, prepend=0) - 1
    first = (np.cumsum(listed) - listed)[listed > 0]
    gaps[first] = token[first]
    return gaps, np.repeat(_rice(np.full(len(listed), tokens), listed), listed)


def _gaps_to_columns(lengths: Numbers, kept_by: Numbers, listed: Numbers, gaps: Numbers) -> tuple[Numbers, Numbers]:
    """The token within its row, and the column, of each entry of all columns; ``lengths`` are of the columns' rows."""
    token, column = running(gaps + 1, listed) - 1, np.repeat(np.arange(len(listed)), listed)
    turned = 2 * kept_by > lengths
    plain = ~turned[column]
    keeps = np.ones(int(lengths[turned].sum()), dtype=bool)
    begins = np.cumsum(np.where(turned, lengths, 0)) - np.where(turned, lengths, 0)
    keeps[(begins[column] + token)[~plain]] = False
    others = np.flatnonzero(turned)
    other_tokens, other_columns = within(lengths[turned])[keeps], np.repeat(others, lengths[turned])[keeps]
    return np.concatenate([token[plain], other_tokens]), np.concatenate([column[plain], other_columns])


# --- buckets ----------------------------------------------------------------------------------------------------------

CROWD = 1024  # ids below about this number are as likely as each other
FINEST = 12


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


def _fineness(counts: NDArray[Any]) -> Numbers:
    """More ids take narrower buckets; about as many buckets as ids cost least."""
    return np.clip(np.frexp(np.maximum(counts, 1).astype(np.float64))[1] - 2, 0, FINEST)


def _to_buckets(vocabulary: int, counts: NDArray[Any], ids: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """The bucket of each id [N], its place there, and the bits that the place takes."""
    starts, widths, begins = _tables(vocabulary)
    fineness = np.repeat(_fineness(counts), counts)
    buckets = np.empty_like(ids)
    for level in np.unique(fineness):
        chosen = fineness == level
        buckets[chosen] = np.searchsorted(_edges(vocabulary, int(level))[0], ids[chosen], side="right") - 1
    at = begins[fineness] + buckets
    return buckets, ids - starts[at], widths[at]


def _from_buckets(vocabulary: int, counts: NDArray[Any], steps: Numbers) -> tuple[Numbers, Numbers]:
    """Where the bucket of each id starts, and the bits of a place in it, from the steps between buckets."""
    starts, widths, begins = _tables(vocabulary)
    at = np.repeat(begins[_fineness(counts)], counts) + running(steps, counts)
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
    """Tokens, columns, bytes of the unary codes, and where the head ends."""
    found = []
    for _ in range(3):
        number = shift = 0
        while (byte := int(packed[at])) >= 128:
            number |= (byte & 127) << shift
            shift, at = shift + 7, at + 1
        found.append(number | byte << shift)
        at += 1
    return found[0], found[1], found[2], at


def _all(value: int, lengths: Numbers) -> Numbers:
    return np.full(int(lengths.sum()), value)


def _ranges(starts: Numbers, counts: Numbers) -> Numbers:
    """start, start + 1, ... for each start, as many as its count."""
    return np.repeat(starts, counts) + within(counts)


def _cut(packed: Bytes, begins: Numbers, sizes: Numbers) -> Bytes:
    pieces = [packed[begin : begin + size] for begin, size in zip(begins.tolist(), sizes.tolist(), strict=True)]
    return np.concatenate(pieces) if pieces else packed[:0]


def _fields(packed: Bytes, begins: Numbers, widths: Numbers, counts: Numbers) -> Numbers:
    """Fields one after another from the bit at which each row's begin."""
    return unpack(packed, np.repeat(begins, counts) + running(widths, counts) - widths, widths)


def join(rows: Sequence[bytes]) -> tuple[Bytes, Numbers]:
    """Rows one after another, and how many bytes each takes."""
    return np.frombuffer(b"".join(rows), dtype=np.uint8), np.array([len(row) for row in rows], dtype=np.int64)
