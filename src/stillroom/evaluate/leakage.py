"""Whether a benchmark was seen: by what a model scores on its fresh twins, and by what training data have in common.

Two detectors for one disease. The *leakage score* needs the model and new items of the kind: who knows the benchmark
and not its twins has not learnt the task. The *overlap* needs the training data: n-grams of words that stand there and
in the benchmark.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stillroom.errors import UserError
from stillroom.evaluate.statistics import permutation_test

NGRAM = 8  # words
SHARE = 0.8  # of an item's n-grams, from which on it counts as seen


class Leakage(NamedTuple):
    """Accuracy on the benchmark less that on fresh items, in [-1, 1], and the chance of so much without any leak."""

    score: float
    p: float


class Overlap(NamedTuple):
    """The share of items that were seen, in [0, 1], and which."""

    share: float
    seen: list[int]


def leakage(
    benchmark: Sequence[float],
    fresh: Sequence[float],
    *,
    paired: bool = False,
    permutations: int = 10_000,
    seed: int = 0,
) -> Leakage:
    """How much better a model is on a benchmark than on fresh items of the same kind.

    Args:
        benchmark: for each item, 1 for a right answer and 0 for a wrong one.
        fresh: the same for items that nobody can have seen: of the same generator, paraphrased, or with their options
            in another order.
        paired: whether the n-th fresh item is made of the n-th of the benchmark.
        permutations: draws of the test.
        seed: of the draws.
    """
    return Leakage(*permutation_test(benchmark, fresh, paired=paired, permutations=permutations, seed=seed))


def ngram_overlap(items: Sequence[str], corpus: Iterable[str], *, n: int = NGRAM, share: float = SHARE) -> Overlap:
    """Which items of a benchmark stand in a corpus, by n-grams of words in small letters.

    An item counts as seen if one text holds most of it: what texts written by one template have in common is spread
    over many. An item with fewer than ``n`` words is one n-gram of all its words; one without any was not seen. The
    corpus is read once, text by text, and nothing of it is kept.

    Args:
        items: texts of the benchmark.
        corpus: texts.
        n: words of an n-gram, >= 1.
        share: of an item's n-grams that must stand in one text for it to count as seen, in (0, 1].

    Raises:
        ValueError: a number outside its range, or no item.
    """
    if n < 1 or not 0 < share <= 1 or not items:
        raise ValueError(f"n must be at least 1, share in (0, 1], and there must be an item; they are {n} and {share}")
    asked = [_ngrams(_words(item), n) for item in items]
    owners: dict[tuple[str, ...], list[int]] = {}
    for place, grams in enumerate(asked):
        for gram in grams:
            owners.setdefault(gram, []).append(place)
    lengths = sorted({len(gram) for gram in owners})
    seen: set[int] = set()
    for text in corpus:
        words = _words(text)
        hits = [gram for length in lengths for gram in owners.keys() & _ngrams(words, length, whole=False)]
        counts = Counter(place for gram in hits for place in owners[gram])
        seen |= {place for place, count in counts.items() if count >= share * len(asked[place])}
    return Overlap(len(seen) / len(items), sorted(seen))


def refuse_seen(items: Sequence[str], corpus: Iterable[str], *, whose: str, most: float = 0.01) -> None:
    """Refuse to measure on items that were trained on.

    Args:
        items: texts of the benchmark.
        corpus: texts of the training data.
        whose: whose data they are, for the message.
        most: share of items up to which an overlap is held for chance.

    Raises:
        UserError: more than that were seen.
    """
    share, seen = ngram_overlap(items, corpus)
    if share > most:
        raise UserError(
            f"{len(seen)} of {len(items)} rows (the first is row {seen[0]}) stand in the training data of {whose}, so "
            "a score on them would say nothing; measure on other rows, or pass --allow-overlap"
        )


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _ngrams(words: list[str], n: int, *, whole: bool = True) -> set[tuple[str, ...]]:
    """The n-grams of some words; of fewer than n, all of them as one, if ``whole`` says so."""
    length = min(n, len(words)) if whole else n
    return set(zip(*(words[start:] for start in range(length)), strict=False)) if length else set()
