"""Averages against all trees one by one, ties and levels, and what is refused.

.venv/bin/python -m pytest tests/methods/parsing/test_tree_averaging.py
"""

import random

import pytest
from sklearn.base import clone
from tests.oracles.trees import all_trees

from stillroom import catalog
from stillroom.blocks.trees import inner_spans, read_tree, tree_of, words_of
from stillroom.errors import UserError
from stillroom.evaluate.brackets import sentence_f1
from stillroom.methods.parsing.tree_averaging import TreeAveraging, average, select, votes

WORDS = list("abcdef")


def drawn(seed, count=4, size=6):
    draw = random.Random(seed)
    every = list(all_trees(0, size))
    return [tree_of(WORDS[:size], draw.choice(every)) for _ in range(count)]


def every(size=6):
    return [tree_of(WORDS[:size], spans) for spans in all_trees(0, size)]


@pytest.mark.parametrize("seed", range(8))
def test_the_average_has_the_greatest_summed_f1_of_all_trees(seed):
    trees = drawn(seed)
    best = max(sum(sentence_f1(tree, other) for tree in trees) for other in every())
    found = sum(sentence_f1(tree, average(trees)) for tree in trees)
    assert found == pytest.approx(best)
    chosen = select(trees)
    assert chosen in trees
    assert sum(sentence_f1(tree, chosen) for tree in trees) == pytest.approx(
        max(sum(sentence_f1(tree, other) for tree in trees) for other in trees)
    )
    assert found >= sum(sentence_f1(tree, chosen) for tree in trees) - 1e-6


def test_it_corrects_parsers_that_err_in_different_places():
    """Each of three trees is wrong in one constituent; every constituent has two votes of three."""
    gold = read_tree("(((a b) c) (d (e f)))", labelled=False)
    wrong = [
        read_tree("((a (b c)) (d (e f)))", labelled=False),
        read_tree("(((a b) c) ((d e) f))", labelled=False),
        read_tree("((a b) (c (d (e f))))", labelled=False),
    ]
    assert average(wrong) == gold and gold not in wrong
    assert votes(wrong)[0, 2] == 2 and (0, 6) not in votes(wrong)


def test_one_parser_or_equal_ones_are_their_own_average():
    (tree, *_) = drawn(3)
    assert average([tree]) == tree == select([tree]) == average([tree] * 5)
    assert average(["a"]) == "a"


def test_weights_and_the_level():
    left, right = read_tree("(((a b) c) d)", labelled=False), read_tree("(a (b (c d)))", labelled=False)
    assert average([left, right], weights=[2, 1]) == left and average([left, right], weights=[1, 2]) == right
    assert select([left, right]) == left  # the first of equals
    assert average([left, right]) == right  # the first split from the left
    assert average([left, left, right], level=1) == left
    assert average([left, left, right], level=2) == right  # nobody's votes are enough
    assert votes([left, left, right], level=1) == {(0, 2): 2.0, (0, 3): 2.0}


def test_trees_that_are_not_binary_are_made_so():
    flat = ("a", "b", "c", "d")
    assert average([flat]) == read_tree("(a (b (c d)))", labelled=False)
    assert average([(("a",), (("b", "c"),))]) == ("a", ("b", "c"))


def test_the_transform_follows_scikit_learn():
    sentences = [drawn(seed) for seed in range(3)]
    made = clone(TreeAveraging(mode="selective", level=0.0))
    assert made.get_params()["mode"] == "selective"
    assert made.fit_transform(sentences) == [select(trees) for trees in sentences]
    assert TreeAveraging().fit_transform(sentences) == [average(trees) for trees in sentences]
    assert all(words_of(tree) == WORDS and len(inner_spans(tree)) == 4 for tree in made.transform(sentences))
    with pytest.raises(UserError, match="sentence 1 has 2 trees"):
        made.transform([sentences[0], sentences[1][:2]])
    assert catalog.load("tree-averaging") is TreeAveraging


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="no tree to average"):
        average([])
    with pytest.raises(UserError, match="tree 1 is over 2 words"):
        average([("a", "b", "c"), ("a", "b")])
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0]):
        with pytest.raises(UserError, match="2 weights"):
            average([("a", "b"), ("a", "b")], weights=weights)
    with pytest.raises(UserError, match="a tree of each parser"):
        TreeAveraging().fit([])
    with pytest.raises(ValueError, match="mode is"):
        TreeAveraging(mode="median").fit([[("a", "b")]])
