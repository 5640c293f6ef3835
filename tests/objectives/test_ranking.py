"""Ranking losses, against hand values and the definitions.

Run: pytest tests/objectives/test_ranking.py
"""

import itertools
import math

import pytest
import torch
from tests.objectives.cases import LISTS, normal
from tests.oracles import objectives as oracle

from stillroom import objectives as ob

STUDENT, TEACHER = normal(1, 4, 4), normal(2, 4, 4)
REAL = [[j for j in range(4) if LISTS[i, j]] for i in range(4)]


def ordered(threshold=0.0):
    return [
        (float(STUDENT[row, i]), float(STUDENT[row, j]))
        for row, real in enumerate(REAL)
        for i, j in itertools.permutations(real, 2)
        if TEACHER[row, i] > TEACHER[row, j] + threshold
    ]


def test_margin_mse_by_hand():
    student = torch.tensor([[5.0, 3.0, 1.0], [2.0, 4.0, 9.0], [1.0, 0.0, 0.0]])
    teacher = torch.tensor([[50.0, 49.0, 40.0], [7.0, 8.0, 9.0], [1.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 1]])
    loss = ob.margin_mse(student, teacher, mask)
    assert float(loss.sum) == (2 - 1) ** 2 + (4 - 10) ** 2 + (-2 + 1) ** 2
    assert int(loss.count) == 3


def test_margins_do_not_mind_a_shift_and_scores_do():
    torch.testing.assert_close(
        ob.margin_mse(STUDENT + 7, TEACHER, LISTS).sum, ob.margin_mse(STUDENT, TEACHER, LISTS).sum
    )
    assert float(ob.score_mse(STUDENT + 7, STUDENT, LISTS).mean) == pytest.approx(49)


@pytest.mark.parametrize("temperatures", [(1.0, 1.0), (2.0, 0.25)])
@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd"])
def test_listwise_kl(temperatures, name):
    loss = ob.listwise_kl(
        STUDENT,
        TEACHER,
        LISTS,
        divergence=ob.named(name),
        student_temperature=temperatures[0],
        teacher_temperature=temperatures[1],
    )
    expected = sum(
        oracle.DIVERGENCES[name](
            oracle.softmax(TEACHER[row, real].tolist(), temperatures[1]),
            oracle.softmax(STUDENT[row, real].tolist(), temperatures[0]),
        )
        for row, real in enumerate(REAL)
        if real
    )
    assert float(loss.sum) == pytest.approx(expected)
    assert int(loss.count) == 3


def test_listwise_kl_needs_temperatures_above_zero():
    with pytest.raises(ValueError, match="must be above 0"):
        ob.listwise_kl(STUDENT, TEACHER, LISTS, teacher_temperature=0)


def test_a_pair_with_a_probability_is_binary_cross_entropy():
    better, worse, probability = normal(3, 5), normal(4, 5), normal(5, 5).sigmoid()
    loss = ob.pairwise_logistic(better, worse, torch.ones(5), probability=probability)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(better - worse, probability, reduction="sum")
    torch.testing.assert_close(loss.sum, expected)


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_ranknet_and_hinge_go_over_all_pairs_that_the_teacher_orders(threshold):
    pairs = ordered(threshold)
    logistic = ob.ranknet(STUDENT, TEACHER, LISTS, threshold=threshold)
    hinge = ob.rank_hinge(STUDENT, TEACHER, LISTS, margin=0.7, threshold=threshold)
    assert float(logistic.sum) == pytest.approx(sum(oracle.logistic(a - b) for a, b in pairs))
    assert float(hinge.sum) == pytest.approx(sum(max(0, 0.7 - a + b) for a, b in pairs))
    assert int(logistic.count) == int(hinge.count) == len(pairs)


def test_ties_make_no_pairs():
    assert int(ob.ranknet(STUDENT, torch.zeros(4, 4), LISTS).count) == 0


def test_lambda_weights_are_what_a_swap_does_to_ndcg():
    gains = TEACHER.abs()
    loss = ob.lambda_loss(STUDENT, gains, LISTS)
    expected = sum(
        oracle.lambda_loss(STUDENT[row, real].tolist(), gains[row, real].tolist()) for row, real in enumerate(REAL)
    )
    assert float(loss.sum) == pytest.approx(expected)
    assert int(loss.count) == 3


def test_lambda_skips_lists_without_anything_to_order():
    gains = torch.tensor([[0.0, 0.0], [3.0, 3.0], [1.0, 0.0]])
    scores = torch.zeros(3, 2, requires_grad=True)
    loss = ob.lambda_loss(scores, gains, torch.ones(3, 2))
    loss.sum.backward()
    assert int(loss.count) == 1
    assert loss.sum.item() == pytest.approx(math.log(2) * (1 - 1 / math.log2(3)))
    assert torch.equal(scores.grad[:2], torch.zeros(2, 2))


def test_a_margin_of_its_own_for_each_pair():
    loss = ob.pairwise_hinge(torch.tensor([1.0, 1.0]), torch.zeros(2), torch.ones(2), margin=torch.tensor([3.0, 0.5]))
    assert float(loss.sum) == 2
