"""The number that a text states, when two are the same, and votes.

.venv/bin/python -m pytest tests/verify/test_answers.py
"""

from fractions import Fraction

import pytest

from stillroom.verify import number_in, same_number, stated_number, vote


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("She has 3 + 4 = 7 eggs. The answer is 7.", 7),
        ("the ANSWER is $1,234.50 in all", Fraction("1234.5")),
        ("1 2 3 #### -12", -12),
        ("The answer is 5. No: the answer is 6. I counted 9.", 6),
        (r"so \boxed{42}", 42),
        ("12-7 = 5", 5),
        ("Take 12-7", 7),
        ("a loss of −3 euros", -3),
        ("3/4 of a mile", Fraction(3, 4)),
        (".5", Fraction(1, 2)),
        ("15 kg.", 15),
        ("It grew by 1,000,000.", 1_000_000),
        ("x2 and v1.5 are names", None),
        ("the answer is unknown", None),
        ("3/0", None),
        ("", None),
        ("9" * 1000, None),
    ],
)
def test_the_number_that_a_text_states(text, value):
    assert number_in(text) == value


def test_without_a_marker_nothing_is_stated():
    assert stated_number("it is 7") is None and stated_number("The answer is 7") == 7
    assert number_in("sum: 7 of 9", markers=["sum:"]) == 7


def test_numbers_are_the_same_within_the_tolerance():
    assert same_number(Fraction(1, 3), 0.33334) and not same_number(Fraction(1, 3), 0.3336)
    assert same_number(10**30, 10**30) and not same_number(None, 1) and not same_number(None, None)


def test_a_vote():
    """Two of five say 4, once as 4.00001; one abstains; weights turn it."""
    answers = [Fraction(3), Fraction(4), None, Fraction("4.00001"), Fraction(9)]
    assert vote(answers) == 4
    assert vote(answers, [2.5, 1, 9, 1, 2.4]) == 3
    assert vote([Fraction(7), Fraction(8)]) == 7 and vote([None]) is None and vote([]) is None
    with pytest.raises(ValueError, match="each of 2 answers one weight"):
        vote([Fraction(1), Fraction(2)], [1.0])
