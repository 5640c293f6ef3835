"""Distances by optimal transport: against all pairings, SciPy and POT, and how much is held at a time.

.venv/bin/python -m pytest tests/objectives/test_transport.py
"""

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance
from tests.oracles.objectives import cheapest_pairing, softmax

from stillroom.objectives import transport
from stillroom.objectives.transport import sorted_l1, sorted_l1_rows


def probabilities(seed, size):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(2).softmax(-1)


def test_by_hand():
    """Sorted (.7, .2, .1) and (.6, .4, 0): .1 + .2 + .1."""
    assert sorted_l1(torch.tensor([0.1, 0.7, 0.2]), torch.tensor([0.4, 0.6])).item() == pytest.approx(0.4)
    assert sorted_l1(torch.tensor([0.4, 0.6]), torch.tensor([0.1, 0.7, 0.2])).item() == pytest.approx(0.4)


@pytest.mark.parametrize(("ours", "theirs"), [(5, 5), (6, 3), (2, 6), (1, 4)])
def test_no_pairing_of_ids_is_cheaper(ours, theirs):
    q, p = probabilities(ours, ours), probabilities(10 + theirs, theirs)
    assert sorted_l1(q, p).item() == pytest.approx(cheapest_pairing(p.tolist(), q.tolist()), abs=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), [(40, 40), (64, 17), (3, 90)])
def test_it_is_the_transport_that_others_compute(ours, theirs):
    """An assignment by cost |q_i - p_j|, and Wasserstein-1 between the values with one unit of mass each."""
    size = max(ours, theirs)
    q, p = probabilities(1, ours), probabilities(2, theirs)
    a, b = np.zeros(size), np.zeros(size)
    a[:ours], b[:theirs] = q, p
    cost = np.abs(a[:, None] - b[None, :])
    found = sorted_l1(q, p).item()
    assert found == pytest.approx(cost[linear_sum_assignment(cost)].sum(), abs=1e-12)
    assert found == pytest.approx(size * wasserstein_distance(a, b), abs=1e-12)
    assert found == pytest.approx(size * ot.wasserstein_1d(a, b, p=1), abs=1e-10)
    assert found == pytest.approx(ot.emd2(np.ones(size), np.ones(size), cost), abs=1e-9)


def test_names_of_ids_do_not_count():
    q = probabilities(3, 9)
    assert sorted_l1(q, q[torch.randperm(9)]).item() == pytest.approx(0, abs=1e-15)
    assert sorted_l1(torch.tensor([1.0, 0, 0]), torch.full((2000,), 1 / 2000)).item() == pytest.approx(2, abs=2e-3)


def test_rows_are_those_of_the_softmaxes_at_their_temperatures():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 5), torch.randn(2, 3, 4)
    mask = torch.tensor([[True, False, True], [False, False, True]])
    rows = sorted_l1_rows(student, teacher, mask, student_temperature=2.0, teacher_temperature=0.5)
    for row, token in np.ndindex(2, 3):
        ours, theirs = softmax(student[row, token].tolist(), 2.0), softmax(teacher[row, token].tolist(), 0.5)
        wanted = cheapest_pairing(theirs, ours) if mask[row, token] else 0.0
        assert rows[row, token].item() == pytest.approx(wanted, abs=1e-6)


def test_chunks_change_neither_value_nor_gradient(monkeypatch):
    torch.manual_seed(0)
    teacher, mask = torch.randn(3, 7, 6), torch.rand(3, 7) > 0.3
    found = []
    for size in (1000, 4, 1):
        monkeypatch.setattr(transport, "CHUNK", size)
        student = torch.randn(3, 7, 9, generator=torch.Generator().manual_seed(1), requires_grad=True)
        rows = sorted_l1_rows(student, teacher, mask)
        rows.sum().backward()
        found.append((rows.detach(), student.grad))
    for rows, gradient in found[1:]:
        assert torch.equal(rows, found[0][0])
        torch.testing.assert_close(gradient, found[0][1])


def test_of_sorted_probabilities_no_more_than_a_chunk_is_held():
    """What autograd keeps of 4,096 places for the backward pass is the logits of the masked places, and little more."""
    student, teacher = torch.randn(4096, 50, requires_grad=True), torch.randn(4096, 60)
    mask = torch.rand(4096) < 0.5
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        sorted_l1_rows(student, teacher, mask)
    assert sum(kept.values()) < 1.2 * int(mask.sum()) * (50 + 60) * 4


@pytest.mark.parametrize(
    ("settings", "shapes"),
    [
        ({"student_temperature": 0.0}, ((2, 4), (2, 5), (2,))),
        ({"teacher_temperature": -1.0}, ((2, 4), (2, 5), (2,))),
        ({}, ((2, 4), (3, 5), (2,))),
        ({}, ((2, 4), (2, 5), (3,))),
    ],
)
def test_what_does_not_fit_is_refused(settings, shapes):
    student, teacher, mask = shapes
    with pytest.raises(ValueError, match="must"):
        sorted_l1_rows(torch.zeros(student), torch.zeros(teacher), torch.ones(mask).bool(), **settings)
