"""Tree averaging: the tree that agrees best with several parsers, found exactly, and learnt by one student.

**Paper**: Shayegh, Cao, Zhu, Cheung and Mou 2024, "Ensemble Distillation for Unsupervised Constituency Parsing"
(ICLR 2024, arXiv 2310.01717; code: MANGA-UOFA/ED4UCP).

**Idea**: Unsupervised parsers err differently. The average of their trees is the tree with the largest total F1 with
all of them; since every binary tree over a sentence has as many spans, that is the tree whose spans get most votes,
which the CYK algorithm finds. A student trained on the averages is one fast parser, and unlike one that learns from
all parsers' trees at once it is not drawn to a mixture of them (over-smoothing).

**Objective**: with the votes v(i, j) = sum_k w_k [(i, j) is a span of tree k] for spans of two words and more but the
whole sentence, and trees T over n words,

    AvgTree = argmax_T sum over (i, j) in T of v(i, j):
    best(i, j) = v(i, j) + max over splits s of [best(i, s) + best(s, j)],   O(n^3).

The student, any supervised parser, learns the averages of unlabelled sentences as if they were gold; a span scorer
does so by -log p(AvgTree) (`stillroom.objectives.trees.tree_nll`).

**Kept and changed**: Kept: generative and selective choice (``mode``), ties broken by the first split from the left
and by the first tree, weights and a level that votes must exceed, right binarisation and collapsed unary chains of
what comes in, F1 by sentence (`stillroom.evaluate.brackets`). Spans are half-open here and inclusive there. A level
above 0 leaves regions without votes, in which the tie rule branches to the right, as theirs does. Their students
(recurrent neural network grammars) are trained in another code base; here the average is a transform with
scikit-learn's interface, and the student is free.

**Use it when**: several parsers of like quality and unlike errors are at hand and no gold trees; one of them that is
far better than the rest is better alone. Trees must be over the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from sklearn.base import BaseEstimator, TransformerMixin

from stillroom.blocks.charts import best_trees
from stillroom.blocks.trees import Span, Tree, inner_spans, right_binarised, tree_of, words_of
from stillroom.errors import UserError

__all__ = ["TreeAveraging", "average", "select", "votes"]

Mode = Literal["generative", "selective"]


class TreeAveraging(TransformerMixin, BaseEstimator):
    """Several parsers' trees of each sentence to one.

    Args:
        mode: ``generative`` finds the best of all trees, ``selective`` the best of those given.
        weights: one for each parser, not negative; None counts all alike.
        level: votes up to here count for nothing, at least 0.

    Attributes:
        teachers_: how many trees a sentence has, as seen in `fit`.

    Raises:
        ValueError: in `fit`, a value outside its range.
    """

    def __init__(
        self, *, mode: Mode = "generative", weights: Sequence[float] | None = None, level: float = 0.0
    ) -> None:
        self.mode, self.weights, self.level = mode, weights, level

    def __sklearn_tags__(self) -> Any:
        """It reads trees, not rows of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    def fit(self, X: Sequence[Sequence[Tree]], y: Any = None) -> TreeAveraging:
        """See how many parsers there are; nothing is learnt.

        Args:
            X: for each sentence the trees of all parsers, in one order.
            y: not looked at.
        """
        if self.mode not in ("generative", "selective") or self.level < 0:
            raise ValueError(f"mode is generative or selective and level at least 0; {self.mode!r}, {self.level}")
        sizes = {len(trees) for trees in X}
        if len(sizes) != 1 or sizes == {0}:
            raise UserError(f"every sentence needs a tree of each parser; there are {sorted(sizes)} trees a sentence")
        (self.teachers_,) = sizes
        _weights(self.weights, self.teachers_)
        return self

    def transform(self, X: Sequence[Sequence[Tree]]) -> list[Tree]:
        """One binary tree a sentence."""
        if not hasattr(self, "teachers_"):
            self.fit(X)
        for place, trees in enumerate(X):
            if len(trees) != self.teachers_:
                raise UserError(f"sentence {place} has {len(trees)} trees; each of {self.teachers_} parsers gives one")
        if self.mode == "selective":
            return [select(trees, weights=self.weights, level=self.level) for trees in X]
        return [average(trees, weights=self.weights, level=self.level) for trees in X]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "teachers_")


def votes(trees: Sequence[Tree], *, weights: Sequence[float] | None = None, level: float = 0.0) -> dict[Span, float]:
    """The votes of each span that some tree has and that says something, where they exceed the level.

    Args:
        trees: over the same words; binarised to the right first.
        weights: one a tree, not negative.
        level: votes up to here count for nothing.

    Raises:
        UserError: there is no tree, they are over different words, or a weight is negative.
    """
    if not trees:
        raise UserError("there is no tree to average; give at least one")
    words = words_of(trees[0])
    found: dict[Span, float] = {}
    for place, (tree, weight) in enumerate(zip(trees, _weights(weights, len(trees)), strict=True)):
        if (own := words_of(tree)) != words:
            raise UserError(f"tree {place} is over {len(own)} words and the first over {len(words)}, or over others")
        for span in inner_spans(right_binarised(tree)):
            found[span] = found.get(span, 0.0) + weight
    return {span: count for span, count in found.items() if count > level}


def average(trees: Sequence[Tree], *, weights: Sequence[float] | None = None, level: float = 0.0) -> Tree:
    """The binary tree with the most votes; the arguments are those of `votes`."""
    found, words = votes(trees, weights=weights, level=level), words_of(trees[0])
    scores = torch.zeros(1, len(words) + 1, len(words) + 1, dtype=torch.float64)
    for (start, end), count in found.items():
        scores[0, start, end] = count
    _, (spans,) = best_trees(scores, torch.tensor([len(words)]))
    return tree_of(words, spans)


def select(trees: Sequence[Tree], *, weights: Sequence[float] | None = None, level: float = 0.0) -> Tree:
    """The first of those given trees, binarised, that has the most votes; its own among them."""
    found = votes(trees, weights=weights, level=level)
    own = [right_binarised(tree) for tree in trees]
    return max(own, key=lambda tree: sum(found.get(span, 0.0) for span in inner_spans(tree)))


def _weights(weights: Sequence[float] | None, count: int) -> Sequence[float]:
    if weights is None:
        return [1.0] * count
    if len(weights) != count or min(weights) < 0 or not sum(weights):
        raise UserError(f"there must be {count} weights, none negative and one above 0; they are {list(weights)}")
    return weights
