"""Rows that say the same: exactly, after normalising, or nearly, by the Jaccard index of their shingles.

Of each group the first row stays. Near duplicates are found with MinHash signatures and locality-sensitive hashing
(Broder 1997; Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*, chapter 3): the i-th hash of two sets agrees
with a probability that equals their Jaccard index J, so one of b bands of r hashes agrees as a whole with probability
1 - (1 - J^r)^b. Pairs that a band brings together are then compared by their true Jaccard index: what is dropped is
above the threshold for certain, and only a duplicate may be missed, with a probability that `banding` states.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stillroom.synthesis.account import Outcome, accounted
from stillroom.synthesis.columns import each_row, require
from stillroom.synthesis.rejects import Rejects

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray

DUPLICATE, NEAR_DUPLICATE = "duplicate", "near duplicate"


class Bands(NamedTuple):
    """How a signature is cut: so many bands of so many hashes."""

    bands: int
    rows: int

    def recall(self, jaccard: float) -> float:
        """The probability that a pair with this Jaccard index is compared at all."""
        return 1 - (1 - jaccard**self.rows) ** self.bands


def banding(threshold: float, recall: float, permutations: int) -> Bands:
    """The longest bands, and so the fewest needless comparisons, that find a pair at the threshold often enough.

    Args:
        threshold: Jaccard index in (0, 1].
        recall: the least probability with which a pair of exactly that index is found, in (0, 1); more similar pairs
            are found more often.
        permutations: hashes a signature.

    Raises:
        ValueError: so few hashes can't do it.
    """
    if not (0 < threshold <= 1 and 0 < recall < 1 and permutations >= 1):
        raise ValueError("the threshold lies in (0, 1], the recall in (0, 1), and there is at least one hash")
    for rows in range(permutations, 0, -1):
        if (bands := Bands(permutations // rows, rows)).recall(threshold) >= recall:
            return bands
    raise ValueError(
        f"{permutations} hashes find a pair at {threshold} with a probability of "
        f"{Bands(permutations, 1).recall(threshold):.3f} at most, and {recall} is wanted; take more hashes"
    )


def normalise(text: str) -> str:
    """Compatibility forms, case and punctuation set aside, and single spaces: what `exact` and `shingles` compare."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(" " if unicodedata.category(sign)[0] in "PZC" else sign for sign in folded)
    return " ".join(kept.split()) or " ".join(folded.split())  # a text of punctuation alone is not like any other


def shingles(text: str, n: int = 3, unit: str = "words") -> set[str]:
    """Runs of n words or characters of the normalised text; a shorter text is one shingle."""
    if unit not in ("words", "characters") or n < 1:
        raise ValueError("unit is 'words' or 'characters', and n at least 1")
    flat = normalise(text)
    parts, between = (flat.split(), " ") if unit == "words" else (list(flat), "")
    return {between.join(parts[place : place + n]) for place in range(max(len(parts) - n + 1, 1))}


def jaccard(one: set[Any], other: set[Any]) -> float:
    """Size of the intersection over that of the union; 1 for two empty sets."""
    return len(one & other) / len(one | other) if one or other else 1.0


def minhash(sets: Iterable[set[str]], permutations: int = 128, seed: int = 0) -> NDArray[np.uint32]:
    """Signatures [sets, permutations]; the share of equal places of two rows estimates their Jaccard index.

    The estimate has the standard deviation sqrt(J (1 - J) / permutations). An empty set has the largest value
    everywhere.
    """
    import numpy as np

    salts = np.random.default_rng(seed).integers(0, 2**64, size=(permutations, 1), dtype=np.uint64)
    rows = [_signature(one, salts) for one in sets]
    return np.stack(rows) if rows else np.empty((0, permutations), dtype=np.uint32)


def exact(
    dataset: Dataset,
    columns: str | Sequence[str],
    *,
    against: Iterable[str] = (),
    rejects: str | Path | None = None,
    stage: str = "exact duplicates",
) -> Outcome:
    """Each text once, compared after `normalise`. Keeps 16 bytes a text in memory.

    Args:
        dataset: the rows.
        columns: whose texts, all together, make a row a duplicate.
        against: texts that rows must not repeat either, such as those of a test set (with one column).
        rejects: file for the dropped rows; the detail names the row that stayed.
        stage: name in the account.
    """
    names = [columns] if isinstance(columns, str) else list(columns)
    require(dataset, *names)
    first: dict[bytes, str] = {_key([text]): "of a text to keep away from" for text in against}
    kept = []
    with accounted(stage) as account, Rejects(rejects, stage) as aside:
        for place, row in enumerate(each_row(dataset)):
            account.rows += 1
            key = _key([str(row[name]) for name in names])
            if key in first:
                account.rejected[DUPLICATE] += 1
                aside.add(row, DUPLICATE, first[key])
            else:
                first[key] = f"of row {place}"
                kept.append(place)
        account.kept = len(kept)
    return Outcome(dataset.select(kept), account)


