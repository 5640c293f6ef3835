"""Measures of topics by hand.

.venv/bin/python -m pytest tests/evaluate/test_topics.py
"""

import math

import pytest

from stillroom.evaluate.topics import purity, stop_word_share, topic_coherence, topic_diversity, topic_npmi

TOPICS = [["cat", "dog", "the"], ["cat", "gold", "iron"]]


def test_different_words_and_stop_words_are_counted():
    assert topic_diversity(TOPICS) == 5 / 6 and topic_diversity([["a"], ["a"]]) == 0.5
    assert stop_word_share(TOPICS, {"the", "of"}) == 1 / 6
    with pytest.raises(ValueError, match="no topic with a word"):
        topic_diversity([[]])


def test_coherence_is_the_mean_cosine_within_topics():
    vectors = {"cat": [1, 0], "dog": [1, 1], "gold": [0, 2], "iron": [0, 3]}
    found = topic_coherence(TOPICS, vectors)
    assert found.value == pytest.approx((math.sqrt(0.5) + (0 + 0 + 1) / 3) / 2) and found.coverage == 5 / 6
    with pytest.raises(ValueError, match="no topic has two words with vectors"):
        topic_coherence(TOPICS, {"cat": [1, 0]})


def test_npmi_by_hand():
    """Of four documents two have a, two b, one both: log(1/4 / (1/2 * 1/2)) = 0. c and d always meet, e and f never."""
    documents = [{"a", "b", "c", "d", "e"}, {"a", "f"}, {"b", "f"}, {"c", "d"}]
    assert topic_npmi([["a", "b"]], documents) == 0
    assert topic_npmi([["c", "d"]], documents) == pytest.approx(math.log(0.5 / 0.25) / -math.log(0.5))
    assert topic_npmi([["e", "f"]], documents) == -1
    assert topic_npmi([["a", "b"], ["e", "f"]], documents) == -0.5


def test_purity_counts_the_most_frequent_class_of_each_topic():
    assert purity([0, 0, 0, 5, 5], [1, 1, 2, 2, 2]) == 4 / 5
