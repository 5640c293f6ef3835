"""Vectors against judgements, with scipy on cosines computed one pair at a time.

Run: pytest tests/evaluate/test_similarity.py
"""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.stats import spearmanr

from stillroom.evaluate.similarity import document_similarity, pair_similarity, word_similarity


def test_word_pairs():
    vectors = {"cat": [1.0, 0], "dog": [0.9, 0.2], "car": [0, 1.0], "bus": [-1, 0.5]}
    pairs = [("cat", "dog", 9.0), ("car", "cat", 2.0), ("cat", "bus", 1.0), ("cat", "unicorn", 8.0)]
    assert word_similarity(vectors, pairs) == (pytest.approx(1), 0.75)
    turned = [(first, second, -score) for first, second, score in pairs]
    assert word_similarity(vectors, turned).spearman == pytest.approx(-1)


def test_text_pairs():
    generator = np.random.default_rng(0)
    first, second, judged = generator.normal(size=(20, 5)), generator.normal(size=(20, 5)), generator.uniform(size=20)
    cosines = [1 - cosine(left, right) for left, right in zip(first, second, strict=True)]
    assert pair_similarity(first, second, judged) == pytest.approx(spearmanr(cosines, judged)[0])


def test_documents_count_each_pair_once():
    generator = np.random.default_rng(1)
    vectors, judged = generator.normal(size=(6, 4)), generator.uniform(size=(6, 6))
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    cosines = [1 - cosine(vectors[i], vectors[j]) for i, j in pairs]
    expected = spearmanr(cosines, [judged[pair] for pair in pairs])[0]
    assert document_similarity(vectors, judged) == pytest.approx(expected)


def test_collapsed_vectors_have_no_correlation():
    assert math.isnan(pair_similarity(np.zeros((3, 2)), np.ones((3, 2)), [1, 2, 3]))


def test_bad_input():
    with pytest.raises(ValueError, match="1 of 2 pairs"):
        word_similarity({"a": [1.0], "b": [1.0]}, [("a", "b", 1.0), ("a", "c", 2.0)])
    with pytest.raises(ValueError, match="square of judgements"):
        document_similarity(np.ones((3, 2)), np.ones((2, 2)))