def near(
    dataset: Dataset,
    column: str,
    *,
    threshold: float = 0.8,
    n: int = 3,
    unit: str = "words",
    permutations: int = 128,
    recall: float = 0.95,
    seed: int = 0,
    against: Sequence[str] = (),
    rejects: str | Path | None = None,
    stage: str = "near duplicates",
) -> Outcome:
    """No row whose shingles have a Jaccard index of ``threshold`` or more with those of an earlier row that stays.

    Memory: 8 bytes a band and row (some 200 bytes a row by default), and little more for rows that look like another.

    Args:
        dataset: the rows.
        column: their texts.
        threshold: Jaccard index in (0, 1].
        n: words or characters a shingle.
        unit: ``words`` or ``characters``; the latter for languages without spaces, and for short texts.
        permutations: hashes a signature; more of them make for fewer needless comparisons at the same recall.
        recall: least probability with which a pair at the threshold is found.
        seed: of the hashes. The same seed gives the same rows.
        against: texts that rows must not resemble either, such as those of a test set.
        rejects: file for the dropped rows; the detail names the row that stayed, and the index.
        stage: name in the account.

    Raises:
        UserError: there is no such column.
        ValueError: so few hashes can't give that recall.
    """
    require(dataset, column)
    bands, texts = banding(threshold, recall, permutations), _Texts(dataset, column, against, n, unit)
    groups = _groups(texts, bands, permutations, seed)
    kept, last = [], len(against)
    members: dict[tuple[int, int], list[int]] = {}
    with accounted(stage) as account, Rejects(rejects, stage) as aside:
        for place in range(len(texts)):
            account.rows += place >= last
            own = [(band, int(group)) for band, group in enumerate(groups[place]) if group >= 0]
            others = {other for key in own for other in members.get(key, ())} if place >= last else set()
            if (found := _nearest(place, others, texts, threshold)) is not None:
                account.rejected[NEAR_DUPLICATE] += 1
                other, index = found
                what = f"of row {other - last}" if other >= last else "of a text to keep away from"
                aside.add(dataset[place - last], NEAR_DUPLICATE, f"{what}, Jaccard index {index:.3f}")
                continue
            for key in own:
                members.setdefault(key, []).append(place)
            if place >= last:
                kept.append(place - last)
        account.kept = len(kept)
    return Outcome(dataset.select(kept), account)


class _Texts:
    """The texts to keep away from, then the rows'; shingles are made when they are wanted, and some remembered."""

    def __init__(self, dataset: Dataset, column: str, against: Sequence[str], n: int, unit: str) -> None:
        self._column, self._against, self._n, self._unit = dataset.select_columns(column), against, n, unit
        self._name, self.shingles = column, lru_cache(maxsize=4096)(self._shingles)

    def __len__(self) -> int:
        return len(self._against) + len(self._column)

    def each(self) -> Iterable[set[str]]:
        """The shingles of all, in order."""
        for text in self._against:
            yield shingles(text, self._n, self._unit)
        for row in each_row(self._column):
            yield shingles(row[self._name] or "", self._n, self._unit)

    def _shingles(self, place: int) -> set[str]:
        before = len(self._against)
        text = self._against[place] if place < before else self._column[place - before][self._name]
        return shingles(text or "", self._n, self._unit)


def _nearest(place: int, others: set[int], texts: _Texts, threshold: float) -> tuple[int, float] | None:
    """The first of the others that is as near as the threshold."""
    for other in sorted(others):
        index = jaccard(texts.shingles(place), texts.shingles(other))
        if index >= threshold:
            return other, index
    return None


def _groups(texts: _Texts, bands: Bands, permutations: int, seed: int) -> NDArray[np.int64]:
    """Rows that share a band have the same number there [rows, bands]; -1 for one that shares it with nobody."""
    import numpy as np
    import xxhash

    salts = np.random.default_rng(seed).integers(0, 2**64, size=(permutations, 1), dtype=np.uint64)
    keys = np.empty((len(texts), bands.bands), dtype=np.uint64)
    for place, one in enumerate(texts.each()):
        cut = _signature(one, salts)[: bands.bands * bands.rows].reshape(bands.bands, bands.rows)
        keys[place] = [xxhash.xxh3_64_intdigest(band.tobytes()) for band in cut]
    groups = keys.view(np.int64)  # turned into groups in place, band by band
    for band in range(bands.bands):
        _, inverse, counts = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        groups[:, band] = np.where(counts[inverse] > 1, inverse, -1)
    return groups


def _signature(one: set[str], salts: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The least hash of the set under each salt [permutations]."""
    import numpy as np
    import xxhash

    if not one:
        return np.full(len(salts), 2**32 - 1, dtype=np.uint32)
    hashes = np.fromiter((xxhash.xxh3_64_intdigest(part.encode("utf-8", "surrogatepass")) for part in one), np.uint64)
    least = np.full(len(salts), 2**64 - 1, dtype=np.uint64)
    for start in range(0, len(hashes), 4096):  # a book has many shingles; [permutations, shingles] must stay small
        np.minimum(least, _mixed(hashes[None, start : start + 4096] ^ salts).min(axis=1), out=least)
    return (least >> np.uint64(32)).astype(np.uint32)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The last steps of SplitMix64 (Steele, Lea, Flood 2014): each bit of the input changes half of the output's."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _key(texts: Sequence[str]) -> bytes:
    import xxhash

    return xxhash.xxh3_128_digest("\0".join(normalise(text) for text in texts).encode("utf-8", "surrogatepass"))
