"""Duplicates: exact ones, and near ones against the true Jaccard index of every pair.

Run: pytest tests/synthesis/test_duplicates.py
"""

import json
import random
from itertools import combinations

import numpy as np
import pytest
from datasets import Dataset

from stillroom.errors import UserError
from stillroom.synthesis.duplicates import banding, exact, jaccard, minhash, near, normalise, shingles


def data(texts):
    return Dataset.from_dict({"id": [str(place) for place in range(len(texts))], "text": texts})


def words(generator, count):
    return " ".join(generator.choices([f"w{number}" for number in range(400)], k=count))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Still.", "the  still"),
        ("ﬁne café", "FINE cafe\u0301"),
        ("a, b; c", "a b c"),
        ("Straße", "STRASSE"),
    ],
)
def test_what_counts_as_the_same_text(one, other):
    assert normalise(one) == normalise(other)


def test_what_does_not():
    texts = ["a b", "ab", "?", "!", "3.5", "35", "é", "e", ""]
    assert len({normalise(text) for text in texts}) == len(texts)


def test_exact_duplicates_keep_the_first_and_name_it(tmp_path):
    rows = data(["One.", "two", "one", "TWO!", "three"])
    done = exact(rows, "text", rejects=tmp_path / "aside.jsonl")
    assert done.dataset["id"] == ["0", "1", "4"] and done.account.rejected == {"duplicate": 2} and done.account.adds_up
    aside = [json.loads(line) for line in (tmp_path / "aside.jsonl").read_text().splitlines()]
    assert [(line["row"]["id"], line["detail"]) for line in aside] == [("2", "of row 0"), ("3", "of row 1")]
    assert exact(rows, "text", against=["three", "Two"]).dataset["id"] == ["0"]


def test_several_columns_make_a_row_and_their_border_counts():
    rows = Dataset.from_dict({"a": ["x y", "x", "x y"], "b": ["z", "y z", "Z"]})
    assert len(exact(rows, ["a", "b"]).dataset) == 2
    with pytest.raises(UserError, match="no column 'c'"):
        exact(rows, ["a", "c"])


def test_shingles_by_hand():
    assert shingles("A b, c d!") == {"a b c", "b c d"}
    assert shingles("A b") == {"a b"} and shingles("") == {""}
    assert shingles("abca", n=2, unit="characters") == {"ab", "bc", "ca"}
    assert jaccard({1, 2, 3}, {2, 3, 4}) == 0.5


def test_a_signature_estimates_the_jaccard_index_without_bias():
    """Sets of every overlap; the mean error must vanish, and its spread be that of a share of so many draws."""
    errors, expected = [], []
    for shared in range(0, 101, 5):
        for trial in range(12):
            common = {f"c {trial} {shared} {number}" for number in range(shared)}
            one, other = (common | {f"{side} {trial} {shared} {n}" for n in range(100 - shared)} for side in "ab")
            true = jaccard(one, other)
            first, second = minhash([one, other], permutations=256, seed=trial)
            errors.append(float(np.mean(first == second)) - true)
            expected.append(true * (1 - true) / 256)
    assert abs(np.mean(errors)) < 4 * np.sqrt(np.mean(expected) / len(errors))
    assert 0.8 < np.sqrt(np.mean(np.square(errors)) / np.mean(expected)) < 1.2


def test_signatures_are_those_of_sets_and_of_their_seed():
    one = [f"item {number}" for number in range(9000)]
    same = minhash([set(one), set(reversed(one))], 16, seed=3)
    assert (same[0] == same[1]).all() and same.shape == (2, 16) and same.dtype == np.uint32
    assert not (minhash([set(one)], 16, seed=4) == same[0]).any()
    parts = minhash([set(one[:5000]), set(one[5000:])], 16, seed=3)
    assert (np.minimum(*parts) == same[0]).all()  # the least of a union is the lesser of the leasts
    assert (minhash([set()], 4) == 2**32 - 1).all() and minhash([], 4).shape == (0, 4)


