"""Margin-MSE: the value by hand, scales that do not matter, disagreeing pairs, sigmoids that are not there.

pytest tests/methods/retrieval/test_margin_mse.py
"""

import pytest
import torch

from stillroom.checks import build_method
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.retrieval.margin_mse import MarginMSE
from stillroom.recipe import Method
from stillroom.signals import Batch, Signals

STEP = Step(0, 1)


def batch(candidates, mask=None):
    candidates = torch.tensor(candidates)
    rows = len(candidates)
    return Batch(
        ids=[str(n) for n in range(rows)],
        student={},
        mask=torch.ones(rows, dtype=torch.bool) if mask is None else torch.tensor(mask),
        columns={"candidates": candidates},
    )


def loss(student, teacher, rows, **settings):
    return MarginMSE(**settings).parts(Signals(scores=student), Signals(scores=teacher), rows, STEP)["margin_mse"]


def test_the_value_by_hand():
    student = torch.tensor([[3.0, 1.0, 0.5], [2.0, 2.5, 9.0]])
    teacher = torch.tensor([[8.0, 2.0, 7.0], [1.0, 0.0, 9.0]])
    rows = batch([[True, True, True], [True, True, False]])
    # margins: student 2, 2.5 | -0.5; teacher 6, 1 | 1. Squares: 16, 2.25, 2.25
    part = loss(student, teacher, rows)
    assert float(part.sum) == pytest.approx(20.5) and int(part.count) == 3 == int(rows.counts()["pair"])


def test_only_differences_matter():
    """A teacher on another level (all its scores shifted) teaches the same; one on another scale does not."""
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3), torch.randn(4, 3)
    rows = batch([[True] * 3] * 4)
    plain = float(loss(student, teacher, rows).sum)
    assert float(loss(student + 100, teacher - 7, rows).sum) == pytest.approx(plain, rel=1e-3)
    assert float(loss(student, 3 * teacher, rows).sum) != pytest.approx(plain, rel=1e-2)


def test_gradient_reaches_both_scores_and_not_the_teacher():
    student, teacher = torch.zeros(1, 2, requires_grad=True), torch.tensor([[5.0, 1.0]], requires_grad=True)
    loss(student, teacher, batch([[True, True]])).sum.backward()
    # d/ds+ (s+ - s- - 4)^2 = 2 (0 - 4) = -8
    assert student.grad.tolist() == [[-8.0, 8.0]] and teacher.grad is None


def test_pairs_the_teacher_disagrees_with_are_kept_unless_asked():
    student, teacher = torch.zeros(1, 3), torch.tensor([[1.0, 3.0, 0.0]])
    rows = batch([[True, True, True]])
    assert float(loss(student, teacher, rows).sum) == 4.0 + 1.0
    kept = loss(student, teacher, rows, agreeing_only=True)
    assert float(kept.sum) == 1.0 and int(kept.count) == 1


def test_an_unknown_parameter_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="agreeing_only"):
        build_method(Method(name="margin-mse", agreeing_onyl=True))
