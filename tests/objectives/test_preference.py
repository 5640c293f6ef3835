"""Preference losses, against hand values and the definitions.

Run: pytest tests/objectives/test_preference.py
"""

import itertools
import math

import pytest
import torch
from tests.objectives.cases import LISTS, RANKING, normal
from tests.oracles import objectives as oracle

from stillroom import objectives as ob

# h = (-2 - -3) - (-5 - -4) = 2 for the first pair, (-4 - -3) - (-1 - -1) = -1 for the second.
PAIRS = [torch.tensor(values) for values in ([-2.0, -4.0], [-5.0, -1.0], [-3.0, -3.0], [-4.0, -1.0])]
BOTH = torch.ones(2)
SCORES = normal(1, 4, 4)


@pytest.mark.parametrize(
    ("loss", "options", "expected"),
    [
        (ob.dpo, {"beta": 0.5}, oracle.logistic(1) + oracle.logistic(-0.5)),
        (
            ob.dpo,
            {"beta": 0.5, "label_smoothing": 0.2},
            0.8 * (oracle.logistic(1) + oracle.logistic(-0.5)) + 0.2 * (oracle.logistic(-1) + oracle.logistic(0.5)),
        ),
        (ob.ipo, {"beta": 0.25}, (2 - 2) ** 2 + (-1 - 2) ** 2),
        (ob.preference_hinge, {"beta": 0.25}, 0.5 + 1.25),
    ],
)
def test_two_pairs_by_hand(loss, options, expected):
    value = loss(*PAIRS, BOTH, **options)
    assert float(value.sum) == pytest.approx(expected)
    assert int(value.count) == 2


def test_a_student_equal_to_the_reference_pays_log_two():
    chosen, rejected = PAIRS[:2]
    assert float(ob.dpo(chosen, rejected, chosen, rejected, BOTH).mean) == pytest.approx(math.log(2))


def test_tokens_as_well_as_sequences():
    tokens = [normal(seed, 2, 3) for seed in range(4)]
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    flat = ob.dpo(*(part[mask.bool()] for part in tokens), torch.ones(3))
    assert ob.dpo(*tokens, mask).sum == flat.sum


@pytest.mark.parametrize("loss", [ob.dpo, ob.ipo, ob.preference_hinge])
def test_beta_must_be_positive(loss):
    with pytest.raises(ValueError, match="beta must be above 0, not 0"):
        loss(*PAIRS, BOTH, beta=0)


def test_smoothing_stays_below_a_coin_toss():
    with pytest.raises(ValueError, match=r"\[0, 0.5\), not 0.5"):
        ob.dpo(*PAIRS, BOTH, label_smoothing=0.5)


def test_plackett_luce_draws_without_replacement():
    loss = ob.plackett_luce(SCORES, RANKING, LISTS)
    expected = 0.0
    for scores, ranking, mask in zip(SCORES, RANKING, LISTS, strict=True):
        real = [i for i in range(4) if mask[i]]
        order = [real.index(int(i)) for i in ranking if i >= 0]
        expected += oracle.plackett_luce(scores[real].tolist(), order)
    assert float(loss.sum) == pytest.approx(expected)
    assert int(loss.count) == 3


def test_the_chances_of_all_orders_add_up_to_one():
    for places in (1, 2, 3):
        orders = torch.tensor(list(itertools.permutations(range(3), places)))
        scores, mask = SCORES[:1, :3], torch.ones(1, 3)
        chances = [math.exp(-float(ob.plackett_luce(scores, order[None], mask).sum)) for order in orders]
        assert sum(chances) == pytest.approx(1)


def test_two_candidates_are_the_logistic_pairwise_loss():
    loss = ob.plackett_luce(SCORES[:, :2], torch.tensor([[0, 1]] * 4), torch.ones(4, 2))
    pairwise = ob.pairwise_logistic(SCORES[:, 0], SCORES[:, 1], torch.ones(4))
    torch.testing.assert_close(loss.sum, pairwise.sum)


@pytest.mark.parametrize(
    ("ranking", "message"),
    [([0, 0], "twice"), ([3, -1], "padding"), ([4, -1], "candidate 4 is ranked, but a list has 4")],
)
def test_rankings_that_make_no_sense(ranking, message):
    with pytest.raises(ValueError, match=message):
        ob.plackett_luce(SCORES[:1], torch.tensor([ranking]), LISTS[:1])
