"""Unlabelled bracketing scores of constituency trees, sentence by sentence (as in unsupervised parsing)."""

from __future__ import annotations

from collections.abc import Sequence

from stillroom.blocks.trees import Tree, inner_spans, words_of

LONGEST = 150
_EPSILON = 1e-8


def sentence_f1(gold: Tree, predicted: Tree) -> float:
    """F1 of the spans that say something, in [0, 1]: without the whole sentence and single words, each once.

    Where the gold tree has none, recall is 1, and precision too if the predicted one has none either.

    Raises:
        ValueError: the trees are of different sentences.
    """
    if words_of(gold) != words_of(predicted):
        raise ValueError(f"the trees have different words: {words_of(gold)} and {words_of(predicted)}")
    wanted, found = inner_spans(gold), inner_spans(predicted)
    hits = len(wanted & found)
    precision = hits / (len(found) + _EPSILON)
    recall = hits / (len(wanted) + _EPSILON)
    if not wanted:
        recall = 1.0
        precision = precision if found else 1.0
    return 2 * precision * recall / (precision + recall + _EPSILON)


def mean_f1(gold: Sequence[Tree], predicted: Sequence[Tree], *, longest: int = LONGEST) -> float:
    """The mean over sentences of two words and more, up to ``longest`` words.

    Raises:
        ValueError: other trees than sentences, or no sentence that counts.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold trees and {len(predicted)} predicted ones; there must be as many")
    scores = [
        sentence_f1(one, other) for one, other in zip(gold, predicted, strict=True) if 1 < len(words_of(one)) <= longest
    ]
    if not scores:
        raise ValueError("no sentence has two words and more, so there is nothing to measure")
    return sum(scores) / len(scores)
