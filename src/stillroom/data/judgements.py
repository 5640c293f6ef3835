"""`judgements`: what people think of the likeness of words and texts, as gensim carries it inside its package.

| view         | columns                             | rows   | what was judged, and the source                       |
|--------------|-------------------------------------|--------|-------------------------------------------------------|
| `wordsim353` | id, first, second, score in [0, 10] | 353    | how related two words are; Finkelstein et al., 2002   |
| `simlex999`  | id, first, second, score in [0, 10] | 999    | how alike, which is another thing; Hill et al., 2015  |
| `lee`        | id, first, second, score in [0, 1]  | 1,225  | pairs of 50 news texts; Lee, Pincombe and Welsh, 2005 |
| `analogies`  | id, section, a, b, c, d             | 19,544 | a is to b as c is to d; Mikolov et al., 2013          |

A higher score is more alike. All of it is there to measure with, not to train on: the one split is `test`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.data.tables import sample
from stillroom.errors import need

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

SPLITS = ("test",)


def load(view: str, split: str, limit: int | None, seed: int) -> Dataset:
    """``limit`` rows of a view, drawn with ``seed``, or all."""
    return sample(_LOADERS[view](), limit, seed)


def wordsim353() -> Dataset:
    """The 353 judged word pairs of WordSim-353 (one pair, money and cash, was judged twice)."""
    return _table(_word_pairs("wordsim353.tsv"), "wordsim353")


def simlex999() -> Dataset:
    """The 999 judged word pairs of SimLex-999."""
    return _table(_word_pairs("simlex999.txt"), "simlex999")


def lee() -> tuple[list[str], np.ndarray]:
    """The 50 documents of Lee et al., and people's mean judgements of how alike any two are.

    Returns:
        The texts, and a symmetric [50, 50] matrix with values in [0, 1] and 1 on the diagonal.
    """
    import numpy as np

    texts = [line for line in _file("lee.cor").read_text("latin-1").split("\n") if line.strip()]
    upper = np.triu(np.loadtxt(_file("similarities0-1.txt")))
    return texts, np.maximum(upper, upper.T)


def lee_pairs() -> Dataset:
    """The same as one row for each of the 1,225 pairs of documents."""
    texts, scores = lee()
    pairs = combinations(range(len(texts)), 2)
    return _table(({"first": texts[a], "second": texts[b], "score": float(scores[a, b])} for a, b in pairs), "lee")


def analogies() -> Dataset:
    """The 19,544 questions a : b = c : d in 14 sections."""
    return _table(_analogies(), "analogies")


_LOADERS: dict[str, Callable[[], Dataset]] = {
    "wordsim353": wordsim353,
    "simlex999": simlex999,
    "lee": lee_pairs,
    "analogies": analogies,
}
VIEWS = dict.fromkeys(_LOADERS)


def _file(name: str) -> Path:
    found = find_spec("gensim")
    if found is None or not found.submodule_search_locations:
        need("gensim", "lexical")
        raise AssertionError("gensim is found when imported and not when looked for")
    return Path(found.submodule_search_locations[0], "test", "test_data", name)


def _word_pairs(name: str) -> Iterator[dict[str, Any]]:
    for line in _file(name).read_text("utf-8").splitlines():
        if not line.startswith("#"):
            first, second, score = line.split("\t")
            yield {"first": first, "second": second, "score": float(score)}


def _analogies() -> Iterator[dict[str, str]]:
    section = ""
    for line in _file("questions-words.txt").read_text("utf-8").splitlines():
        if line.startswith(":"):
            section = line[1:].strip()
        else:
            yield {"section": section, **dict(zip("abcd", line.split(), strict=True))}


def _table(rows: Iterator[dict[str, Any]], name: str) -> Dataset:
    from datasets import Dataset

    return Dataset.from_list([{"id": f"{name}-{number}", **row} for number, row in enumerate(rows)])
