"""Hard-concrete masks against their closed form, and multipliers that rise.

pytest tests/blocks/test_hard_concrete.py
"""

import math

import pytest
import torch

from stillroom.blocks.hard_concrete import HardConcrete, Sparsity


def test_values_and_the_chance_of_zero_are_those_of_the_distribution():
    mask = HardConcrete(3)
    mask.log_alpha.data = torch.tensor([-2.0, 0.0, 1.5])
    draws = torch.rand(40_000, 3, generator=torch.Generator().manual_seed(0))
    values = mask(draws)
    share = (values != 0).float().mean(0)
    torch.testing.assert_close(share, mask.open().detach(), atol=0.01, rtol=0)
    by_hand = [1 / (1 + math.exp(-(level + 2 / 3 * math.log(11)))) for level in (-2.0, 0.0, 1.5)]
    assert mask.open().tolist() == pytest.approx(by_hand, rel=1e-5)
    u, level = 0.3, 0.0  # one value by hand
    soft = 1 / (1 + math.exp(-(math.log(u / (1 - u)) + level) / (2 / 3)))
    assert float(mask(torch.full((3,), u))[1]) == pytest.approx(soft * 1.2 - 0.1, rel=1e-5)


def test_settled_masks_have_the_expected_zeros_and_soft_values():
    mask = HardConcrete(2, 4)
    mask.log_alpha.data = torch.tensor([[4.0, -8.0, 0.0, -9.0], [4.0, 4.0, 4.0, 4.0]])
    found = mask.settled()
    # row 1: q = 0.996, 0.002, 0.832, 0.001, that is 1.83 of 4: two are zero
    soft = [1 / (1 + math.exp(-level / (2 / 3) * 0.8)) for level in (4.0, 0.0)]
    assert found[0].tolist() == pytest.approx([soft[0], 0.0, soft[1], 0.0], rel=1e-5)
    assert mask.kept().tolist() == [2, 4] and bool((found[1] > 0).all())
    assert (mask.settled(1) != 0).sum(-1).tolist() == [1, 1]


def test_clamped_it_can_still_move():
    mask = HardConcrete(2)
    mask.log_alpha.data = torch.tensor([50.0, -50.0])
    mask.clamp()
    assert mask.log_alpha.tolist() == pytest.approx([math.log(100), math.log(0.01)])


def test_the_multipliers_rise_while_the_target_is_missed_and_the_sparsity_follows():
    cost = Sparsity()
    cost.linear.data, cost.square.data = torch.tensor(0.5), torch.tensor(2.0)
    sparsity = torch.tensor(0.3, requires_grad=True)
    found = cost(sparsity, 0.8)
    assert float(found) == pytest.approx(0.5 * -0.5 + 2.0 * 0.25)
    found.backward()
    # minimising steps against these: the square's multiplier rises, the linear one falls below 0 (s is too small)
    assert float(cost.square.grad) == pytest.approx(-0.25) and float(cost.linear.grad) == pytest.approx(0.5)
    assert float(sparsity.grad) == pytest.approx(0.5 + 2 * 2.0 * -0.5)
