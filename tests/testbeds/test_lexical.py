"""The grounds of the family `lexical`: what they are made of, and that they tell better from worse.

.venv/bin/python -m pytest tests/testbeds/test_lexical.py
"""

import numpy as np
import pytest

from stillroom.reproduce import reproduce
from stillroom.testbeds import lexical, topics, word_vectors

pytestmark = pytest.mark.usefixtures("own_cache")


def test_no_judged_pair_is_an_edge_and_edges_go_both_ways():
    asked = {frozenset(pair[:2]) for name in ("simlex999", "wordsim353") for pair in word_vectors.judged(name)}
    for kind in ("synonyms", "above"):
        edges = set(word_vectors.lexicon()[kind])
        assert len(edges) > 10_000 and not asked & {frozenset(edge) for edge in edges}
        assert all((second, first) in edges for first, second in list(edges)[:1000])
    told = word_vectors.lexicon()["judged"]
    assert told and {frozenset(pair) for pair in told} <= asked


def test_a_shuffled_lexicon_keeps_how_many_neighbours_there_are():
    pairs = [("a", "b"), ("a", "c"), ("b", "a"), ("d", "e")]
    found = word_vectors._shuffled(pairs, 1)
    assert [first for first, _ in found] == ["a", "a", "b", "d"]
    assert sorted(second for _, second in found) == ["a", "b", "c", "e"]


def test_likeness_is_people_against_cosines(monkeypatch):
    pairs = [("cat", "dog", 9.0), ("cat", "car", 5.0), ("dog", "car", 1.0), ("cat", "absent", 2.0)]
    monkeypatch.setattr(word_vectors, "judged", lambda name: pairs if name == "simlex999" else pairs[:3])
    angles = np.array([0.0, -0.1, 0.5])  # cosines fall from cat and dog over cat and car to dog and car
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1)
    found = word_vectors.likeness(["cat", "dog", "car"], vectors)
    wanted = {"simlex999": 1, "simlex999_coverage": 0.75, "wordsim353": 1, "wordsim353_coverage": 1}
    assert found == pytest.approx(wanted)


def test_texts_are_of_ten_files():
    found = topics.definitions(True)
    assert found.vectors.shape == (300, 384) and np.bincount(found.labels).tolist() == [30] * 10
    assert len(set(found.texts)) > 290


@pytest.mark.parametrize("slug", sorted(lexical.BENCHES))
def test_every_bench_runs(slug, tmp_path):
    bench = lexical.BENCHES[slug]
    result = reproduce(slug, seeds=[0], smoke=True, folder=tmp_path)
    assert {slug, bench.versus} <= set(result["systems"])
    assert all(-1 <= system["values"][0] <= 1 for system in result["systems"].values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_lexicon_helps_more_than_a_shuffled_one(tmp_path, whole_ground):
    """And pairs that are judged themselves, told to the vectors, help most: the ground tells what was put in."""
    systems = reproduce("retrofitting", folder=tmp_path)["systems"]
    told, lexicon, shuffled, trained = (
        systems[name] for name in ("judged-pairs-told", "retrofitting", "shuffled-lexicon", "trained")
    )
    assert told["mean"] - lexicon["mean"] > 3 * lexicon["std"]
    assert lexicon["mean"] - shuffled["mean"] > 3 * shuffled["std"]
    assert lexicon["mean"] - trained["mean"] > 3 * trained["std"]
