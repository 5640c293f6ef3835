"""The ground of the family `retrieval`: its rows, its start, what it measures, and that it tells better from worse.

.venv/bin/python -m pytest tests/testbeds/test_retrieval.py
"""

import json
from pathlib import Path

import pytest
import torch

from stillroom.reproduce import reproduce
from stillroom.testbeds import described as rows
from stillroom.testbeds import retrieval
from stillroom.views.load import open_model

pytestmark = pytest.mark.usefixtures("one_package")


def test_bm25_reads_names_word_by_word():
    documents = ["load_model(path)", "saveHTTPModel(x)", "Dataset.shuffle(self, seed)"]
    queries = ["Save a model over HTTP.", "Shuffle the rows.", "The path to load."]
    assert [found[0] for found in retrieval.favourites(queries, documents, 1)] == [1, 2, 0]
    assert sorted(retrieval.favourites(queries, documents, 3)[0]) == [0, 1, 2]


def test_the_other_candidates_are_not_the_right_one_and_bm25_likes_them():
    chosen = rows.described("train", 60)
    names = [row["positive"] for row in chosen]
    found = [json.loads(line) for line in Path(retrieval.triples("train", 60)).read_text().splitlines()]
    near = retrieval.favourites([row["anchor"] for row in chosen], names, retrieval.AMONG)
    for row, own, liked in zip(found, chosen, near, strict=True):
        assert {"anchor": row["anchor"], "positive": row["positive"]} == own
        assert len(set(row["negative"])) == retrieval.NEGATIVES and row["positive"] not in row["negative"]
        assert set(row["negative"]) <= {names[place] for place in liked}


def test_teacher_and_start_score_by_twenty_cosines():
    texts = ["Load a model from the hub.", "load_model(path)", "Delete a branch."]
    scores = {}
    for name, folder in (("teacher", retrieval.teacher()), ("start", retrieval.start(smoke=True))):
        found = retrieval.vectors(open_model(folder, "bi-encoder"), texts)
        scores[name] = (found.norm(dim=-1) ** 2).tolist()
        cosine = torch.nn.functional.cosine_similarity(found[0], found[1], dim=0)
        assert float(found[0] @ found[1]) == pytest.approx(20 * float(cosine), rel=0.35)
    assert scores["teacher"] == pytest.approx([20, 20, 20], rel=1e-4)
    assert max(scores["start"]) - min(scores["start"]) > 1e-3  # lengths are free


def test_search_by_hand(monkeypatch):
    """Of four queries over six functions: found first, second, third among all, and one that BM25 misses."""
    monkeypatch.setattr(retrieval, "CANDIDATES", 2)
    chosen = rows.described("test", 6)
    names = [row["positive"] for row in chosen]
    scores = torch.tensor(
        [[9, 1, 0, 0, 0, 0], [5, 4, 0, 0, 0, 0], [0, 9, 3, 4, 0, 0], [0, 0, 0, 9, 0, 0]], dtype=torch.float32
    )
    monkeypatch.setattr(retrieval, "vectors", lambda opened, texts: torch.eye(6) if texts == names else scores)
    monkeypatch.setattr(retrieval, "favourites", lambda *_: [[0, 1], [0, 1], [2, 3], [4, 5]])
    found = retrieval.search(None, pool=6, queries=4)
    assert found["mrr@10"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1) / 4)
    assert found["reranked_mrr@2"] == pytest.approx((1 + 1 / 2 + 1 / 2 + 0) / 4)
    assert found["recall@10"] == 1.0


@pytest.mark.parametrize("slug", sorted(retrieval.BENCHES))
def test_every_bench_runs(slug, tmp_path):
    bench = retrieval.BENCHES[slug]
    result = reproduce(slug, seeds=[0], smoke=True, folder=tmp_path)
    assert {slug, bench.versus, "untrained"} <= set(result["systems"])
    values = {name: system["values"][0] for name, system in result["systems"].items()}
    assert values[slug] is not None and values[bench.versus] is not None
    assert all(0 <= value <= 1 for value in values.values() if value is not None)


def test_rerankers_and_retrievers_are_both_measured(monkeypatch):
    """Of three queries: a retriever's vectors and a re-ranker's scores, by hand."""
    from stillroom.testbeds import joint

    names = [row["positive"] for row in rows.described("test", 4)]
    vectors = torch.tensor([[9, 1, 0, 0], [5, 4, 0, 0], [0, 9, 3, 4]], dtype=torch.float32)
    monkeypatch.setattr(retrieval, "vectors", lambda opened, texts: torch.eye(4) if texts == names else vectors)
    monkeypatch.setattr(joint, "liked", lambda *_: [[0, 1], [0, 1], [2, 3]])
    opened = type("Opened", (), {"view": None, "model": None})()
    found = joint.both(opened, pool=4, queries=3)
    assert found["mrr@10"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert found["reranked_mrr@10"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    told = {tuple(names[n] for n in places): scores for places, scores in zip(joint.liked(), vectors, strict=True)}
    monkeypatch.setattr(joint, "scores", lambda opened, query, texts: -told[tuple(texts)][:2])
    opened.view = object.__new__(retrieval.joint.CrossEncoder)
    found = joint.both(opened, pool=4, queries=3)
    assert set(found) == {"reranked_mrr@10"} and found["reranked_mrr@10"] == pytest.approx((1 / 2 + 1 + 1) / 3)


def test_no_country_is_asked_about_in_two_splits_and_languages_are_marked():
    from stillroom.testbeds import languages

    asked = {split: {row["country"] for row in languages._texts("pairs", split, "de")} for split in ("train", "test")}
    assert asked["train"] and not asked["train"] & asked["test"]
    lines = [json.loads(line) for line in Path(languages.written(False, True)).read_text().splitlines()]
    assert {line["language"] for line in lines} == set(languages.LANGUAGES)
    shared = [json.loads(line) for line in Path(languages.written(True, True)).read_text().splitlines()]
    assert {line["language"] for line in shared} == {"all"} and len(shared) == len(lines)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_tells_better_from_worse(tmp_path, whole_ground):
    """The teacher finds more functions than a student that is trained on labels, by more than its seeds differ."""
    found = reproduce("margin-mse", folder=tmp_path)["systems"]
    assert found["teacher"]["mean"] - found["ranknet"]["mean"] > 3 * found["ranknet"]["std"]