@pytest.mark.parametrize(
    ("threshold", "recall", "hashes"), [(0.8, 0.95, 128), (0.5, 0.99, 128), (0.9, 0.9, 64), (1, 0.5, 8)]
)
def test_bands_are_the_longest_with_the_recall(threshold, recall, hashes):
    bands = banding(threshold, recall, hashes)
    assert bands.bands * bands.rows <= hashes and bands.recall(threshold) >= recall
    longer = bands.rows + 1
    assert longer > hashes or 1 - (1 - threshold**longer) ** (hashes // longer) < recall


def test_bands_that_can_not_be_are_refused():
    with pytest.raises(ValueError, match="take more hashes"):
        banding(0.1, 0.99, 8)
    for wrong in ((0.0, 0.9, 8), (1.1, 0.9, 8), (0.5, 1.0, 8), (0.5, 0.5, 0)):
        with pytest.raises(ValueError):
            banding(*wrong)


def corpus(pairs, seed=0):
    """Texts of 60 words, each followed later by one with some words changed."""
    generator = random.Random(seed)
    first = [words(generator, 60) for _ in range(pairs)]
    second = []
    for text in first:
        parts = text.split()
        for place in generator.sample(range(60), generator.randrange(0, 8)):
            parts[place] = "changed"
        second.append(" ".join(parts))
    return first + second


def test_near_duplicates_are_those_of_the_true_index_and_few_are_missed():
    texts, threshold = corpus(150), 0.6
    sets = [shingles(text) for text in texts]
    true = {}
    for one, other in combinations(range(len(texts)), 2):
        if (index := jaccard(sets[one], sets[other])) >= threshold:
            true[other] = index
    done = near(data(texts), "text", threshold=threshold, recall=0.95)
    dropped = set(range(len(texts))) - {int(name) for name in done.dataset["id"]}
    assert 50 < len(true) < 150
    assert dropped <= set(true)  # nothing below the threshold is dropped
    assert len(dropped) >= 0.95 * len(true)
    assert done.account.rejected == {"near duplicate": len(dropped)} and done.account.adds_up


def test_the_same_seed_gives_the_same_rows_and_rows_of_bands_the_stated_recall():
    """With a single band of hashes the chance to be found is J^rows; bands of one seed differ from those of another."""
    generator = random.Random(5)
    text = words(generator, 103)
    other = " ".join([*text.split()[:-4], "p", "q", "r", "s"])  # 97 shared of 105
    true = jaccard(shingles(text), shingles(other))
    assert true == pytest.approx(97 / 105)
    settings = {"threshold": 0.9, "recall": 0.3, "permutations": 14}
    bands = banding(0.9, 0.3, 14)
    assert bands == (1, 11)
    found = [len(near(data([text, other]), "text", seed=seed, **settings).dataset) == 1 for seed in range(60)]
    expected = bands.recall(true)
    assert abs(np.mean(found) - expected) < 4 * np.sqrt(expected * (1 - expected) / 60)
    assert found[:5] == [
        len(near(data([text, other]), "text", seed=seed, **settings).dataset) == 1 for seed in range(5)
    ]


def test_the_first_of_a_group_stays_and_a_chain_does_not_pull_everything_in(tmp_path):
    """b is near a, c near b but not near a: b goes, c stays, since it is like no row that stays."""
    base = [f"w{number}" for number in range(60)]
    texts = [" ".join([*base[: 60 - cut], *(f"x{n}" for n in range(cut))]) for cut in (0, 7, 14)]
    sets = [shingles(text) for text in texts]
    assert jaccard(sets[0], sets[1]) > 0.7 > 0.65 > jaccard(sets[0], sets[2]) and jaccard(sets[1], sets[2]) > 0.7
    done = near(data(texts), "text", threshold=0.7, recall=0.999, rejects=tmp_path / "aside.jsonl")
    assert done.dataset["id"] == ["0", "2"]
    (line,) = (tmp_path / "aside.jsonl").read_text().splitlines()
    assert json.loads(line)["detail"] == f"of row 0, Jaccard index {jaccard(sets[0], sets[1]):.3f}"


def test_texts_to_keep_away_from_and_texts_of_no_words():
    text = "the still stands in the still room beside the worm tub"
    rows = data([text, "", "?!", None, "short", "Short."])
    assert near(rows, "text", against=[text + " and", text]).dataset["id"] == ["1", "2", "4"]
    many = data(["the same old text again"] * 3000)
    assert near(many, "text", permutations=16, recall=0.5).dataset["id"] == ["0"]
