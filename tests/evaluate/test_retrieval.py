"""Rankings against scikit-learn and figures worked out by hand.

Run: pytest tests/evaluate/test_retrieval.py
"""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from stillroom.evaluate import retrieval
from stillroom.evaluate.cost import peak_memory
from stillroom.evaluate.retrieval import dense_retrieval, query_metrics, score_retrieval, top_documents


def vectors(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_by_hand():
    # Document 2 (grade 2) comes second, document 0 (grade 1) fourth and beyond k, document 4 is not relevant.
    scores = torch.tensor([[0.1, 0.5, 0.8, 0.7, 0.9]])
    found = score_retrieval(scores, [{2: 2, 0: 1, 4: 0}], 3)
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    assert found == pytest.approx({"ndcg@3": (2 / math.log2(3)) / ideal, "mrr@3": 1 / 2, "recall@3": 1 / 2})


def test_ndcg_is_that_of_scikit_learn():
    scores = vectors(20, 40)
    grades = torch.randint(0, 4, (20, 40), generator=torch.Generator().manual_seed(1))
    relevance = [{doc: grade for doc, grade in enumerate(row) if grade} for row in grades.tolist()]
    expected = ndcg_score(grades.numpy(), scores.numpy(), k=10)
    assert score_retrieval(scores, relevance, 10)["ndcg@10"] == pytest.approx(expected)


@pytest.mark.parametrize("limit", [1, 32 * 7 * 3, 2**30])
@pytest.mark.parametrize("documents_at_once", [7, 1000])
def test_blocks_change_nothing(limit, documents_at_once, monkeypatch):
    monkeypatch.setattr(retrieval, "DOCUMENTS_AT_ONCE", documents_at_once)
    # Whole numbers, so that many scores are equal and the order among equals shows.
    queries, documents = vectors(9, 3).round(), vectors(50, 3, seed=1).round()
    expected = [
        sorted(range(50), key=lambda doc, row=row: (-row[doc], doc))[:10] for row in (queries @ documents.T).tolist()
    ]
    assert top_documents(queries, documents, 10, memory_limit=limit).tolist() == expected


def test_memory_is_bounded_by_the_limit_and_not_by_queries_times_documents():
    queries, documents = vectors(1000, 4), vectors(20_000, 4, seed=1)
    top_documents(queries[:5], documents, 10)
    found = peak_memory(lambda: top_documents(queries, documents, 10, memory_limit=8 * 2**20))
    assert found.added_bytes < 40e6  # a full matrix has 80 MB, and choosing from it takes several times that


def test_ties_do_not_flatter_a_collapsed_model():
    # All documents score alike, so the first ten come first, and ten of a hundred queries find theirs.
    found = dense_retrieval(torch.ones(100, 4), torch.ones(100, 4), [{place: 1} for place in range(100)], 10)
    assert found["recall@10"] == pytest.approx(0.1)


def test_perfect_and_hopeless():
    eye = torch.eye(12)
    relevance = [{place: 1} for place in range(12)]
    assert dense_retrieval(eye, eye, relevance, 5) == {"ndcg@5": 1, "mrr@5": 1, "recall@5": 1}
    assert dense_retrieval(-eye, eye, relevance, 5) == {"ndcg@5": 0, "mrr@5": 0, "recall@5": 0}


def test_fewer_documents_than_k():
    found = dense_retrieval(torch.eye(3)[:1], torch.eye(3), [{0: 1, 2: 1}], 10)
    assert found["recall@10"] == 1


def test_queries_without_a_relevant_document_do_not_count():
    eye = torch.eye(3)
    assert dense_retrieval(eye, eye, [{0: 1}, {}, {1: 0}], 1)["recall@1"] == 1
    found = query_metrics(torch.tensor([[0], [1], [2]]), [{0: 1}, {}, {1: 1}], 1)
    assert found == {"ndcg@1": [1, 0], "mrr@1": [1, 0], "recall@1": [1, 0]}


def test_half_precision_vectors_are_searched_in_single():
    queries, documents = vectors(5, 8), vectors(30, 8, seed=1)
    expected = top_documents(queries.half().float(), documents.half().float(), 5)
    assert np.array_equal(top_documents(queries.half(), documents.half(), 5), expected)


def test_bad_input():
    with pytest.raises(ValueError, match="vectors"):
        dense_retrieval(vectors(2, 3), vectors(2, 4), [{}, {}], 1)
    with pytest.raises(ValueError, match="nothing to measure"):
        dense_retrieval(vectors(2, 3), vectors(2, 3), [{}, {}], 1)
    with pytest.raises(ValueError, match="2 rankings and 1 queries"):
        dense_retrieval(vectors(2, 3), vectors(2, 3), [{0: 1}], 1)
    with pytest.raises(ValueError, match="not a number"):
        dense_retrieval(vectors(2, 3) * math.nan, vectors(2, 3), [{0: 1}, {0: 1}], 1)
