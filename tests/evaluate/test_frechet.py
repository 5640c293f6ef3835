"""The Fréchet distance against its closed forms and SciPy's matrix root.

.venv/bin/python -m pytest tests/evaluate/test_frechet.py
"""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from stillroom.evaluate.frechet import frechet_distance


def cloud(seed, rows=200, width=5):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(rows, width)) @ draw.normal(size=(width, width)) + draw.normal(size=width)


def test_it_is_the_formula_with_scipys_root():
    one, two = cloud(0), cloud(1)
    c1, c2 = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    expected = ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * np.real(sqrtm(c1 @ c2)))
    assert frechet_distance(one, two, shrink=0.0) == pytest.approx(expected)


def test_a_shift_and_a_scale_have_closed_forms():
    one = cloud(2)
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-8)
    assert frechet_distance(one, one + 2.0) == pytest.approx(5 * 4.0)
    centred = one - one.mean(0)
    trace = np.trace(np.cov(centred, rowvar=False))
    assert frechet_distance(centred, 3 * centred, shrink=0.0) == pytest.approx((3 - 1) ** 2 * trace)


def test_more_features_than_rows_is_no_trouble():
    assert np.isfinite(frechet_distance(cloud(3, rows=4, width=9), cloud(4, rows=3, width=9)))


@pytest.mark.parametrize(("one", "two"), [((1, 3), (5, 3)), ((5, 3), (5, 4)), ((5,), (5,))])
def test_what_is_no_cloud_is_refused(one, two):
    with pytest.raises(ValueError, match="rows, width"):
        frechet_distance(np.zeros(one), np.zeros(two))
