"""The learned scale.

Run: pytest tests/blocks/test_scale.py
"""

import pytest
import torch

from stillroom.blocks import LearnedScale


def test_it_starts_where_it_is_told_and_is_trained():
    scale = LearnedScale(20.0)
    value = scale()
    assert value.item() == pytest.approx(20)
    value.backward()
    assert float(scale.log_scale.grad) == pytest.approx(20)


def test_it_never_leaves_its_range_and_can_come_back():
    scale = LearnedScale(10.0, maximum=50.0)
    with torch.no_grad():
        scale.log_scale.fill_(30.0)
    value = scale()
    assert value.item() == pytest.approx(50)
    value.backward()
    assert scale.log_scale.grad > 0


@pytest.mark.parametrize("initial", [0.0, -1.0, 200.0])
def test_a_start_out_of_range_is_refused(initial):
    with pytest.raises(ValueError, match="starts above 0"):
        LearnedScale(initial)
