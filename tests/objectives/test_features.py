"""Distances between vectors, against the definitions.

Run: pytest tests/objectives/test_features.py
"""

import pytest
import torch
from tests.objectives.cases import ROWS, normal
from tests.oracles import objectives as oracle

from stillroom import objectives as ob

STUDENT, TEACHER = normal(1, 6, 4), normal(2, 6, 4)


def rows(distance):
    return sum(distance(a, b) for a, b in zip(STUDENT[ROWS].numpy(), TEACHER[ROWS].numpy(), strict=True))


def scaled(vector):
    return vector / (vector @ vector) ** 0.5


@pytest.mark.parametrize(
    ("loss", "distance"),
    [
        (ob.mse, lambda a, b: ((a - b) ** 2).mean()),
        (ob.normalised_mse, lambda a, b: ((scaled(a) - scaled(b)) ** 2).mean()),
        (ob.cosine_distance, lambda a, b: 1 - oracle.cosine(a, b)),
        (ob.smooth_l1, lambda a, b: sum(map(oracle.huber, a - b)) / len(a)),
    ],
)
def test_against_the_definition(loss, distance):
    value = loss(STUDENT, TEACHER, ROWS)
    assert float(value.sum) == pytest.approx(rows(distance), rel=1e-12)
    assert int(value.count) == 4


def test_smooth_l1_without_a_smooth_part_is_l1():
    loss = ob.smooth_l1(STUDENT, TEACHER, ROWS, beta=0.0)
    assert float(loss.sum) == pytest.approx(rows(lambda a, b: abs(a - b).mean()))


def test_normalised_mse_and_cosine_distance_differ_by_a_factor_only():
    torch.testing.assert_close(
        ob.normalised_mse_rows(STUDENT, TEACHER), 2 / 4 * ob.cosine_distance_rows(STUDENT, TEACHER)
    )


@pytest.mark.parametrize("by_row", [ob.normalised_mse_rows, ob.cosine_distance_rows])
def test_the_length_of_a_vector_does_not_matter_to_a_direction(by_row):
    torch.testing.assert_close(by_row(STUDENT, TEACHER), by_row(100 * STUDENT, TEACHER / 100))


def test_another_width_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match="projector"):
        ob.mse(STUDENT, TEACHER[:, :3], ROWS)
