"""Retrofitting: the update by hand, the fixed point, and what moves nothing.

.venv/bin/python -m pytest tests/methods/lexical/test_retrofitting.py
"""

import numpy as np
import pytest
from scipy import sparse

from stillroom.methods.lexical.retrofitting import Retrofitting, lexicon_graph, lexicon_word

WORDS = ["happy", "glad", "sad", "unknown", "joyful"]
PAIRS = [("happy", "glad"), ("happy", "joyful"), ("glad", "happy"), ("sad", "glad"), ("happy", "absent")]


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(len(WORDS), 3))


def swept(vectors, pairs, iterations, alpha=1.0, beta=None):
    """The update, word by word and neighbour by neighbour."""
    moved = [row.copy() for row in vectors]
    neighbours = {i: sorted({b for a, b in pairs if a == i}) for i in range(len(vectors))}
    for _ in range(iterations):
        for i, others in neighbours.items():
            if others:
                weight = 1 / len(others) if beta is None else beta
                total = alpha * vectors[i]
                for j in others:
                    total = total + weight * moved[j]
                moved[i] = total / (alpha + weight * len(others))
    return np.array(moved)


def edges():
    return [(WORDS.index(a), WORDS.index(b)) for a, b in PAIRS if b in WORDS]


@pytest.mark.parametrize("settings", [{}, {"alpha": 2.0, "beta": 0.7}, {"iterations": 1}])
def test_sweeps_are_word_by_word_and_in_place(vectors, settings):
    found = Retrofitting(graph=lexicon_graph(WORDS, PAIRS), normalise=False, **settings).fit_transform(vectors)
    wanted = swept(vectors, edges(), **({"iterations": 10} | settings))
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_one_update_by_hand():
    """A word with two neighbours goes half of the way to their middle; who has none stays."""
    graph = sparse.csr_array(np.array([[0, 1, 1], [0, 0, 0], [0, 0, 0]]))
    found = Retrofitting(graph=graph, normalise=False).fit_transform([[0.0, 0.0], [4.0, 0.0], [0.0, 8.0]])
    np.testing.assert_allclose(found, [[1, 2], [4, 0], [0, 8]])


def test_vectors_are_brought_to_unit_length_first(vectors):
    graph = lexicon_graph(WORDS, PAIRS)
    units = vectors / np.sqrt((vectors**2).sum(1, keepdims=True) + 1e-6)
    found = Retrofitting(graph=graph).fit_transform(vectors)
    np.testing.assert_allclose(found, swept(units, edges(), 10), atol=1e-12)
    np.testing.assert_allclose(found[WORDS.index("unknown")], units[WORDS.index("unknown")])


def test_many_sweeps_end_where_the_direct_solution_is(vectors):
    """That the fixed point minimises the objective is seen by its gradient, for symmetric weights."""
    graph = lexicon_graph(WORDS, PAIRS, symmetric=True)
    many = Retrofitting(graph=graph, iterations=200, beta=0.5, normalise=False).fit(vectors)
    direct = Retrofitting(graph=graph, solver="direct", beta=0.5, normalise=False).fit_transform(vectors)
    np.testing.assert_allclose(many.embedding_, direct, atol=1e-10)
    assert many.changes_[0] > 0.1 and many.changes_[-1] < 1e-10
    # each edge counts in both directions, so the row-wise system is the objective's with half of beta
    gradient = 2 * (direct - vectors)
    for i, j in zip(*graph.nonzero(), strict=True):
        gradient[i] += 2 * 0.25 * (direct[i] - direct[j]) * 2
    np.testing.assert_allclose(gradient, 0, atol=1e-10)


def test_a_large_alpha_keeps_words_and_a_large_beta_joins_them(vectors):
    graph = lexicon_graph(WORDS, PAIRS)
    kept = Retrofitting(graph=graph, alpha=1e9, normalise=False).fit_transform(vectors)
    np.testing.assert_allclose(kept, vectors, atol=1e-7)
    joined = Retrofitting(graph=graph, beta=1e9, solver="direct", normalise=False).fit_transform(vectors)
    happy, glad, sad = (joined[WORDS.index(word)] for word in ("happy", "glad", "sad"))
    np.testing.assert_allclose(sad, glad, atol=1e-6)
    np.testing.assert_allclose(happy, (glad + joined[WORDS.index("joyful")]) / 2, atol=1e-6)


def test_a_word_of_alpha_zero_is_where_its_neighbours_are(vectors):
    """Words without a vector of their own."""
    alpha = np.array([1.0, 1.0, 0.0, 0.0, 1.0])
    found = Retrofitting(graph=lexicon_graph(WORDS, PAIRS), alpha=alpha, normalise=False).fit_transform(vectors)
    np.testing.assert_allclose(found[2], found[1])
    np.testing.assert_allclose(found[3], vectors[3])  # nothing draws it


def test_lexicons_are_read_as_given_and_symmetric_on_request():
    graph = lexicon_graph(WORDS, PAIRS).toarray()
    assert graph[0].tolist() == [0, 1, 0, 0, 1] and graph[1].tolist() == [1, 0, 0, 0, 0]
    assert graph[4].sum() == 0 and lexicon_graph(WORDS, PAIRS, symmetric=True).toarray()[4, 0] == 1
    assert [lexicon_word(word) for word in ("Glad", "1984", "2nd", "...")] == ["glad", *["---num---"] * 2, "---punc---"]


def test_what_is_refused(vectors):
    graph = lexicon_graph(WORDS, PAIRS)
    with pytest.raises(ValueError, match="no pair of the lexicon has both its words in the vocabulary"):
        lexicon_graph(WORDS, [("Dog", "Hound")])
    with pytest.raises(ValueError, match="no word has a neighbour"):
        Retrofitting(graph=sparse.csr_array((5, 5))).fit(vectors)
    with pytest.raises(ValueError, match="alpha must be finite and at least 0"):
        Retrofitting(graph=graph, alpha=-1.0).fit(vectors)
    with pytest.raises(ValueError, match="beta must be 'degree' or a finite number"):
        Retrofitting(graph=graph, beta=-1.0).fit(vectors)
    with pytest.raises(ValueError, match="4 words need a graph of as many"):
        Retrofitting(graph=graph).fit(vectors[:4])
    vectors[3, 1] = np.nan
    with pytest.raises(ValueError, match="row 3 of X holds a number that is NaN"):
        Retrofitting(graph=graph).fit(vectors)
