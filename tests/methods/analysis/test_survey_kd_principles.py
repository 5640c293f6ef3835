"""Temperature: its limits in float64, the softened loss by hand, and the sweep.

.venv/bin/python -m pytest tests/methods/analysis/test_survey_kd_principles.py
"""

import math

import pytest
import torch

from stillroom.methods.analysis.survey_kd_principles import principle_axes, softened_loss, sweep, temperature_limits


def logits(seed, *shape):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient_oracle(student, teacher, temperature):
    """T (softmax(s / T) - softmax(t / T)), class by class: the derivative of T^2 KL worked out on paper."""

    def softmax(row):
        top = max(row)
        powers = [math.exp((value - top) / temperature) for value in row]
        return [power / sum(powers) for power in powers]

    return [temperature * (s - t) for s, t in zip(softmax(student), softmax(teacher), strict=True)]


def test_the_axis_is_optional_and_names_the_determinants():
    (axis,) = principle_axes()
    assert not axis.base
    assert axis.names == ("capacity-gap", "teacher-quality", "data", "balance", "training-length", "initialisation")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 7.0])
def test_the_gradient_is_the_one_on_paper(temperature):
    student, teacher = logits(1, 1, 5).requires_grad_(), logits(2, 1, 5)
    mask = torch.ones(1, dtype=torch.bool)
    softened_loss(student, teacher, torch.tensor([0]), mask, temperature=temperature, weight=1.0).sum.backward()
    assert student.grad[0].tolist() == pytest.approx(
        gradient_oracle(student[0].tolist(), teacher[0].tolist(), temperature), rel=1e-9, abs=1e-12
    )


def test_the_limits_hold_for_any_logits_and_the_better_the_further():
    for seed in range(5):
        near = temperature_limits(logits(seed, 4, 6), logits(seed + 50, 4, 6), high=1e2, low=0.05)
        far = temperature_limits(logits(seed, 4, 6), logits(seed + 50, 4, 6), high=1e5, low=1e-4)
        assert far.logit_matching < 1e-3 and far.logit_matching < near.logit_matching / 100
        assert far.first_place < 1e-6
        assert far.with_square < 1e-3 and far.without_square < 4e-3
        assert far.with_square < near.with_square


def test_logit_matching_is_of_centred_logits():
    """A constant on one side changes no distribution, and no limit."""
    student, teacher = logits(3, 2, 4), logits(4, 2, 4)
    moved = temperature_limits(student + 10, teacher - 5)
    assert moved.logit_matching == pytest.approx(temperature_limits(student, teacher).logit_matching, rel=1e-3)


def test_a_student_that_has_the_teachers_first_place_is_left_alone_when_cold():
    student, teacher = torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([[2.0, 0.0, 1.0]])
    assert max(map(abs, gradient_oracle([3.0, 1.0, 0.0], [2.0, 0.0, 1.0], 1e-2))) < 1e-30
    assert temperature_limits(student, teacher, low=1e-2).first_place < 1e-12


def test_the_softened_loss_of_two_classes_by_hand():
    """s = (0, 0), t = (2, 0), T = 2, a = 0.25, label 1: 0.75 log 2 + 0.25 * 4 KL(sigmoid(1) || 1/2)."""
    p = 1 / (1 + math.exp(-1))
    kl = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    found = softened_loss(
        torch.zeros(1, 2, dtype=torch.float64),
        torch.tensor([[2.0, 0.0]], dtype=torch.float64),
        torch.tensor([1]),
        torch.tensor([True]),
        temperature=2.0,
        weight=0.25,
    )
    assert float(found.sum) == pytest.approx(0.75 * math.log(2) + kl) and int(found.count) == 1


def test_the_sweep_trains_once_where_the_teacher_has_no_weight():
    asked = []

    def run(temperature, weight):
        asked.append((temperature, weight))
        return -((temperature - 4) ** 2) * weight

    found = sweep(run, temperatures=(8, 1, 4), weights=(0.5, 0))
    assert asked == [(1, 0), (1, 0.5), (4, 0.5), (8, 0.5)]
    assert found.curve(0.5) == (-4.5, -0.0, -8.0) and found.curve(0) == (0, 0, 0)
    assert found.interior(0.5) and not found.interior(0)
    assert found.best == (1, 0)  # the lowest among equals
    assert found.table().splitlines() == [
        "weight      T=1      T=4      T=8",
        "     0   0.0000   0.0000   0.0000",
        "   0.5  -4.5000   0.0000  -8.0000",
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sweep(lambda t, a: 0.0, temperatures=(0.0,)), "needs temperatures > 0 and weights in"),
        (lambda: sweep(lambda t, a: 0.0, weights=(1.5,)), "needs temperatures > 0 and weights in"),
        (lambda: temperature_limits(logits(1, 2, 3), logits(1, 2, 3) + 4), "differ by a constant only"),
        (
            lambda: temperature_limits(logits(1, 2, 3), logits(2, 2, 3), low=2.0, high=1.0),
            "lies between 0 and the high",
        ),
        (
            lambda: softened_loss(
                logits(1, 1, 2), logits(2, 1, 2), torch.tensor([0]), torch.tensor([True]), weight=2.0
            ),
            r"the weight of the teacher lies in \[0, 1\]; it is 2.0",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
