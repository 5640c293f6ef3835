"""Two fragments as one text, and whether they come from the same place: rows for in-context classification.

And names that carry no meaning, so that a model of code reads more than names.
"""

from __future__ import annotations

import keyword
import re
from collections import Counter
from typing import TYPE_CHECKING

from stillroom.errors import UserError
from stillroom.synthesis.account import Outcome, accounted
from stillroom.synthesis.columns import beside, require

if TYPE_CHECKING:
    from datasets import Dataset

ALONE = "the only fragment of its source"

_NAME = re.compile(r"\b[A-Za-z_]\w*\b")


def pack_fragments(
    dataset: Dataset,
    *,
    text: str = "text",
    source: str = "source",
    separator: str = "[SEP]",
    following: bool = False,
    seed: int = 0,
    stage: str = "pack fragments",
) -> Outcome:
    """Rows {text, label}: every fragment with a second one, in half of the rows (label 1) of the same source.

    Args:
        dataset: fragments in their order, with their sources.
        text: the column of fragments.
        source: the column that says where each is from (a repository, a module).
        separator: put between the two; the tokenizer's own.
        following: whether the second of the same source is the next one (next-sentence prediction), not any other.
        seed: of the draw.
        stage: name in the account.

    Raises:
        UserError: a column is missing, or there is but one source.
    """
    import numpy as np

    require(dataset, text, source)
    texts, sources = dataset[text][:], dataset[source][:]
    members: dict[str, list[int]] = {}
    for place, name in enumerate(sources):
        members.setdefault(name, []).append(place)
    if len(members) < 2:
        raise UserError(f"all fragments are of one source ({source}); there is nothing to tell apart")
    rank = {place: number for places in members.values() for number, place in enumerate(places)}
    with accounted(stage) as account:
        made: list[str] = []
        labels: list[int] = []
        for place, name in enumerate(sources):
            account.rows += 1
            draw = np.random.default_rng([seed, place])
            own, same = members[name], bool(draw.integers(2))
            if len(own) < 2:
                account.rejected[ALONE] += 1
                continue
            if same and following:
                other = own[(rank[place] + 1) % len(own)]
            elif same:
                other = own[(rank[place] + 1 + int(draw.integers(len(own) - 1))) % len(own)]
            else:
                other = _elsewhere(sources, name, draw)
            made.append(f"{texts[place]} {separator} {texts[other]}")
            labels.append(int(same))
        account.kept = len(made)
    plain = dataset.select(range(len(made))).remove_columns(dataset.column_names)
    return Outcome(beside(plain, list(range(len(made))), {"text": made, "label": labels}), account)


def _elsewhere(sources: list[str], name: str, draw: object) -> int:
    """The place of some fragment of another source."""
    import numpy as np

    assert isinstance(draw, np.random.Generator)
    while sources[place := int(draw.integers(len(sources)))] == name:
        pass
    return place


def rename_identifiers(code: str, *, seed: int, chance: float = 0.3, least: int = 2) -> str:
    """Code whose frequent names, each with some chance, are replaced by names without a meaning.

    A name is replaced wherever it stands. Keywords and names with two underscores on both sides stay.

    Args:
        code: of a language whose names are words.
        seed: of the draw.
        chance: of each frequent name, in [0, 1].
        least: how often a name must occur to be frequent.
    """
    import numpy as np

    if not 0 <= chance <= 1 or least < 1:
        raise ValueError(f"chance must be in [0, 1] and least >= 1; they are {chance} and {least}")
    draw = np.random.default_rng(seed)
    counts = Counter(_NAME.findall(code))
    frequent = [
        name
        for name, count in counts.items()
        if count >= least and not keyword.iskeyword(name) and not (name.startswith("__") and name.endswith("__"))
    ]
    fresh = (name for number in range(len(counts) + len(frequent) + 1) if (name := f"v{number}") not in counts)
    chosen = {name: next(fresh) for name in frequent if draw.random() < chance}
    return _NAME.sub(lambda found: chosen.get(found[0], found[0]), code)
