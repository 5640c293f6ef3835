"""Isotropy: what each repair leaves, by hand; and that the measures find what was put into a space.

.venv/bin/python -m pytest tests/methods/embeddings/test_isotropy.py
"""

import numpy as np
import pytest

from stillroom.evaluate.isotropy import anisotropy, partition_isotropy
from stillroom.methods.embeddings.isotropy import Isotropy


@pytest.fixture
def skewed():
    """Correlated dimensions of unlike spread, and one with a mean of 6."""
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(400, 8)) @ draw.normal(size=(8, 8))
    rows[:, 5] += 6
    return rows


def test_whitened_dimensions_are_uncorrelated_and_nearest_to_what_they_were(skewed):
    found = Isotropy(epsilon=0.0).fit_transform(skewed)
    np.testing.assert_allclose(np.cov(found, rowvar=False), np.eye(8), atol=1e-8)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-10)
    # of all whitenings, ZCA is the symmetric one
    matrix = Isotropy(epsilon=0.0).fit(skewed).whitening_
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-10)
    inverse = np.linalg.inv(matrix)
    np.testing.assert_allclose(inverse @ inverse, np.cov(skewed, rowvar=False), atol=1e-8)


def test_whitening_makes_the_space_even(skewed):
    before, after = skewed, Isotropy().fit_transform(skewed)
    assert anisotropy(before).value > 0.2 > 0.02 > abs(anisotropy(after).value)
    assert partition_isotropy(after) > 0.5 > 1e-3 > partition_isotropy(before)


def test_parity_with_the_code_whitens_rows(skewed):
    """W is made of the covariance between rows, each less its own mean over dimensions."""
    few = skewed[:5]
    centred = few - few.mean(0)
    own = centred - centred.mean(1, keepdims=True)
    covariance = own @ own.T / (few.shape[1] - 1)
    found = Isotropy(parity="code").fit(few)
    inverse = np.linalg.inv(found.whitening_)
    np.testing.assert_allclose(inverse @ inverse, covariance + 1e-5 * np.eye(5), atol=1e-8)
    np.testing.assert_allclose(found.transform(few), found.whitening_ @ centred)
    with pytest.raises(ValueError, match="whitens the 5 rows that it was fitted on, not 3"):
        found.transform(few[:3])


def test_dropped_dimensions_are_zero_and_the_others_as_they_were(skewed):
    skewed[:, 5] += 100
    repair = Isotropy(repair="drop").fit(np.hstack([skewed, np.zeros((400, 12))]))
    assert repair.dimensions_ == [5]
    chosen = Isotropy(repair="drop", dimensions=[0, 7]).fit_transform(skewed)
    assert not chosen[:, [0, 7]].any()
    np.testing.assert_array_equal(chosen[:, 1:7], skewed[:, 1:7])


def test_clusters_lose_their_mean_and_first_directions():
    """Two clouds on lines: along (1, 0, 0) at z = 50, along (0, 1, 0) at z = -50. What is left is what lies across."""
    draw = np.random.default_rng(1)
    long, short = draw.normal(size=200) * 5, draw.normal(size=200) * 0.1
    first = np.stack([long, short, np.full(200, 50.0)], 1)
    second = np.stack([short, long, np.full(200, -50.0)], 1)
    repair = Isotropy(repair="clusters", clusters=2, directions=1)
    found = repair.fit_transform(np.concatenate([first, second]))
    across = short - short.mean()
    np.testing.assert_allclose(found[:200], np.stack([0 * short, across, 0 * short], 1), atol=0.02)
    np.testing.assert_allclose(found[200:], np.stack([across, 0 * short, 0 * short], 1), atol=0.02)
    # rows that were not there go to the nearest cluster
    np.testing.assert_allclose(repair.transform([[9.0, 0.5, 49.0]])[0, 1:], [0.5 - short.mean(), -1.0], atol=0.1)
    assert [len(directions) for directions in repair.directions_] == [1, 1]


def test_one_cluster_for_each_300_rows(skewed):
    assert Isotropy(repair="clusters").fit(skewed).clusters_.n_clusters == 1
    assert Isotropy(repair="clusters").fit(np.tile(skewed, (3, 1))).clusters_.n_clusters == 4


def test_what_is_refused(skewed):
    with pytest.raises(ValueError, match="repair must be one of whitening, clusters, drop"):
        Isotropy(repair="magic").fit(skewed)
    with pytest.raises(ValueError, match="whitening needs more rows than dimensions; there are 8 rows of 8"):
        Isotropy().fit(skewed[:8])
    with pytest.raises(ValueError, match="a direction has no variance"):
        Isotropy(epsilon=0.0).fit(np.hstack([skewed, np.ones((400, 1))]))
    with pytest.raises(ValueError, match=r"dimensions must lie in \[0, 8\)"):
        Isotropy(repair="drop", dimensions=[8]).fit(skewed)
