"""How much two texts have in common: ROUGE-L, and dropping rows that are too like an earlier one by any measure.

For the small pools of loops that grow their own instructions, where every new row is held against every old one. For a
corpus, `stillroom.synthesis.duplicates.near` is the tool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from stillroom.synthesis.account import Outcome, accounted
from stillroom.synthesis.columns import each_row, require
from stillroom.synthesis.duplicates import jaccard, normalise
from stillroom.synthesis.rejects import Rejects

if TYPE_CHECKING:
    from datasets import Dataset

Similarity = Callable[[str, str], float]
TOO_SIMILAR = "too similar"


def rouge_l(one: str, other: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004), after `normalise`; in [0, 1], 0 if a text is empty."""
    first, second = normalise(one).split(), normalise(other).split()
    common = _longest_common_subsequence(first, second)
    return 2 * common / (len(first) + len(second)) if common else 0.0


def word_jaccard(one: str, other: str) -> float:
    """Jaccard index of the sets of words, after `normalise`; 1 for two empty texts."""
    return jaccard(set(normalise(one).split()), set(normalise(other).split()))


def unlike(
    dataset: Dataset,
    column: str,
    *,
    similarity: Similarity = rouge_l,
    most: float = 0.7,
    against: Iterable[str] = (),
    rejects: str | Path | None = None,
    stage: str = "unlike",
) -> Outcome:
    """The rows that are not too similar to an earlier one that stays. Takes time with the square of their number.

    Args:
        dataset: the rows.
        column: their texts.
        similarity: of two texts.
        most: rows above it are dropped; one that reaches it stays.
        against: texts that rows must not resemble either.
        rejects: file for the dropped rows; the detail names the text that stayed.
        stage: name in the account.
    """
    require(dataset, column)
    kept, texts = [], list(against)
    with accounted(stage) as account, Rejects(rejects, stage) as aside:
        for place, row in enumerate(each_row(dataset)):
            account.rows += 1
            text = row[column] or ""
            like = next((other for other in texts if similarity(text, other) > most), None)
            if like is not None:
                account.rejected[TOO_SIMILAR] += 1
                aside.add(row, TOO_SIMILAR, like)
                continue
            texts.append(text)
            kept.append(place)
        account.kept = len(kept)
    return Outcome(dataset.select(kept), account)


def _longest_common_subsequence(one: list[str], other: list[str]) -> int:
    """Its length, by rows of the usual table."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = row
        row = [0]
        for place, second in enumerate(other):
            row.append(before[place] + 1 if word == second else max(before[place + 1], row[place]))
    return row[-1]
