"""The ground of the family `synthesis`: its words, what WordNet says of them, and that it tells better from worse.

.venv/bin/python -m pytest tests/testbeds/test_synthesis.py
"""

import json
from pathlib import Path

import pytest

from stillroom.reproduce import reproduce
from stillroom.testbeds import knowledge, synthesis

pytestmark = pytest.mark.usefixtures("own_cache")


def test_no_word_is_in_two_splits_and_what_is_said_first_is_right():
    words = {split: set(knowledge.words(split)) for split in ("train", "validation", "test")}
    assert min(map(len, words.values())) > 200
    assert not words["train"] & words["test"] and not words["validation"] & (words["train"] | words["test"])
    for word in knowledge.words("test"):
        assert all(knowledge.right({"head": word, "relation": r, "tail": t}) for r, t in knowledge.gold(word)), word


def test_what_wordnet_says_by_hand():
    """A chair of some kind is a seat and furniture in a wider sense, and an artifact."""
    word = next(word for word in knowledge.words("train") if ("kind", "chair") in knowledge.gold(word))
    assert dict(knowledge.gold(word)) == {"kind": "chair", "class": "artifact", "broad": "seat"}
    for relation, tail, expected in (
        ("kind", "chair", True),
        ("kind", "seat", False),
        ("broad", "seat", True),
        ("broad", "furniture", True),
        ("broad", "chair", False),
        ("class", "artifact", True),
        ("class", "food", False),
    ):
        assert knowledge.right({"head": word, "relation": relation, "tail": tail}) is expected


def test_about_three_in_ten_of_the_teachers_triples_are_wrongly_related():
    rows = [json.loads(line) for line in Path(knowledge._teacher_rows(True)).read_text().splitlines()]
    named = {relation.asks: relation.name for relation in knowledge.RELATIONS}
    wrong = 0
    for row in rows:
        first, asks = row["prompt"].splitlines()
        word, tail = first.removeprefix("Word: "), row["completion"].strip()
        wrong += (named[asks], tail) not in knowledge.gold(word)
    assert 0.2 < wrong / len(rows) < 0.4
    assert {row["prompt"].splitlines()[0].removeprefix("Word: ") for row in rows} <= set(knowledge.words("train"))


@pytest.mark.parametrize("slug", sorted(synthesis.BENCHES))
def test_every_bench_runs(slug, tmp_path):
    result = reproduce(slug, seeds=[0], smoke=True, folder=tmp_path)
    assert {slug, synthesis.BENCHES[slug].versus} <= set(result["systems"])
    assert all(0 <= system["values"][0] <= 1 for system in result["systems"].values()) and "verdict" not in result


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_tells_better_from_worse(tmp_path, whole_ground):
    """The teacher, which read more, completes more than a student of its triples; and the critic is one."""
    systems = reproduce("symbolic-kd", folder=tmp_path)["systems"]
    alone = systems["unfiltered"]
    assert systems["teacher"]["mean"] - alone["mean"] > 2 * alone["std"]
    shares = {name: min(systems[name]["metrics"]["graph_validity"]) for name in ("symbolic-kd", "medium-filtration")}
    raw = max(alone["metrics"]["graph_validity"])
    assert shares["symbolic-kd"] > shares["medium-filtration"] > raw
