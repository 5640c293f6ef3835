"""How numbers are written, each line worked out by hand.

.venv/bin/python -m pytest tests/report/test_units.py
"""

import math

import pytest

from stillroom.report import units


def plain(text):
    return text.replace(units.THIN, " ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (0.0, "0"),
        (7, "7"),
        (48213, "48,213"),
        (0.4123, "0.412"),
        (0.5, "0.500"),
        (9.999, "10.0"),
        (99.96, "100"),
        (1234.5, "1,234"),
        (1e6, "1,000,000"),
        (0.0012345, "0.00123"),
        (0.0009996, "0.00100"),
        (0.000012, "1.20 × 10⁻⁵"),
        (3.2e12, "3.20 × 10¹²"),
        (-0.5, "−0.500"),
        (math.nan, "NaN"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
    ],
)
def test_three_digits(value, text):
    assert plain(units.number(value)) == text


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (units.share, 0.9410, "94.1 %"),
        (units.share, 1.0, "100 %"),
        (units.times, 2.9, "2.90 ×"),
        (units.times, 3, "3.00 ×"),
        (units.magnitude, 596_049_920, "596 M"),
        (units.magnitude, 999_999_999, "1.00 B"),
        (units.magnitude, 812, "812"),
        (units.size, 1_192_135_096, "1.19 GB"),
        (units.size, 90_868_376, "90.9 MB"),
        (units.milliseconds, 8.2, "8.20 ms"),
        (units.rate, 1240, "1,240 /s"),
        (units.duration, 8.2, "8.20 s"),
        (units.duration, 59.96, "1 min 00 s"),
        (units.duration, 252, "4 min 12 s"),
        (units.duration, 3599.7, "1 h 00 min"),
        (units.duration, 11_220, "3 h 07 min"),
        (units.duration, 86_390, "1 d 00 h"),
        (units.duration, 190_800, "2 d 05 h"),
        (units.duration, math.nan, "NaN"),
    ],
)
def test_units(write, value, text):
    assert plain(write(value)) == text
    assert write(None) == "–"


def test_fewer_digits_for_a_sentence():
    assert plain(units.share(0.2943, 2)) == "29 %"
    assert plain(units.times(2.94, 2)) == "2.9 ×"
    assert plain(units.share(0.0678, 2)) == "6.8 %"
