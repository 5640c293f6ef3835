"""Measures of isotropy, by hand and on spaces of known shape.

.venv/bin/python -m pytest tests/evaluate/test_isotropy.py
"""

import numpy as np
import pytest

from stillroom.evaluate.isotropy import anisotropy, dimension_harm, outlier_dimensions, partition_isotropy


@pytest.fixture
def gaussian():
    return np.random.default_rng(0).normal(size=(2000, 32))


def test_a_gaussian_is_isotropic_until_one_dimension_is_raised(gaussian):
    assert abs(anisotropy(gaussian).value) < 0.01
    assert outlier_dimensions(gaussian) == []
    gaussian[:, 7] += 6
    found = anisotropy(gaussian)
    assert found.value == pytest.approx(36 / (36 + 32), abs=0.03)
    assert found.top(1)[0][0] == 7 and found.top(1)[0][1] == pytest.approx(found.value, abs=0.02)
    assert found.contributions.sum() == pytest.approx(found.value)
    assert outlier_dimensions(gaussian) == [7]


def test_outliers_are_those_of_the_mean_over_languages(gaussian):
    other = gaussian.copy()
    gaussian[:, 3] += 6
    other[:, 3] -= 6
    assert outlier_dimensions(gaussian) == [3] and outlier_dimensions(gaussian, other) == []


def test_pairs_are_of_different_rows():
    """Two orthogonal rows: only a row with itself would have a cosine."""
    assert anisotropy(np.eye(2)).value == 0
    assert anisotropy(np.eye(2), np.eye(2)[::-1]).value == 1  # row 0 with the other side's row 1


def test_partition_isotropy_by_hand():
    """X^T X of (2, 0), (0, 1) is diagonal: F is e^2 + 1 along the first axis, 1 + e along the second."""
    assert partition_isotropy([[2.0, 0.0], [0.0, 1.0]]) == pytest.approx((1 + np.e) / (np.e**2 + 1))
    assert partition_isotropy([[-2.0, 0.0], [0.0, 1.0]]) == pytest.approx((1 + np.e) / (np.e**2 + 1))
    assert partition_isotropy(np.vstack([np.eye(3), -np.eye(3)])) == pytest.approx(1)
    assert 0 <= partition_isotropy([[2000.0, 0.0], [0.0, 1.0]]) < 1e-300  # nothing overflows


def test_harm_is_the_cosine_that_a_dimension_costs():
    left, right = np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0]]), np.array([[1.0, -2.0, 3.0], [1.0, 1.0, 2.0]])

    def cosine(a, b):
        return float(np.mean([x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]))

    wanted = [cosine(np.delete(left, k, 1), np.delete(right, k, 1)) - cosine(left, right) for k in range(3)]
    np.testing.assert_allclose(dimension_harm(left, right), wanted)
    assert wanted[1] > 0 > wanted[2]


def test_what_is_refused():
    with pytest.raises(ValueError, match="row 1 of vectors is all zeros"):
        anisotropy([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="two or more rows of one shape"):
        anisotropy(np.eye(3), np.eye(4))
    with pytest.raises(ValueError, match="only one dimension that isn't 0"):
        dimension_harm(np.eye(3), np.eye(3))
