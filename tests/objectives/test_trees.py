"""The loss over trees against all trees one by one, and what it refuses.

.venv/bin/python -m pytest tests/objectives/test_trees.py
"""

import math

import pytest
import torch
from tests.oracles.trees import all_trees

from stillroom.objectives.trees import tree_nll

LENGTHS = torch.tensor([4, 1, 3])
TREES = [[(0, 4), (0, 3), (1, 3)], [], [(0, 3), (1, 3)]]


def given():
    spans = torch.zeros(3, 5, 5, dtype=torch.bool)
    for row, tree in enumerate(TREES):
        for span in tree:
            spans[row][span] = True
    return spans


def test_the_loss_is_the_summed_surprise_at_each_tree():
    torch.manual_seed(0)
    scores = torch.randn(3, 5, 5, dtype=torch.float64)
    expected = []
    for row, length in enumerate(LENGTHS.tolist()):
        each = {tree: sum(float(scores[row][span]) for span in tree) for tree in all_trees(0, length)}
        whole = sum(map(math.exp, each.values()))
        expected.append(math.log(whole) - each[frozenset(TREES[row])])
    found = tree_nll(scores, given(), LENGTHS, torch.tensor([True, True, True]))
    assert float(found.sum) == pytest.approx(sum(expected)) and int(found.count) == 3
    part = tree_nll(scores, given(), LENGTHS, torch.tensor([True, False, False]))
    assert float(part.sum) == pytest.approx(expected[0]) and int(part.count) == 1


def test_a_sentence_that_does_not_count_does_no_harm_and_none_gives_zero():
    scores = torch.randn(3, 5, 5, dtype=torch.float64)
    scores[2] = float("nan")
    scores.requires_grad_()
    found = tree_nll(scores, given(), LENGTHS, torch.tensor([True, True, False]))
    (gradient,) = torch.autograd.grad(found.sum, scores)
    assert found.sum.isfinite() and gradient.isfinite().all() and (gradient[2] == 0).all()
    none = tree_nll(scores, given(), LENGTHS, torch.zeros(3, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(none.sum, scores)
    assert float(none.sum.detach()) == 0 and int(none.count) == 0 and (gradient == 0).all()


def test_a_tree_that_is_not_binary_is_refused():
    spans = given()
    spans[0, 1, 3] = False
    with pytest.raises(ValueError, match="n - 1 spans"):
        tree_nll(torch.zeros(3, 5, 5), spans, LENGTHS, torch.ones(3, dtype=torch.bool))
