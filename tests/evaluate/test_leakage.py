"""Leakage and overlap by hand.

.venv/bin/python -m pytest tests/evaluate/test_leakage.py
"""

import pytest

from stillroom.errors import UserError
from stillroom.evaluate.leakage import leakage, ngram_overlap, refuse_seen

ITEM = "Which of these metals is liquid at room temperature and pressure?"


def test_who_knows_the_benchmark_and_not_its_twins_has_seen_it():
    found = leakage([1] * 90 + [0] * 10, [1] * 25 + [0] * 75)
    assert found.score == pytest.approx(0.65) and found.p < 0.001
    honest = leakage([1, 0, 0, 1] * 25, [0, 1, 1, 0] * 25)
    assert honest.score == 0 and honest.p > 0.3
    assert leakage([0] * 50, [1] * 50).p > 0.99  # worse on the benchmark is no leak


def test_items_are_found_inside_longer_texts_whatever_their_case():
    corpus = [f"Question 7. {ITEM.upper()} Mercury.", "Something else altogether, of no use to anybody here."]
    assert ngram_overlap([ITEM, "Which gas is the lightest of all that are known so far?"], corpus) == (0.5, [0])


def test_most_of_an_item_must_be_there():
    words = [f"w{n}" for n in range(17)]  # ten n-grams of eight words
    item = " ".join(words)
    assert ngram_overlap([item], [" ".join(words[:15])]).seen == [0]  # eight of ten
    assert ngram_overlap([item], [" ".join(words[:14])]).seen == []  # seven
    assert ngram_overlap([item], [" ".join(words[:8])], share=0.1).seen == [0]
    # two texts that hold a half each are no copy: so are all texts of one template
    assert ngram_overlap([item], [" ".join(words[:13]), " ".join(words[4:])]).seen == []


def test_short_items_are_taken_whole():
    assert ngram_overlap(["liquid metal", "..."], ["a liquid metal bath"]) == (0.5, [0])
    assert ngram_overlap(["liquid metal"], ["a metal that is liquid"]).share == 0


def test_a_score_on_what_was_seen_is_refused():
    refuse_seen([ITEM], ["Nothing of it."], whose="the teacher")
    with pytest.raises(
        UserError, match=r"1 of 2 rows \(the first is row 1\) stand in the training data of the teacher"
    ):
        refuse_seen(["Is it so?", ITEM], [ITEM], whose="the teacher")
    with pytest.raises(ValueError, match="n must be at least 1"):
        ngram_overlap([ITEM], [ITEM], n=0)
