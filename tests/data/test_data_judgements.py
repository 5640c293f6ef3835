"""Judgements of likeness: the published numbers of pairs, and values looked up in the papers' own data.

Run: pytest tests/data/test_data_judgements.py
"""

import sys

import numpy as np
import pytest

from stillroom.data import judgements, load
from stillroom.errors import UserError


def scores(dataset):
    return {(row["first"], row["second"]): row["score"] for row in dataset}


def test_wordsim_has_353_pairs():
    pairs = judgements.wordsim353()
    assert len(pairs) == 353
    found = scores(pairs)
    assert found["tiger", "cat"] == 7.35
    assert found["king", "cabbage"] == 0.23
    assert found["tiger", "tiger"] == 10
    assert len(found) == 352, "money and cash were judged twice"


def test_simlex_has_999_pairs():
    pairs = judgements.simlex999()
    assert len(pairs) == 999
    found = scores(pairs)
    assert found["old", "new"] == 1.58
    assert found["smart", "intelligent"] == 9.2
    assert all(0 <= score <= 10 for score in found.values())


def test_lee_has_50_documents_and_all_their_pairs():
    texts, matrix = judgements.lee()
    assert len(texts) == len(set(texts)) == 50
    assert matrix.shape == (50, 50)
    assert (matrix == matrix.T).all()
    assert (np.diag(matrix) == 1).all()
    assert ((matrix >= 0) & (matrix <= 1)).all()
    pairs = load("judgements", view="lee")
    assert len(pairs) == 50 * 49 // 2
    for row in (pairs[0], pairs[700]):
        assert row["score"] == matrix[texts.index(row["first"]), texts.index(row["second"])]


def test_lee_judgements_belong_to_their_documents():
    """Texts that share words are judged more alike (Lee et al.: about 0.5 for such measures); a shuffle is not."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts, matrix = judgements.lee()
    vectors = TfidfVectorizer(stop_words="english").fit_transform(texts).toarray()
    above = np.triu_indices(50, 1)

    def correlation(order):
        return np.corrcoef((vectors[order] @ vectors[order].T)[above], matrix[above])[0, 1]

    assert correlation(np.arange(50)) > 0.45
    assert abs(correlation(np.random.default_rng(0).permutation(50))) < 0.2


def test_analogies():
    questions = judgements.analogies()
    assert len(questions) == 19_544
    assert len(set(questions["section"])) == 14
    assert questions[0] == {
        "id": "analogies-0",
        "section": "capital-common-countries",
        **{"a": "Athens", "b": "Greece", "c": "Baghdad", "d": "Iraq"},
    }


def test_limits_are_drawn_by_seed():
    assert len(load("judgements", view="simlex999", limit=10)) == 10
    first, again, other = (load("judgements", limit=10, seed=seed)["id"][:] for seed in (0, 0, 1))
    assert first == again != other


def test_they_are_for_measuring_only():
    with pytest.raises(UserError, match="judgements has no split 'train'; splits: test"):
        load("judgements", split="train")


def test_without_gensim_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(judgements, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "gensim", None)
    with pytest.raises(UserError, match=r'pip install "stillroom\[lexical\]"'):
        judgements.wordsim353()
