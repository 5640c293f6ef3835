"""The asymmetric multi-label loss, against the definition and its limit.

.venv/bin/python -m pytest tests/objectives/test_asymmetric.py
"""

import math

import pytest
import torch
from tests.objectives.cases import ROWS, normal

from stillroom import objectives as ob

LOGITS, THERE = 2 * normal(1, 6, 5), normal(2, 6, 5) > 0.5


def test_absent_labels_are_shifted_and_fade():
    expected = 0.0
    for row, labels in zip(LOGITS[ROWS].tolist(), THERE[ROWS].tolist(), strict=True):
        for logit, there in zip(row, labels, strict=True):
            p = 1 / (1 + math.exp(-logit))
            m = max(p - 0.05, 0)
            expected -= (math.log(p) * (1 - p) ** 1.5 if there else m**4 * math.log(1 - m)) / 5
    found = ob.asymmetric(LOGITS, THERE, ROWS, gamma_positive=1.5)
    assert float(found.sum) == pytest.approx(expected, rel=1e-9) and int(found.count) == 4


def test_without_asymmetry_it_is_binary_cross_entropy():
    found = ob.asymmetric(LOGITS, THERE, ROWS, gamma_negative=0, clip=0)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS[ROWS], THERE[ROWS].double(), reduction="none")
    torch.testing.assert_close(found.sum, wanted.mean(-1).sum())


def test_what_is_held_unlikely_costs_nothing_and_has_a_finite_gradient():
    logits = torch.tensor([[-9.0, -50.0]], requires_grad=True)
    found = ob.asymmetric(logits, torch.zeros(1, 2), torch.ones(1))
    found.sum.backward()
    assert float(found.sum.detach()) == 0 and torch.equal(logits.grad, torch.zeros(1, 2))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="logits have the shape"):
        ob.asymmetric(LOGITS, THERE[:, :2], ROWS)
    with pytest.raises(ValueError, match=r"clip in \[0, 1\)"):
        ob.asymmetric(LOGITS, THERE, ROWS, clip=1)
