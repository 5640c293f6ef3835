"""Semantic signal separation: mixed signals are told apart, words are weighed as the equations say.

.venv/bin/python -m pytest tests/methods/lexical/test_s3_topics.py
"""

import numpy as np
import pytest

from stillroom.methods.lexical.s3_topics import SemanticSignalSeparation, named, vocabulary


@pytest.fixture(scope="module")
def mixed():
    """Three independent signals, skewed to the right, mixed into six dimensions with some noise."""
    draw = np.random.default_rng(0)
    signals = draw.exponential(size=(3000, 3))
    mixing = draw.normal(size=(3, 6)) * np.array([[3.0], [2.0], [1.0]])
    return signals, mixing, signals @ mixing + 5 + 0.01 * draw.normal(size=(3000, 6))


@pytest.fixture(scope="module")
def fitted(mixed):
    return SemanticSignalSeparation(topics=3).fit(mixed[2])


def test_the_signals_are_found_with_their_sign_and_in_order(mixed, fitted):
    signals, mixing, X = mixed
    found = fitted.transform(X)
    correlations = np.corrcoef(signals.T, found.T)[:3, 3:]
    strongest = (mixing**2).sum(1).argsort()[::-1]  # each signal has unit variance
    np.testing.assert_array_equal(correlations.argmax(0), strongest)
    assert correlations.max(0).min() > 0.99
    np.testing.assert_allclose(found.std(0), 1, atol=1e-6)
    assert (np.diff(fitted.explained_) <= 0).all() and 0.99 < fitted.explained_.sum() <= 1.0001
    np.testing.assert_allclose(found, (X - X.mean(0)) @ fitted.components_.T)


def test_words_are_weighed_by_their_projections(fitted):
    words = np.random.default_rng(1).normal(size=(5, 6)) + fitted.mean_
    axial = np.array([[sum((w - m) * c for w, m, c in zip(word, fitted.mean_, axis, strict=True))
                       for axis in fitted.components_] for word in words])  # fmt: skip
    lengths = np.sqrt((axial**2).sum(1))
    for importance, wanted in (
        ("axial", axial.T),
        ("angular", (axial / lengths[:, None]).T),
        ("combined", (axial**3 / lengths[:, None]).T),
    ):
        fitted.set_params(importance=importance)
        np.testing.assert_allclose(fitted.word_importance(words), wanted)
    fitted.set_params(importance="combined")


def test_both_ends_of_an_axis_are_named():
    importance = np.array([[3.0, -2.0, 0.0, 1.0], [0.0, 0.0, 5.0, -5.0]])
    first, second = named(["sun", "moon", "sky", "day"], importance, top=2)
    assert first == (["sun", "day"], ["moon", "sky"]) and second.positive[0] == "sky" and second.negative[0] == "day"
    with pytest.raises(ValueError, match="4 words have embeddings, and 2 have names"):
        named(["a", "b"], importance)


def test_words_on_an_axis_are_at_its_ends(mixed, fitted):
    _, mixing, X = mixed
    strongest = (mixing**2).sum(1).argmax()
    words = np.stack([X.mean(0) + mixing[strongest], X.mean(0) - mixing[strongest], X.mean(0) + 0.1 * mixing.sum(0)])
    topic = fitted.describe(["for", "against", "neither"], words, top=1)[0]
    assert topic == (["for"], ["against"])


def test_in_time_the_axes_are_those_of_each_slice(mixed, fitted):
    """With more documents than dimensions a slice's map is the whole one; of a slice that varies in one direction only
    its part of it."""
    _, _, X = mixed
    words = np.random.default_rng(1).normal(size=(4, 6))
    times = np.arange(len(X)) % 2
    found = fitted.over_time(X, times.tolist(), words)
    assert list(found) == [0, 1]
    np.testing.assert_allclose(found[0], fitted.word_importance(words), rtol=1e-6, atol=1e-8)
    line = X[:1] + np.linspace(-1, 1, 50)[:, None] * np.array([[1.0, 0, 0, 0, 0, 0]])
    late = fitted.over_time(line, ["late"] * 50, words)["late"]
    axial = np.outer(fitted.components_[:, 0], (words - fitted.mean_)[:, 0])
    np.testing.assert_allclose(late, axial**3 / np.linalg.norm(axial, axis=0), rtol=1e-6)


def test_the_vocabulary_has_a_least_count():
    documents = ["the cat sat", "the cat ran", "the dog"]
    assert vocabulary(documents, least=2) == ["cat"] and vocabulary(documents, least=2, stop_words=None) == [
        "cat",
        "the",
    ]
    with pytest.raises(ValueError, match="no word stands in 10 documents"):
        vocabulary(documents)


def test_what_is_refused(mixed):
    X = mixed[2]
    with pytest.raises(ValueError, match="3 documents whose embeddings have rank 2 don't hold 3 topics"):
        SemanticSignalSeparation(topics=3).fit(X[:3])
    with pytest.raises(ValueError, match="rank 0"):
        SemanticSignalSeparation(topics=1).fit(np.ones((20, 4)))
    with pytest.raises(ValueError, match="importance one of combined, axial, angular"):
        SemanticSignalSeparation(importance="magic").fit(X)
    with pytest.raises(ValueError, match="words must have 6 columns"):
        SemanticSignalSeparation(topics=3).fit(X).word_importance(np.ones((2, 5)))
