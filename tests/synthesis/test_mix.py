"""Mixing: how many rows of each, which ones, and in which order.

Run: pytest tests/synthesis/test_mix.py
"""

from collections import Counter

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillroom.errors import UserError
from stillroom.synthesis.mix import mix, numbers


def data(name, count):
    return Dataset.from_list([{"text": f"{name} {number}"} for number in range(count)])


def three():
    return {"a": data("a", 100), "b": data("b", 25), "c": data("c", 4)}


def test_counts():
    done = mix(three(), counts={"a": 10, "c": 4})
    assert Counter(done.dataset["source"]) == {"a": 10, "c": 4}
    assert all(row["text"].startswith(row["source"]) for row in done.dataset)
    assert len(set(done.dataset["text"])) == 14
    account = done.account
    assert (account.rows, account.kept, account.added, account.rejected) == (129, 14, 0, {"not drawn": 115})
    assert account.adds_up


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"temperature": 1.0}, {"a": 100, "b": 25, "c": 4}),
        ({"temperature": 2.0, "rows": 17}, {"a": 10, "b": 5, "c": 2}),  # square roots 10, 5, 2
        ({"temperature": 1e9}, {"a": 4, "b": 4, "c": 4}),
        ({"weights": {"a": 3, "b": 1}}, {"a": 75, "b": 25}),
        ({"weights": {"a": 3, "b": 1}, "rows": 10}, {"a": 8, "b": 2}),  # 7.5 and 2.5: the tie goes by name
        ({"weights": {"a": 1, "c": 1}, "rows": 20, "repeat": True}, {"a": 10, "c": 10}),
    ],
)
def test_shares_by_hand(settings, found):
    assert Counter(mix(three(), **settings).dataset["source"]) == found


def test_repeats_are_even():
    done = mix(three(), counts={"c": 10}, repeat=True)
    assert sorted(Counter(done.dataset["text"]).values()) == [2, 2, 3, 3]
    assert (done.account.added, done.account.kept) == (6, 10) and done.account.adds_up


def test_a_seed_gives_one_mix_and_another_data_set_changes_nothing_of_the_first():
    one, same, other = (mix(three(), counts={"a": 20, "b": 5}, seed=seed).dataset for seed in (0, 0, 1))
    assert one["text"] == same["text"] != other["text"] and set(one["text"]) != set(other["text"])
    alone = mix({"a": data("a", 100)}, counts={"a": 20}).dataset
    assert set(alone["text"]) == {text for text in one["text"] if text.startswith("a")}
    sources = mix(three(), counts={"a": 50, "b": 25}).dataset["source"]
    assert sources != sorted(sources)  # shuffled


def test_columns_that_one_lacks_are_null():
    parts = {"a": data("a", 1), "b": Dataset.from_list([{"label": 3}])}
    rows = {row["source"]: row for row in mix(parts, counts={"a": 1, "b": 1}).dataset}
    assert rows["a"]["label"] is None and rows["b"] == {"text": None, "label": 3, "source": "b"}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from("abcde"), st.tuples(st.integers(0, 50), st.integers(0, 9)), min_size=1),
    st.one_of(st.none(), st.integers(0, 80)),
    st.booleans(),
)
def test_numbers_add_up_and_are_within_one_of_their_share(parts, rows, repeat):
    whole = sum(weight for _, weight in parts.values())
    if not whole:
        return
    sizes = {name: size for name, (size, _) in parts.items()}
    shares = {name: weight / whole for name, (_, weight) in parts.items()}
    found = numbers(sizes, shares, rows, repeat)
    total = sum(found.values())
    assert all(abs(found[name] - shares[name] * total) < 1 for name in sizes)
    if rows is not None:
        assert total == rows
    elif not repeat:
        assert all(found[name] <= sizes[name] for name in sizes)


def test_what_is_refused():
    with pytest.raises(UserError, match="30 rows of 'b' are wanted, and it has 25; allow repeats"):
        mix(three(), counts={"b": 30})
    with pytest.raises(UserError, match="no data set 'bee' to mix"):
        mix(three(), counts={"bee": 1})
    with pytest.raises(UserError, match="column 'text' already"):
        mix(three(), counts={"a": 1}, column="text")
    with pytest.raises(UserError, match="do not fit together"):
        mix({"a": data("a", 1), "b": Dataset.from_list([{"text": 3}])}, counts={"a": 1, "b": 1})
    for wrong in ({"weights": {"a": -1, "b": 2}}, {"weights": {"a": 0}}, {"temperature": 0.0}, {"counts": {}}):
        with pytest.raises(UserError):
            mix(three(), **wrong)
    for wrong in ({}, {"counts": {"a": 1}, "temperature": 1.0}):
        with pytest.raises(ValueError, match="give one of"):
            mix(three(), **wrong)
