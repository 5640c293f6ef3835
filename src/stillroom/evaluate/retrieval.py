"""Does the right document come first? nDCG@k, MRR@k and Recall@k, as ir-measures computes them.

nDCG has linear gains, as in trec_eval and BEIR. Means are over the queries that have a relevant document; ties are
broken by the document's number, so that no result depends on the sizes of blocks or on chance.

Shapes: ``Q`` queries, ``N`` documents, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stillroom.errors import need

Relevance = Sequence[Mapping[int, int]]  # for each query: number of a document -> grade, from 1

MEMORY_LIMIT = 256 * 2**20  # bytes for the scores that exist together and what is made of them
BYTES_PER_SCORE = 32  # measured at the peak: the score, running counts of equals, masks
DOCUMENTS_AT_ONCE = 2**16


def dense_retrieval(query_vectors: Tensor, document_vectors: Tensor, relevance: Relevance, k: int) -> dict[str, float]:
    """Search by dot product (normalise first for cosines) and measure: ``ndcg@k``, ``mrr@k``, ``recall@k``, in [0, 1].

    Args:
        query_vectors: [Q, D].
        document_vectors: [N, D].
        relevance: for each query, number of document -> grade.
        k: how many documents of a ranking count.

    Raises:
        ValueError: shapes that don't fit, scores that aren't numbers, or no relevant document at all.
    """
    return _means(query_metrics(top_documents(query_vectors, document_vectors, k), relevance, k))


def score_retrieval(scores: Tensor, relevance: Relevance, k: int) -> dict[str, float]:
    """The same from scores that another scorer gave (late interaction, a reranker over all documents).

    Args:
        scores: [Q, N], higher is better.
        relevance: for each query, number of document -> grade.
        k: how many documents of a ranking count.
    """
    ranking = _ordered(*_best(scores.float(), torch.arange(scores.shape[1], device=scores.device).expand_as(scores), k))
    return _means(query_metrics(ranking, relevance, k))


def top_documents(
    query_vectors: Tensor, document_vectors: Tensor, k: int, *, memory_limit: int = MEMORY_LIMIT
) -> Tensor:
    """The numbers of the ``k`` best documents of each query [Q, min(k, N)], best first.

    Queries and documents are taken in blocks, so that the scores take about ``memory_limit`` bytes at most.
    """
    if query_vectors.ndim != 2 or document_vectors.ndim != 2 or query_vectors.shape[1] != document_vectors.shape[1]:
        raise ValueError(
            f"vectors [Q, D] and [N, D] are needed, not {tuple(query_vectors.shape)} and "
            f"{tuple(document_vectors.shape)}"
        )
    width = min(DOCUMENTS_AT_ONCE, max(len(document_vectors), 1))
    queries_at_once = max(memory_limit // (BYTES_PER_SCORE * width), 1)
    rankings = [_search(block.float(), document_vectors, k) for block in query_vectors.split(queries_at_once)]
    return torch.cat(rankings)


def query_metrics(ranking: Tensor, relevance: Relevance, k: int) -> dict[str, list[float]]:
    """``ndcg@k``, ``mrr@k`` and ``recall@k`` of every query that has a relevant document: what paired tests resample.

    Args:
        ranking: [Q, at least k] numbers of documents, best first (fewer where there are fewer documents).
        relevance: for each query, number of document -> grade.
        k: how many documents of a ranking count.
    """
    if len(ranking) != len(relevance):
        raise ValueError(f"{len(ranking)} rankings and {len(relevance)} queries with judgements; there must be as many")
    measures = need("ir_measures", "retrieval")
    wanted = {"ndcg": measures.nDCG @ k, "mrr": measures.RR @ k, "recall": measures.R @ k}
    judged = {str(query): {str(doc): grade for doc, grade in docs.items()} for query, docs in enumerate(relevance)}
    judged = {query: docs for query, docs in judged.items() if any(grade > 0 for grade in docs.values())}
    if not judged:
        raise ValueError("no query has a relevant document, so there is nothing to measure")
    # ir-measures sorts by score; falling numbers keep the order, ties included, as it was decided here.
    run = {
        str(query): {str(doc): float(-place) for place, doc in enumerate(docs[:k])}
        for query, docs in enumerate(ranking.tolist())
    }
    found = {
        (str(item.measure), item.query_id): item.value for item in measures.iter_calc(wanted.values(), judged, run)
    }
    return {f"{name}@{k}": [found[str(measure), query] for query in judged] for name, measure in wanted.items()}


def _search(queries: Tensor, documents: Tensor, k: int) -> Tensor:
    values = queries.new_zeros(len(queries), 0)
    numbers = torch.zeros(len(queries), 0, dtype=torch.long, device=queries.device)
    for start in range(0, len(documents), DOCUMENTS_AT_ONCE):
        scores = queries @ documents[start : start + DOCUMENTS_AT_ONCE].float().T
        block = torch.arange(start, start + scores.shape[1], device=queries.device).expand_as(scores)
        block_values, block_numbers = _best(scores, block, k)
        values, numbers = _best(torch.cat([values, block_values], 1), torch.cat([numbers, block_numbers], 1), k)
    return _ordered(values, numbers)


def _best(scores: Tensor, numbers: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of each row in the order in which they stand; among equals at the border, those that stand first.

    `torch.topk` alone picks among equals as it likes, which would make the result depend on the blocks.
    """
    if scores.isnan().any():
        raise ValueError("a score is not a number, so there is no ranking")
    k = min(k, scores.shape[1])
    border = scores.topk(k, dim=1).values[:, -1:]
    above, equal = scores > border, scores == border
    room = k - above.sum(1, keepdim=True)
    keep = above | (equal & (equal.cumsum(1, dtype=torch.int32) <= room))
    return scores[keep].view(-1, k), numbers[keep].view(-1, k)


def _ordered(scores: Tensor, numbers: Tensor) -> Tensor:
    return numbers.gather(1, scores.sort(dim=1, descending=True, stable=True).indices)


def _means(queries: dict[str, list[float]]) -> dict[str, float]:
    return {name: sum(values) / len(values) for name, values in queries.items()}
