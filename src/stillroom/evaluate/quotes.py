"""Do the quotes that were found say what the right ones say? Precision and recall of quotes, their form, and BM25."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from stillroom.errors import need
from stillroom.synthesis.quotes import read_quotes, well_formed

ENOUGH = 0.8  # token F1 from which on two quotes are the same

_WORD = re.compile(r"\w+")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def same_quote(one: str, other: str) -> bool:
    """Whether one has the other's words in a row, or they share nearly all (token F1 of 0.8); case and signs aside."""
    left, right = _words(one), _words(other)
    if not left or not right:
        return False
    if f" {' '.join(left)} " in f" {' '.join(right)} " or f" {' '.join(right)} " in f" {' '.join(left)} ":
        return True
    common = (Counter(left) & Counter(right)).total()
    return 2 * common / (len(left) + len(right)) >= ENOUGH


def quote_scores(predicted: Sequence[str], gold: Sequence[str]) -> dict[str, float]:
    """``precision``, ``recall`` and ``f1`` of the quotes of one reply, in [0, 1]; 0 where there are none.

    Args:
        predicted: the reply's.
        gold: the right ones, at least one.
    """
    if not gold:
        raise ValueError("there is no gold quote to compare with")
    hits = sum(any(same_quote(one, other) for other in gold) for one in predicted)
    found = sum(any(same_quote(one, other) for one in predicted) for other in gold)
    precision, recall = hits / len(predicted) if predicted else 0.0, found / len(gold)
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}


def bm25_score(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """How much of the gold quotes' own BM25 the predicted ones reach, in [0, 1].

    Each predicted quote is a query to the gold quotes, and its best score counts; so is each gold quote for the sum
    that it is divided by. More than that sum counts as 1.
    """
    own = _best_bm25(gold, gold)
    return min(_best_bm25(predicted, gold) / own, 1.0) if own > 0 else 0.0


def _best_bm25(queries: Sequence[str], texts: Sequence[str]) -> float:
    library = need("bm25s", "retrieval")
    tokens = [_words(text) for text in texts]
    index = library.BM25()
    index.index(tokens, show_progress=False)
    known = {word for text in tokens for word in text}
    asked = [[word for word in _words(query) if word in known] for query in queries]
    return sum(float(index.get_scores(words).max()) for words in asked if words)


def reply_scores(replies: Sequence[str], gold: Sequence[Sequence[str]]) -> dict[str, float]:
    """Means over replies: ``quote_precision``, ``quote_recall``, ``quote_f1``, ``format``, ``bm25``.

    Args:
        replies: as they were written, with their marks.
        gold: the right quotes of each.
    """
    if len(replies) != len(gold) or not replies:
        raise ValueError(
            f"{len(replies)} replies and {len(gold)} lists of gold quotes; there must be as many, and some"
        )
    rows = []
    for reply, right in zip(replies, gold, strict=True):
        said = read_quotes(reply)
        found = {f"quote_{name}": value for name, value in quote_scores(said, right).items()}
        rows.append(found | {"format": float(well_formed(reply)), "bm25": bm25_score(said, right)})
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
