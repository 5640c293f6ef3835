"""Triplets by hand; the contracts of all losses are in test_objective_contracts.py.

.venv/bin/python -m pytest tests/objectives/test_metric.py
"""

import itertools
import math

import pytest
import torch

from stillroom.objectives import triplet
from stillroom.objectives.metric import euclidean


def test_against_a_loop_over_all_triplets():
    rows = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, mask = torch.tensor([0, 1, 0, 2, 1, 1, 0, 2, 3]), torch.tensor([1, 1, 1, 1, 1, 0, 1, 1, 1])
    broken = []
    for a, p, n in itertools.permutations([n for n in range(9) if mask[n]], 3):
        if labels[a] == labels[p] != labels[n]:
            excess = math.dist(rows[a], rows[p]) - math.dist(rows[a], rows[n]) + 0.7
            broken += [excess] if excess > 0 else []
    found = triplet(rows, labels, mask, margin=0.7)
    assert float(found.sum) == pytest.approx(sum(broken), rel=1e-9) and int(found.count) == len(broken) > 5


def test_classes_far_apart_have_nothing_to_learn():
    rows = torch.tensor([[0.0], [0.1], [9.0], [9.1]], requires_grad=True)
    found = triplet(rows, torch.tensor([0, 0, 1, 1]), torch.ones(4), margin=1.0)
    found.mean.backward()
    assert float(found.sum.detach()) == int(found.count) == 0 and not rows.grad.any()


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_a_batch_of_one_class_or_of_one_row_a_class_has_no_triplet(labels):
    assert int(triplet(torch.randn(3, 2), torch.tensor(labels), torch.ones(3), margin=9.0).count) == 0


def test_rows_that_coincide_give_finite_gradients():
    rows = torch.ones(4, 2, requires_grad=True)
    triplet(rows, torch.tensor([0, 0, 1, 1]), torch.ones(4), margin=1.0).mean.backward()
    assert rows.grad.isfinite().all()
    assert torch.equal(euclidean(torch.ones(3, 2)), torch.zeros(3, 3))


def test_a_margin_that_asks_for_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        triplet(torch.ones(3, 2), torch.zeros(3), torch.ones(3), margin=0.0)
