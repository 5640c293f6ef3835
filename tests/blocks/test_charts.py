"""Charts against all binary trees one by one; ties, padding, gradients; and trees as brackets and spans.

.venv/bin/python -m pytest tests/blocks/test_charts.py
"""

import math

import pytest
import torch
from tests.oracles.trees import all_trees

from stillroom.blocks.biaffine import Biaffine
from stillroom.blocks.charts import best_trees, log_partition, span_marginals, tree_entropy
from stillroom.blocks.trees import inner_spans, read_tree, right_binarised, spans_of, tree_of, words_of

LENGTHS = torch.tensor([5, 1, 3, 2])


def scores(dtype=torch.float64):
    torch.manual_seed(0)
    return torch.randn(4, 6, 6, dtype=dtype)


def totals(row, length):
    return {tree: sum(float(row[span]) for span in tree) for tree in all_trees(0, length)}


def test_there_are_as_many_trees_as_catalan_says():
    assert [len(list(all_trees(0, n))) for n in range(1, 7)] == [1, 1, 2, 5, 14, 42]
    found = log_partition(torch.zeros(6, 7, 7), torch.arange(1, 7))
    assert found.exp().tolist() == pytest.approx([1, 1, 2, 5, 14, 42], rel=1e-5)


def test_the_best_tree_the_sum_the_marginals_and_the_entropy_one_by_one():
    values = scores()
    best, trees = best_trees(values, LENGTHS)
    partition, marginals, entropy = (f(values, LENGTHS) for f in (log_partition, span_marginals, tree_entropy))
    for row, length in enumerate(LENGTHS.tolist()):
        each = totals(values[row], length)
        assert frozenset(trees[row]) == max(each, key=each.get)
        assert float(best[row]) == pytest.approx(max(each.values()))
        whole = sum(map(math.exp, each.values()))
        assert float(partition[row]) == pytest.approx(math.log(whole))
        shares = {tree: math.exp(value) / whole for tree, value in each.items()}
        assert float(entropy[row]) == pytest.approx(-sum(p * math.log(p) for p in shares.values()), abs=1e-9)
        for i in range(6):
            for j in range(6):
                expected = sum(p for tree, p in shares.items() if (i, j) in tree)
                assert float(marginals[row, i, j]) == pytest.approx(expected, abs=1e-9)


def test_what_is_no_span_counts_for_nothing_and_gets_no_gradient():
    values = scores()
    clean = log_partition(values, LENGTHS)
    real = span_marginals(values, LENGTHS) > 0
    dirty = values.masked_fill(~real, float("nan")).requires_grad_()
    found = log_partition(dirty, LENGTHS)
    assert torch.equal(found, clean)
    (gradient,) = torch.autograd.grad(found.sum(), dirty)
    assert gradient.isfinite().all() and (gradient[~real] == 0).all()
    assert best_trees(dirty, LENGTHS)[1] == best_trees(values, LENGTHS)[1]


def test_among_equals_the_left_part_is_the_smallest():
    _, (tree,) = best_trees(torch.zeros(1, 5, 5), torch.tensor([4]))
    assert sorted(tree) == [(0, 4), (1, 4), (2, 4)]


def test_lengths_without_room_are_refused():
    for lengths in ([0], [5]):
        with pytest.raises(ValueError, match="lengths lie between 1 and 4"):
            log_partition(torch.zeros(1, 5, 5), torch.tensor(lengths))


# --- trees ------------------------------------------------------------------------------------------------------------


def test_brackets_with_labels_or_without_are_read():
    tree = (("the", "dog"), ("saw", ("a", "cat")))
    assert read_tree("(S (NP (DT the) (NN dog)) (VP (VBD saw) (NP (DT a) (NN cat))))") == tree
    assert read_tree("((the dog) (saw (a cat)))", labelled=False) == tree
    assert read_tree("((NP the dog) (VP saw (NP a cat)))") == tree
    assert read_tree("(TOP (S (NP (PRP it)) (VP (VBD rained))))") == ("it", "rained")
    assert words_of(tree) == ["the", "dog", "saw", "a", "cat"]
    assert inner_spans(tree) == {(0, 2), (2, 5), (3, 5)} and len(spans_of(tree)) == 4


def test_wrong_brackets_are_refused():
    for text in ("((a b)", "(a b))", "", "(X a) (X b)"):
        with pytest.raises(ValueError, match="bracket"):
            read_tree(text)


def test_binarised_to_the_right_and_chains_collapsed():
    assert right_binarised(("a", "b", "c", ("d", "e", "f"))) == ("a", ("b", ("c", ("d", ("e", "f")))))
    assert right_binarised((("a",), (("b", "c"),))) == ("a", ("b", "c"))


def test_spans_and_back():
    for tree in ((("a", "b"), ("c", ("d", "e"))), ("a", "b", ("c", "d"), "e"), "a", ("a", "b")):
        assert tree_of(words_of(tree), inner_spans(tree)) == tree
    for spans, message in (([(0, 2), (1, 3)], "cross"), ([(1, 5)], "outside")):
        with pytest.raises(ValueError, match=message):
            tree_of(["a", "b", "c", "d"], spans)


def test_a_biaffine_score_by_hand():
    """[x; 1]^T W [y; 1] for one pair and one label."""
    layer = Biaffine(2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]))
    found = layer(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 1.0]]]))
    # W [3, 1, 1] = [8, 23, 38]; [1, 2, 1] of it is 8 + 46 + 38
    assert found.shape == (1, 1, 1, 1) and found.item() == 92.0
