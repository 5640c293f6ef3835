"""TAID: the moving target, the schedule of t, and what a resumed run keeps of it.

.venv/bin/python -m pytest tests/methods/language/test_taid.py
"""

import math

import pytest
import torch
from tests.oracles.objectives import kl, softmax

from stillroom.checks import build_methods
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.language.taid import TAID
from stillroom.recipe import check
from stillroom.signals import Batch, Signals

LOSSES = [2.0, 1.5, 1.8, 0.9]


def signals(seed=0, rows=2, tokens=3, classes=5):
    torch.manual_seed(seed)
    student = torch.randn(rows, tokens, classes, requires_grad=True)
    teacher = torch.randn(rows, tokens, classes)
    mask = torch.tensor([[True, True, False], [False, True, True]])
    batch = Batch(ids=["a", "b"], student={}, mask=mask)
    return Signals(logits=student), Signals(logits=teacher), batch


def loss_at(t, training=True, **settings):
    method = TAID(**settings).train(training)
    method.t.fill_(t)
    student, teacher, batch = signals()
    part = method.parts(student, teacher, batch, Step(0, 10))["taid"]
    part.sum.backward()
    return part, student.logits, teacher.logits, batch.mask


def schedule(losses, total, **settings):
    """t after each step."""
    method = TAID(**settings)
    found = []
    for number, loss in enumerate(losses):
        method.after_step(Step(number, total), {"taid": loss})
        found.append(float(method.t))
    return found


def test_the_loss_is_the_kl_from_interpolated_logits():
    part, student, teacher, mask = loss_at(0.3)
    expected = 0.0
    for row, token in [(0, 0), (0, 1), (1, 1), (1, 2)]:
        ours, theirs = student[row, token].tolist(), teacher[row, token].tolist()
        target = softmax([0.7 * mine + 0.3 * other for mine, other in zip(ours, theirs, strict=True)])
        expected += kl(target, softmax(ours))
    assert part.count == mask.sum() == 4
    assert part.sum.item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_does_not_flow_through_the_target():
    """Of KL(p_t || q) with p_t fixed, the gradient in the student's logits is q - p_t."""
    _, student, teacher, mask = loss_at(0.3)
    q, target = student.detach().softmax(-1), (0.7 * student.detach() + 0.3 * teacher).softmax(-1)
    torch.testing.assert_close(student.grad, (q - target) * mask.unsqueeze(-1))


def test_at_0_the_student_is_its_own_target():
    part, student, _, _ = loss_at(0.0)
    assert abs(part.sum.item()) < 1e-6  # rounding of a softmax that is taken again
    assert student.grad.abs().max() < 1e-7


def test_at_1_it_is_forward_kl():
    part, student, teacher, mask = loss_at(1.0)
    places = mask.nonzero().tolist()
    expected = sum(kl(softmax(teacher[r, t].tolist()), softmax(student[r, t].tolist())) for r, t in places)
    assert part.sum.item() == pytest.approx(expected, rel=1e-5)


def test_the_authors_cross_entropy_is_larger_and_has_the_same_gradient():
    paper, student, _, _ = loss_at(0.4)
    code, other, _, _ = loss_at(0.4, parity="code")
    assert code.sum.item() > paper.sum.item() + 0.1
    torch.testing.assert_close(student.grad, other.grad)


def test_in_validation_the_target_is_where_it_will_end():
    """Otherwise the target's own move would decide which checkpoint looks best."""
    early, *_ = loss_at(0.1, training=False)
    late, *_ = loss_at(0.9, training=False)
    end, *_ = loss_at(1.0)
    assert early.sum.item() == late.sum.item() == end.sum.item()


def test_the_schedule_by_hand():
    """Four steps of a hundred, from the equations; alpha is large so that the loss, not the line, decides."""
    alpha, beta = 0.5, 0.9
    t, v = 0.4, 0.0
    expected = [t]
    for previous, loss in [(2.0, 1.5), (1.5, 1.8), (1.8, 0.9)]:
        v = beta * v + (1 - beta) * (previous - loss) / previous
        t = t + alpha / (1 + math.exp(-v)) * (1 - t)
        expected.append(t)
    assert schedule(LOSSES, 100, alpha=alpha, beta=beta) == pytest.approx(expected)
    # the same in figures: v = 0.025, 0.0025, 0.05225
    assert expected == pytest.approx([0.4, 0.551875, 0.664046, 0.750228], abs=1e-6)


def test_t_never_stays_behind_the_line():
    tiny = schedule([1.0, 5.0, 25.0, 125.0], 4, alpha=1e-6, t_start=0.2, t_end=1.0)
    assert tiny == pytest.approx([0.2, 0.4, 0.6, 0.8], abs=1e-4)


def test_without_adaptation_t_is_the_line():
    assert schedule(LOSSES, 4, adaptive=False, t_start=0.2, t_end=0.8) == pytest.approx([0.2, 0.35, 0.5, 0.65])


def test_t_never_falls_and_never_passes_its_end():
    found = schedule([3.0, 1.0, 9.0, 0.1, 7.0, 0.01], 6, alpha=1.0, t_end=0.9)
    assert found == sorted(found)
    assert max(found) == pytest.approx(0.9)


def test_a_faster_fall_moves_t_further():
    fast, slow, rising = (schedule([2.0, loss], 100, alpha=0.5)[1] for loss in (0.1, 1.9, 4.0))
    assert fast > slow > rising


def test_a_first_loss_of_exactly_0_tells_nothing():
    """At t_start = 0 the student is its own target; the relative change from there is no number to go by."""
    method = TAID(t_start=0.0)
    for number, loss in enumerate([0.0, 1.0]):
        method.after_step(Step(number, 1000), {"taid": loss})
    assert float(method.momentum) == 0.0
    method.after_step(Step(2, 1000), {"taid": 0.5})
    assert float(method.momentum) == pytest.approx(0.01 * 0.5)


def test_a_resumed_run_has_the_same_t():
    whole = TAID(alpha=0.5)
    for number, loss in enumerate(LOSSES):
        whole.after_step(Step(number, 100), {"taid": loss})
    first, second = TAID(alpha=0.5), TAID(alpha=0.5)
    for number, loss in enumerate(LOSSES[:2]):
        first.after_step(Step(number, 100), {"taid": loss})
    second.load_state_dict(first.state_dict())
    for number, loss in enumerate(LOSSES[2:], 2):
        second.after_step(Step(number, 100), {"taid": loss})
    assert float(second.t) == float(whole.t) != 0.4


@pytest.mark.parametrize(
    "settings",
    [
        {"t_start": 1.0},
        {"t_start": -0.1},
        {"t_end": 0.0},
        {"t_end": 1.1},
        {"t_start": 0.6, "t_end": 0.5},
        {"alpha": 0.0},
        {"beta": 1.0},
        {"parity": "papre"},
    ],
)
def test_values_outside_their_range_are_refused(settings):
    with pytest.raises(ValueError):
        TAID(**settings)


def test_a_cache_of_a_few_log_probs_is_refused_before_anything_loads():
    plain = {"name": "x", "task": "language", "student": "s", "data": "d", "method": "taid"}
    recipe = check(plain | {"teacher": {"model": "t", "cache": True}})
    with pytest.raises(UserError, match=r"teacher\.cache=false"):
        build_methods(recipe)
