"""Where the recall falls, by hand, beside the threshold that keeps it.

.venv/bin/python -m pytest tests/synthesis/test_threshold.py
"""

import pytest

from stillroom.errors import UserError
from stillroom.synthesis.threshold import crossing, threshold_for

SCORES, GOOD = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [False, True, False, True, True, True]


def test_the_recall_falls_to_what_is_asked():
    """Good rows reach 0.2, 0.4, 0.5, 0.6: three quarters of them reach 0.3 and 0.4, half 0.5."""
    assert crossing(SCORES, GOOD, recall=0.8).value == 0.3
    assert crossing(SCORES, GOOD, recall=0.75).value == 0.3
    assert crossing(SCORES, GOOD, recall=0.5) == (0.5, 0.25, 1.0, pytest.approx(1 / 6))
    assert crossing(SCORES, GOOD, recall=1.0).value == 0.1
    assert threshold_for(SCORES, GOOD, recall=0.5).value == 0.4  # keeps half at least


def test_ties_at_the_top_and_labels_of_one_kind_are_refused():
    with pytest.raises(UserError, match="highest score"):
        crossing([1, 1, 0], [True, True, False], recall=0.5)
    with pytest.raises(UserError, match="good and bad"):
        crossing([1, 2], [True, True], recall=0.5)
    with pytest.raises(ValueError, match="recall must be"):
        crossing([1, 2], [True, False], recall=0.0)
