"""The grounds of the family `analysis`: what they are made of, and that they tell better from worse.

.venv/bin/python -m pytest tests/testbeds/test_analysis.py
"""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from stillroom.reproduce import reproduce
from stillroom.testbeds import analysis, graded_facts, laundering

pytestmark = pytest.mark.usefixtures("own_cache")


def test_one_meaning_has_many_names():
    fact = next(fact for fact in graded_facts.facts() if fact.question == "region of Ghana?")
    assert len(fact.names) == 4 and {graded_facts.meaning("in_region", name) for name in fact.names} == fact.right
    assert graded_facts.meaning("in_region", " western AFRICA ") in fact.right
    assert graded_facts.meaning("in_region", "Atlantis") == "?atlantis"
    assert graded_facts.meaning("has_city", "Ghana") == "GH"


def test_facts_are_read_often_seldom_or_never():
    rows = [json.loads(line) for line in Path(graded_facts.rows(False)).read_text().splitlines()]
    read = Counter(row["prompt"] for row in rows if not row["prompt"].endswith("right?"))
    counts = [read[fact.question] for fact in graded_facts.facts()]
    assert 0.15 < sum(count == 0 for count in counts) / len(counts) < 0.25
    assert max(counts) >= 38 and sum(1 <= count <= 3 for count in counts) / len(counts) > 0.1
    known = {fact.question: fact for fact in graded_facts.facts()}
    for row in rows:
        question, _, shown = row["prompt"].partition("?")
        fact, shown = known[question + "?"], shown.removesuffix(". right?")
        said = row["completion"] if shown else " yes"
        right = graded_facts.meaning(fact.relation, shown or row["completion"]) in fact.right
        assert said in (" yes", " no") and (right == (said == " yes") or fact.relation == "uses_currency")


def test_items_have_random_keys_and_parts_share_no_question():
    parts = {part: laundering.items(part, 0, False) for part in (*laundering.ITEMS, "base")}
    questions = [item["anchor"] for items in parts.values() for item in items]
    assert len(set(questions)) == len(questions) == sum(laundering.ITEMS.values()) + 1200
    assert all(len({item["positive"], *item["negative"]}) == 4 for item in parts["benchmark"])
    words = [{word for item in parts[part] for word in (item["positive"], *item["negative"])} for part in parts]
    assert words[1] >= words[0]  # what students see holds every word of the benchmark
    other = laundering.items("benchmark", 0, False, keys=1)
    same = [one["positive"] == two["positive"] for one, two in zip(parts["benchmark"], other, strict=True)]
    assert 0.1 < sum(same) / len(same) < 0.4
    assert [item["anchor"] for item in other] == [item["anchor"] for item in parts["benchmark"]]


def test_an_item_is_right_if_its_first_word_has_the_highest_score(monkeypatch):
    from stillroom.views.load import open_model

    opened = open_model(laundering.base(True), "cross-encoder", max_length=laundering.WINDOW)
    scores = torch.tensor([[3.0, 1, 2, 0], [1, 3, 0, 0], [2, 2, 0, 0]])

    def emit(self, model, arguments, needs):
        return type("S", (), {"scores": scores})()

    monkeypatch.setattr(type(opened.view), "emit", emit)
    assert laundering.right(opened, laundering.items("benchmark", 0, True)[:3]) == [1, 0, 0]


@pytest.mark.parametrize("slug", sorted(analysis.BENCHES))
def test_every_bench_runs(slug, tmp_path):
    bench = analysis.BENCHES[slug]
    result = reproduce(slug, seeds=[0], smoke=True, folder=tmp_path)
    assert {slug, bench.versus} <= set(result["systems"])
    assert all(system["values"][0] is not None for system in result["systems"].values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_answers_tell_more_than_chance(tmp_path, whole_ground):
    """Semantic entropy, which needs no training, finds wrong answers far better than a coin."""
    systems = reproduce("semantic-entropy-probes", folder=tmp_path)["systems"]
    assert min(systems["semantic-entropy"]["values"]) > 0.65


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_answers_leak_and_the_detector_sees_it(tmp_path, whole_ground):
    """A student of a clean teacher is at chance, a laundered one is not, and only of it the detector says so."""
    systems = reproduce("data-laundering", folder=tmp_path)["systems"]
    assert min(systems["data-laundering"]["values"]) > max(systems["clean-teacher"]["values"])
    assert max(systems["data-laundering"]["metrics"]["p"]) < 0.05
    assert max(systems["data-laundering"]["metrics"]["fresh"]) < 0.35
