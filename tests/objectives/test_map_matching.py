"""Feature maps compared at several sizes and channel by channel, against slow references.

.venv/bin/python -m pytest tests/objectives/test_map_matching.py
"""

import math

import pytest
from tests.objectives.cases import ROWS, normal

from stillroom import objectives as ob

STUDENT, TEACHER = normal(1, 6, 3, 8, 8), normal(2, 6, 3, 8, 8)


def mean_square(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)


def blocks(image, size):
    """Averages over size x size equal parts, for a side that size divides."""
    part = len(image[0]) // size
    return [
        sum(channel[y * part + dy][x * part + dx] for dy in range(part) for dx in range(part)) / part**2
        for channel in image
        for y in range(size)
        for x in range(size)
    ]


def test_a_pyramid_weighs_each_size_half_of_the_one_before():
    expected = 0.0
    for own, wanted in zip(STUDENT[ROWS].tolist(), TEACHER[ROWS].tolist(), strict=True):
        losses = [mean_square(blocks(own, size), blocks(wanted, size)) for size in (8, 4, 2, 1)]
        expected += sum(loss / 2**k for k, loss in enumerate(losses)) / (1 + 1 / 2 + 1 / 4 + 1 / 8)
    found = ob.pyramid_mse(STUDENT, TEACHER, ROWS)
    assert float(found.sum) == pytest.approx(expected, rel=1e-9) and int(found.count) == 4


def test_sizes_that_are_not_below_the_maps_own_are_not_counted():
    own, wanted = STUDENT[..., :2, :2], TEACHER[..., :2, :2]
    fine = (own - wanted)[ROWS].square().mean((1, 2, 3))
    coarse = (own - wanted)[ROWS].mean((2, 3)).square().mean(1)
    found = ob.pyramid_mse(own, wanted, ROWS)
    assert float(found.sum) == pytest.approx(float((fine + coarse / 2).sum() / 1.5), rel=1e-12)


def test_channels_are_distributions_over_places():
    expected = 0.0
    for own, wanted in zip(STUDENT[ROWS].flatten(2).tolist(), TEACHER[ROWS].flatten(2).tolist(), strict=True):
        for channel, target in zip(own, wanted, strict=True):
            p, q = (
                [math.exp(v / 2) / sum(math.exp(u / 2) for u in values) for v in values] for values in (target, channel)
            )
            expected += 4 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 3
    found = ob.channel_kl(STUDENT, TEACHER, ROWS, temperature=2.0)
    assert float(found.sum) == pytest.approx(expected, rel=1e-9)
    moved = ob.channel_kl(STUDENT + normal(3, 6, 3, 1, 1), TEACHER, ROWS, temperature=2.0)
    assert float(moved.sum) == pytest.approx(expected, rel=1e-9)  # what is added to a whole channel changes nothing


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="both must be"):
        ob.pyramid_mse(STUDENT, TEACHER[..., :4], ROWS)
    with pytest.raises(ValueError, match="above 0"):
        ob.channel_kl(STUDENT, TEACHER, ROWS, temperature=0)
