"""Filters and their reasons, thresholds, and the small measures of likeness.

Run: pytest tests/synthesis/test_filters.py
"""

import json
import math
from functools import cache

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillroom.errors import UserError
from stillroom.synthesis import filters
from stillroom.synthesis.filters import keep
from stillroom.synthesis.overlap import rouge_l, unlike, word_jaccard
from stillroom.synthesis.threshold import threshold_for


def data(*texts):
    return Dataset.from_list([{"id": str(place), "text": text} for place, text in enumerate(texts)])


def test_the_first_reason_counts_and_every_row_is_kept_or_in_the_file(tmp_path):
    rows = data(
        "a short one.", "too long a text to stay here.", "the figure shows it.", "the figure shows it, I think, yes"
    )
    rules = [filters.length("text", most=6), filters.lacks("text", "the figure", "text")]
    done = keep(rows, rules, rejects=tmp_path / "new" / "aside.jsonl")
    assert done.dataset["id"] == ["0"]
    assert done.account.rejected == {"text has more than 6 words": 2, "text says 'the figure'": 1}
    assert done.account.rows == 4 and done.account.adds_up
    aside = [json.loads(line) for line in (tmp_path / "new" / "aside.jsonl").read_text().splitlines()]
    assert [(line["row"]["id"], line["reason"]) for line in aside] == [
        ("1", "text has more than 6 words"),
        ("2", "text says 'the figure'"),
        ("3", "text has more than 6 words"),
    ]
    again = keep(rows, rules, rejects=tmp_path / "new" / "aside.jsonl")  # starts the file anew
    assert again.account.rejected == done.account.rejected
    assert len((tmp_path / "new" / "aside.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("rule", "row", "reason"),
    [
        (filters.length("t", least=2), {"t": "one"}, "t has fewer than 2 words"),
        (filters.length("t", least=3, most=3, unit="characters"), {"t": "one"}, None),
        (filters.length("t", most=2, unit="characters"), {"t": "one"}, "t has more than 2 characters"),
        (filters.length("t", least=1), {"t": None}, "t has fewer than 1 words"),
        (filters.sentence("t"), {"t": 'He said: "Done." '}, None),
        (filters.sentence("t"), {"t": "He said"}, "t ends in the middle of a sentence"),
        (filters.lacks("t", "text"), {"t": "contextual"}, None),
        (filters.lacks("t", "The Text"), {"t": "see the\n text"}, "t says 'the text'"),
        (filters.lacks("t"), {"t": "anything"}, None),
        (filters.mentions("t", "h"), {"t": "A pot-still is old.", "h": "Pot-Still"}, None),
        (filters.mentions("t", "h"), {"t": "Distillation is old.", "h": "still"}, "t does not mention the h"),
        (filters.mentions("t", "h"), {"t": "C++ is a language", "h": "C++"}, None),
        (filters.mentions("t", "h"), {"t": "x", "h": ""}, "t does not mention the h"),
        (filters.above("s", 0.8), {"s": 0.8}, "s is not above 0.8"),
        (filters.above("s", 0.8), {"s": 0.81}, None),
        (filters.above("s", 0.8), {"s": math.nan}, "s is not above 0.8"),
        (filters.above("s", 0.8), {"s": None}, "s is not above 0.8"),
        (filters.equal("a", "b"), {"a": 1, "b": 2}, "a differs from b"),
        (filters.equal("a", "b", lambda a, b: int(a) == b), {"a": "2", "b": 2}, None),
        (filters.different("a", "b"), {"a": "Same  text", "b": "same text"}, "a repeats b"),
        (filters.different("a", "b"), {"a": "some text", "b": "same text"}, None),
        (filters.finished(), {"reply": "x", "reply_call": {"finish_reason": "length"}}, "reply was cut off"),
        (filters.finished(), {"reply": "x", "reply_call": {"finish_reason": "stop"}}, None),
    ],
)
def test_filters_by_hand(rule, row, reason):
    assert rule(row) == reason


def test_a_filter_that_is_wrong_ends_the_step_and_names_the_row():
    with pytest.raises(TypeError, match="gave True; a filter gives a reason"):
        keep(data("x"), [lambda row: True])
    with pytest.raises(ZeroDivisionError) as error:
        keep(data("x", "y"), [lambda row: 1 / 0 if row["text"] == "y" else None])
    assert "at row 1 (id '1')" in error.value.__notes__[0]
    with pytest.raises(UserError, match="no column 'texts' to filter by; did you mean 'text'"):
        keep(data("x"), [filters.sentence("texts")])


# Thresholds.

SCORES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
GOOD = [False, False, True, False, True, False, True, True, False, True]


def test_thresholds_by_hand():
    # Strictly above 0.4: the good ones of 0.5, 0.7, 0.8, 1.0, so 4 of 5; above 0.5 only 3 of 5.
    found = threshold_for(SCORES, GOOD, recall=0.8)
    assert found == (0.4, pytest.approx(0.8), pytest.approx(4 / 6), pytest.approx(0.6))
    assert threshold_for(SCORES, GOOD, recall=1.0).value == 0.2
    assert threshold_for(SCORES, GOOD, precision=0.75).value == 0.6  # 0.7, 0.8, 1.0 of 0.7, 0.8, 0.9, 1.0
    assert threshold_for(SCORES, GOOD, precision=0.5).value == -math.inf
    with pytest.raises(UserError, match=r"the best is 0\.500"):
        threshold_for([1, 1], [True, False], precision=0.9)
    with pytest.raises(UserError, match="needs both"):
        threshold_for([1, 2], [True, True], recall=0.5)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=60), st.floats(0.05, 1.0))
def test_the_threshold_keeps_the_recall_and_the_next_one_would_not(labelled, recall):
    scores, good = zip(*labelled, strict=True)
    if len(set(good)) < 2:
        return
    found = threshold_for(scores, good, recall=recall)
    positive = [score for score, label in labelled if label]
    assert sum(score > found.value for score in positive) >= recall * len(positive) - 1e-9
    higher = [score for score in sorted(set(scores)) if score > found.value]
    assert not higher or sum(score > higher[0] for score in positive) < recall * len(positive)


# Likeness.


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text("abc  ", max_size=40), st.text("abc  ", max_size=40))
def test_rouge_l_is_that_of_rouge_score(one, other):
    assert rouge_l(one, other) == pytest.approx(_scorer().score(one, other)["rougeL"].fmeasure)


@cache
def _scorer():
    return pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])


def test_word_jaccard_by_hand():
    assert word_jaccard("The still, the worm", "the WORM and") == 2 / 4
    assert word_jaccard("", "") == 1.0 and word_jaccard("a", "") == 0.0


def test_rows_too_like_an_earlier_one_are_dropped():
    rows = data("name three copper stills", "name four copper stills", "what is a worm", "what is a worm tub for")
    done = unlike(rows, "text", most=0.7, against=["what is a worm tub"])
    # 3 of 4 words: 0.75 > 0.7; "what is a worm" against 5 words: 2*4/9 = 0.89
    assert done.dataset["id"] == ["0"] and done.account.rejected == {"too similar": 3} and done.account.adds_up
    assert unlike(rows, "text", most=0.75).dataset["id"] == ["0", "1", "2"]  # the last: 2*4/10 = 0.8
