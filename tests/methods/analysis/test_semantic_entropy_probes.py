"""Semantic entropy probes: the threshold by hand, the layers that know, and what is refused.

.venv/bin/python -m pytest tests/methods/analysis/test_semantic_entropy_probes.py
"""

import math

import numpy as np
import pytest

from stillroom.methods.analysis.semantic_entropy_probes import SemanticEntropyProbe, best_split


def layered(rows=300, layers=8, width=3, seed=0):
    """States of which layers 4 and 5 know the entropy, 4 better than 5; the others are noise."""
    draw = np.random.default_rng(seed)
    entropy = np.where(draw.random(rows) < 0.5, 0.1, 1.5) + draw.random(rows) * 0.2
    states = draw.normal(size=(rows, layers, width))
    states[:, 4, 0] += 6 * (entropy - 0.8)
    states[:, 5, 1] += 1.5 * (entropy - 0.8)
    return states.reshape(rows, -1), entropy


def test_the_threshold_divides_two_groups():
    """Between 0.2 and 0.9; of the points that do equally well, the first."""
    values = [0.0, 0.1, 0.2, 0.9, 1.0]
    found = best_split(values)
    assert 0.2 < found < 0.9 and found == pytest.approx(np.linspace(1e-10, 1.0, 100)[20])
    assert best_split([0.0, 0.0, 1.0]) == pytest.approx(1e-10)  # labels divide as they are


def test_the_layers_that_know_are_found_and_read():
    X, y = layered()
    probe = SemanticEntropyProbe(layers=8, span=2).fit(X, y)
    assert (probe.first_, probe.last_) == (4, 5)
    assert probe.layer_auroc_[4] > probe.layer_auroc_[5] > 0.7 and abs(probe.layer_auroc_[0] - 0.5) < 0.25
    unseen, wanted = layered(seed=1)
    assert probe.score(unseen, wanted) > 0.95
    np.testing.assert_array_equal(probe.predict(unseen), probe.predict_proba(unseen)[:, 1] > 0.5)
    # noise in the other layers does not reach the prediction
    changed = unseen.reshape(300, 8, 3).copy()
    changed[:, :4] = 100
    np.testing.assert_array_equal(probe.predict_proba(changed.reshape(300, -1)), probe.predict_proba(unseen))


def test_at_least_five_layers_are_read_and_all_where_there_are_fewer():
    X, y = layered()
    probe = SemanticEntropyProbe(layers=8).fit(X, y)
    assert probe.last_ - probe.first_ + 1 >= 5 and probe.first_ <= 4 <= probe.last_
    few = SemanticEntropyProbe(layers=2).fit(X[:, 12:18], y)
    assert (few.first_, few.last_) == (0, 1)


def test_on_labels_it_is_an_accuracy_probe():
    X, y = layered()
    wrong = (y > 0.8).astype(float)
    probe = SemanticEntropyProbe(layers=8, span=2).fit(X, wrong)
    np.testing.assert_array_equal(
        probe.predict_proba(X), SemanticEntropyProbe(layers=8, span=2).fit(X, y).predict_proba(X)
    )


def test_an_unseen_set_of_one_kind_has_no_auroc_and_does_not_crash():
    X, y = layered()
    probe = SemanticEntropyProbe(layers=8, span=2).fit(X, y)
    assert math.isnan(probe.score(X[:5], np.zeros(5)))


def test_what_is_refused():
    X, y = layered(rows=40)
    with pytest.raises(ValueError, match="X has 24 columns, which 5 layers of one width can't have"):
        SemanticEntropyProbe(layers=5).fit(X, y)
    with pytest.raises(ValueError, match="0 of 40 rows have a high entropy"):
        SemanticEntropyProbe(layers=8).fit(X, np.zeros(40))
    with pytest.raises(ValueError, match=r"validation in \(0, 1\)"):
        SemanticEntropyProbe(layers=8, validation=1.0).fit(X, y)
