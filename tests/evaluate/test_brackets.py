"""Bracketing F1 by hand, and at its edges.

.venv/bin/python -m pytest tests/evaluate/test_brackets.py
"""

import pytest

from stillroom.evaluate.brackets import mean_f1, sentence_f1

FLAT, RIGHT = ("a", "b", "c", "d"), ("a", ("b", ("c", "d")))


def test_by_hand():
    """Gold (0, 2), (2, 4); predicted (1, 4), (2, 4): one of two and one of two. The whole sentence is not counted."""
    assert sentence_f1((("a", "b"), ("c", "d")), RIGHT) == pytest.approx(0.5)
    assert sentence_f1(RIGHT, RIGHT) == pytest.approx(1)
    # Gold that is not binary can't be reached: (1, 4) alone is one of two predicted spans, and all of the gold.
    assert sentence_f1(("a", ("b", "c", "d")), RIGHT) == pytest.approx(2 / 3)


def test_gold_without_spans():
    assert sentence_f1(FLAT, FLAT) == pytest.approx(1)
    assert sentence_f1(FLAT, RIGHT) == pytest.approx(0)
    assert sentence_f1(("a", "b"), ("a", "b")) == pytest.approx(1)


def test_the_mean_leaves_out_single_words_and_long_sentences():
    gold = ["a", RIGHT, FLAT]
    assert mean_f1(gold, ["a", RIGHT, RIGHT]) == pytest.approx(0.5)
    long = tuple("x" for _ in range(6))
    assert mean_f1([RIGHT, long], [RIGHT, (*long[:1], long[1:])], longest=5) == pytest.approx(1)
    with pytest.raises(ValueError, match="nothing to measure"):
        mean_f1(["a"], ["a"])
    with pytest.raises(ValueError, match="different words"):
        sentence_f1(RIGHT, ("a", "b"))
