"""Semantic entropy by hand, and clusters of answers that mean the same.

.venv/bin/python -m pytest tests/evaluate/test_semantic_entropy.py
"""

import math

import numpy as np
import pytest

from stillroom.evaluate.semantic_entropy import (
    cluster_log_probs,
    entailed_both_ways,
    naive_entropy,
    semantic_clusters,
    semantic_entropy,
)


def test_entropies_by_hand():
    """Answers of probability 1/2, 1/4, 1/8 in clusters 0, 1, 0: shares 5/7 and 2/7 of what was seen."""
    scores, clusters = np.log([1 / 2, 1 / 4, 1 / 8]), [0, 1, 0]
    first, second = 5 / 7, 2 / 7
    np.testing.assert_allclose(np.exp(cluster_log_probs(scores, clusters)), [first, second])
    assert semantic_entropy(scores, clusters) == pytest.approx(-first * math.log(first) - second * math.log(second))
    assert semantic_entropy(scores, clusters, variant="mc") == pytest.approx(-(math.log(first) + math.log(second)) / 2)
    shares = -2 / 3 * math.log(2 / 3) - 1 / 3 * math.log(1 / 3)
    assert semantic_entropy(None, clusters, variant="discrete") == pytest.approx(shares)
    assert naive_entropy(scores) == pytest.approx(6 * math.log(2) / 3)


def test_wording_does_not_matter_and_meaning_does():
    scores = np.log([0.3, 0.3, 0.3])
    for variant in ("rao", "mc", "discrete"):
        assert semantic_entropy(scores, [0, 0, 0], variant=variant) == 0
        assert semantic_entropy(scores, [0, 1, 2], variant=variant) == pytest.approx(math.log(3))


def test_a_cluster_is_what_its_founder_takes_in():
    near = {("a", "b"), ("b", "c")}  # not transitive: a is like b, b is like c, a is not like c
    assert semantic_clusters(["a", "b", "c", "b"], lambda x, y: x == y or (x, y) in near) == [0, 0, 1, 0]
    assert semantic_clusters(["a", "c", "b"], lambda x, y: x == y or (x, y) in near or (y, x) in near) == [0, 1, 0]
    assert semantic_clusters([], lambda x, y: True) == []


def test_entailment_is_asked_in_both_directions_and_with_the_question():
    said = {("Q one", "Q two"): 2, ("Q two", "Q one"): 1}

    def entails(premise, hypothesis):
        return said[premise, hypothesis]

    assert entailed_both_ways(entails, question="Q")("one", "two")
    assert not entailed_both_ways(entails, question="Q", strict=True)("one", "two")
    for there, back, lenient in ((2, 2, True), (1, 1, False), (2, 0, False), (0, 1, False), (1, 2, True)):
        said.update({("Q one", "Q two"): there, ("Q two", "Q one"): back})
        assert entailed_both_ways(entails, question="Q")("one", "two") is lenient


def test_what_is_refused():
    with pytest.raises(ValueError, match="clusters must be numbered from 0"):
        semantic_entropy([-1.0, -1.0], [0, 2])
    with pytest.raises(ValueError, match="says 0, 1 or 2"):
        entailed_both_ways(lambda a, b: 3)("x", "y")
    with pytest.raises(ValueError, match="number 1 of log-likelihoods is NaN or infinite"):
        naive_entropy([-1.0, -math.inf])
