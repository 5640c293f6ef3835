"""Are the right spans found? F1 over spans of words, where a span is a run of words of one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

Span = tuple[int, int, int]


def spans(tags: Sequence[int]) -> set[Span]:
    """The runs of equal classes, {(class, first word, word after the last)}; class 0 makes none."""
    found: set[Span] = set()
    start = 0
    for place in range(1, len(tags) + 1):
        if place == len(tags) or tags[place] != tags[start]:
            if tags[start]:
                found.add((tags[start], start, place))
            start = place
    return found


def span_f1(said: Iterable[Sequence[int]], wanted: Iterable[Sequence[int]], classes: Iterable[int]) -> dict[str, float]:
    """``macro_f1`` and ``micro_f1`` over spans that agree in class and in both ends, in [0, 1].

    Args:
        said: a class for each word of each text.
        wanted: the right ones.
        classes: that count; one without any span, said or wanted, is left out of the mean.
    """
    right, guessed, there = Counter[int](), Counter[int](), Counter[int]()
    for ours, gold in zip(said, wanted, strict=True):
        mine, theirs = spans(ours), spans(gold)
        right.update(kind for kind, _, _ in mine & theirs)
        guessed.update(kind for kind, _, _ in mine)
        there.update(kind for kind, _, _ in theirs)
    counted = [kind for kind in classes if guessed[kind] + there[kind]]
    each = [2 * right[kind] / (guessed[kind] + there[kind]) for kind in counted]
    both = sum(guessed[kind] + there[kind] for kind in counted)
    return {
        "macro_f1": sum(each) / len(each) if each else 0.0,
        "micro_f1": 2 * sum(right[kind] for kind in counted) / both if both else 0.0,
    }
