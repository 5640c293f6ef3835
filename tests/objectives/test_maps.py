"""Attention transfer and the flow between layers, against sums over channels and places written out.

.venv/bin/python -m pytest tests/objectives/test_maps.py
"""

import math

import pytest
import torch
from tests.objectives.cases import normal

from stillroom.objectives import attention_map, flow

EVERY = torch.ones(2, dtype=torch.bool)


def attention_oracle(maps):
    """One image's [C, h, w] as a list of squared activations summed over channels, brought to length 1."""
    sums = [
        sum(float(channel[y][x]) ** 2 for channel in maps) for y in range(len(maps[0])) for x in range(len(maps[0][0]))
    ]
    length = math.sqrt(sum(value**2 for value in sums))
    return [value / length for value in sums]


def test_attention_map_is_the_distance_of_the_normalised_maps():
    student, teacher = normal(1, 2, 3, 2, 4), normal(2, 2, 5, 2, 4)
    expected = sum(
        (mine - yours) ** 2
        for ours, theirs in zip(student, teacher, strict=True)
        for mine, yours in zip(attention_oracle(ours), attention_oracle(theirs), strict=True)
    )
    found = attention_map(student, teacher, EVERY)
    assert float(found.sum) == pytest.approx(expected, rel=1e-12) and int(found.count) == 2


def test_attention_map_does_not_see_sign_scale_or_the_order_of_channels():
    student = normal(3, 2, 4, 3, 3)
    assert float(attention_map(student, -7 * student.flip(1), EVERY).sum) == pytest.approx(0, abs=1e-20)


def test_flow_by_hand():
    """Two places, two channels before and one after: G = F1^T F2 / 2."""
    first, second = torch.tensor([[[[1.0, 2.0]], [[0.0, 4.0]]]]), torch.tensor([[[[3.0, 1.0]]]])
    still = torch.zeros_like(first), torch.zeros_like(second)
    # G = [(1 * 3 + 2 * 1) / 2, (0 * 3 + 4 * 1) / 2] = [2.5, 2.0]; its mean square against 0
    assert float(flow((first, second), still, EVERY[:1]).sum) == pytest.approx((2.5**2 + 2.0**2) / 2)


def test_flow_does_not_depend_on_the_number_of_places():
    first, second = normal(4, 2, 3, 2, 2), normal(5, 2, 4, 2, 2)
    larger = tuple(maps.repeat(1, 1, 3, 2) for maps in (first, second))
    assert float(flow((first, second), larger, EVERY).sum) == pytest.approx(0, abs=1e-20)


def test_maps_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match=r"the maps have \(2, 2\) and \(3, 2\) places; resize one first"):
        attention_map(normal(1, 2, 3, 2, 2), normal(2, 2, 3, 3, 2), EVERY)
    pair = normal(1, 2, 3, 2, 2), normal(2, 2, 4, 2, 2)
    with pytest.raises(ValueError, match=r"the flows are \(3, 4\) and \(4, 3\)"):
        flow(pair, pair[::-1], EVERY)
    with pytest.raises(ValueError, match="a flow runs between layers of the same places"):
        flow((pair[0], normal(3, 2, 4, 1, 1)), pair, EVERY)
