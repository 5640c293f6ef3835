"""Calibration against hand-sorted bins and scikit-learn.

Run: pytest tests/evaluate/test_calibration.py
"""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from stillroom.evaluate.calibration import brier_score, expected_calibration_error, reliability_table, top_label

CONFIDENCE = [0.95, 0.9, 0.85, 0.3, 0.25, 0.6]
CORRECT = [True, True, False, False, True, True]


def test_equal_widths_by_hand():
    table = reliability_table(CONFIDENCE, CORRECT, bins=5)
    assert [(part.low, part.high, part.count) for part in table] == [(0.2, 0.4, 2), (0.6, 0.8, 1), (0.8, 1.0, 3)]
    assert [part.confidence for part in table] == pytest.approx([0.275, 0.6, 0.9])
    assert [part.accuracy for part in table] == pytest.approx([0.5, 1, 2 / 3])
    by_hand = (2 * 0.225 + 1 * 0.4 + 3 * (0.9 - 2 / 3)) / 6
    assert expected_calibration_error(table) == pytest.approx(by_hand)


def test_equal_masses_by_hand():
    table = reliability_table(CONFIDENCE, CORRECT, bins=3, equal_mass=True)
    assert [(part.low, part.high, part.count) for part in table] == [(0.25, 0.3, 2), (0.6, 0.85, 2), (0.9, 0.95, 2)]
    by_hand = (2 * abs(0.5 - 0.275) + 2 * abs(0.5 - 0.725) + 2 * abs(1 - 0.925)) / 6
    assert expected_calibration_error(table) == pytest.approx(by_hand)


def test_full_confidence_lies_in_the_last_bin():
    (part,) = reliability_table([1.0, 1.0], [True, False], bins=10)
    assert (part.low, part.high) == (0.9, 1.0)


def test_a_model_that_knows_its_odds_is_calibrated():
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.3, 1, 200_000)
    correct = generator.uniform(size=200_000) < confidence
    for equal_mass in (False, True):
        assert expected_calibration_error(reliability_table(confidence, correct, equal_mass=equal_mass)) < 0.01
        assert expected_calibration_error(reliability_table(confidence**0.2, correct, equal_mass=equal_mass)) > 0.1


def test_brier_score_is_that_of_scikit_learn():
    generator = np.random.default_rng(0)
    rows, labels = generator.dirichlet(np.ones(4), size=60), generator.integers(4, size=60)
    assert brier_score(rows, labels) == pytest.approx(
        brier_score_loss(labels, rows, labels=[0, 1, 2, 3], scale_by_half=False)
    )
    assert brier_score([[0, 1], [0, 1]], [1, 0]) == 1  # once perfect (0), once all wrong (2)


def test_top_label():
    confidence, correct = top_label([[0.2, 0.8], [0.6, 0.4]], [1, 1])
    assert confidence.tolist() == [0.8, 0.6]
    assert correct.tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reliability_table([3.0], [True]), "were these logits"),
        (lambda: reliability_table([float("nan")], [True]), "were these logits"),
        (lambda: reliability_table([], []), "equally long"),
        (lambda: brier_score([[2.0, -1.5]], [0]), "sum to 1"),
        (lambda: top_label([[0.5, 0.5]], [0, 1]), "labels"),
    ],
)
def test_what_is_no_probability_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
