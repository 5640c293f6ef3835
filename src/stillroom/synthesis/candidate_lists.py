"""Lists of candidates for training rankers: the relevant one, and others drawn from what a retriever finds.

What a retriever finds beside the labelled candidate is not always wrong: nobody looked. A strong re-ranker tells which
of it is surely relevant and which surely is not; between the two nothing is taken ("denoising", as in RocketQA).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stillroom.errors import UserError
from stillroom.synthesis.account import Outcome, accounted
from stillroom.synthesis.columns import beside, each_row, require
from stillroom.synthesis.rejects import Rejects

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.random import Generator

UNLABELLED = "no candidate is labelled relevant"
NONE_SURE = "no candidate is surely relevant"
TOO_FEW = "too few other candidates"


class _List(NamedTuple):
    relevant: str
    others: list[str]


def candidate_lists(
    dataset: Dataset,
    *,
    negatives: int,
    denoise: bool = False,
    relevant_above: float = 0.9,
    irrelevant_below: float = 0.1,
    seed: int = 0,
    rejects: str | Path | None = None,
    stage: str = "candidate lists",
) -> Outcome:
    """Rows {anchor, positive, negative} out of queries and what was found for them.

    Plain lists take the labelled candidate and others at random. Denoised ones take as others only what the re-ranker
    is sure is irrelevant, and for a query without a label the best that it is sure is relevant. The two are put
    together by `stillroom.synthesis.mix`.

    Args:
        dataset: ``anchor``, the query; ``positive``, the labelled candidate or null; ``found``, a list of texts; and to
            denoise ``scores``, the re-ranker's probability of each.
        negatives: other candidates of each list, at least 1.
        denoise: whether the scores decide.
        relevant_above: a score above it is surely relevant.
        irrelevant_below: a score below it surely is not.
        seed: of the draw. The draw of one row does not depend on the others.
        rejects: file for the rows that give no list.
        stage: name in the account.

    Raises:
        UserError: a column is missing, or a row has other numbers of texts and scores.
        ValueError: a value outside its range.
    """
    if negatives < 1 or not 0 <= irrelevant_below <= relevant_above <= 1:
        raise ValueError(
            f"negatives must be >= 1 and 0 <= irrelevant_below <= relevant_above <= 1; they are {negatives}, "
            f"{irrelevant_below} and {relevant_above}"
        )
    import numpy as np

    require(dataset, "anchor", "positive", "found", *(["scores"] if denoise else []))
    places: list[int] = []
    made: list[_List] = []
    with accounted(stage) as account, Rejects(rejects, stage) as aside:
        for place, row in enumerate(each_row(dataset)):
            account.rows += 1
            draw = np.random.default_rng([seed, place])
            sure = (relevant_above, irrelevant_below) if denoise else None
            one = _listed(row, negatives, sure, draw, place)
            if isinstance(one, str):
                account.rejected[one] += 1
                aside.add(row, one)
                continue
            places.append(place)
            made.append(one)
        account.kept = len(made)
    rest = dataset.remove_columns([name for name in ("positive", "found", "scores") if name in dataset.column_names])
    columns: Mapping[str, Sequence[Any]] = {
        "positive": [one.relevant for one in made],
        "negative": [one.others for one in made],
    }
    return Outcome(beside(rest, places, columns), account)


def _listed(
    row: Mapping[str, Any], negatives: int, sure: tuple[float, float] | None, draw: Generator, place: int
) -> _List | str:
    """A list, or why there is none."""
    found: list[str] = list(row["found"])
    relevant = row["positive"]
    usable = found
    if sure is not None:
        scores = row["scores"]
        if len(scores) != len(found):
            raise UserError(f"row {place} has {len(found)} found texts and {len(scores)} scores; there must be as many")
        if relevant is None and found:
            best = max(range(len(found)), key=scores.__getitem__)
            relevant = found[best] if scores[best] > sure[0] else None
        if relevant is None:
            return NONE_SURE
        usable = [text for text, score in zip(found, scores, strict=True) if score < sure[1]]
    if relevant is None:
        return UNLABELLED
    usable = [text for text in dict.fromkeys(usable) if text != relevant]
    if len(usable) < negatives:
        return TOO_FEW
    chosen = sorted(draw.choice(len(usable), negatives, replace=False).tolist())
    return _List(relevant, [usable[number] for number in chosen])
