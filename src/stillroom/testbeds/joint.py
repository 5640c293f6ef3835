"""A retriever and a re-ranker that learn together: the part of the ground `retrieval` with two trained models.

Lists are longer here: a sentence, the function that it describes, and others drawn from what BM25 finds. The re-ranker
is two layers of MiniLM that read sentence and function together; the retriever is one layer. Both were warmed up on
labels, the re-ranker on those of the same lists and for long: it must know more than the retriever to teach it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from stillroom.data.cache import build_once, fingerprint
from stillroom.evaluate.retrieval import dense_retrieval, score_retrieval
from stillroom.synthesis.candidate_lists import candidate_lists
from stillroom.testbeds.base import UNWATCHED, trained_once
from stillroom.testbeds.described import described, rows_file
from stillroom.views.load import Opened
from stillroom.views.locate import locate
from stillroom.views.ranking import CrossEncoder

LIST = 4  # candidates of a list, the relevant one included
AMONG = 20  # of BM25's favourites, that the others are drawn from
ROWS = {"train": 3000, "validation": 60}
PAIR = 96  # tokens of a sentence and a function
RERANKED = 150  # queries that everybody is tried on
WARM_UP = {"retriever": 20, "re-ranker": 900}  # steps


@cache
def lists(split: str, count: int) -> str:
    """A file of lists: {anchor, positive, negative}."""
    from datasets import Dataset

    from stillroom.testbeds.retrieval import favourites

    rows = described(split, count)
    names = [row["positive"] for row in rows]
    near = favourites([row["anchor"] for row in rows], names, AMONG)
    found = [dict(row, found=[names[n] for n in places]) for row, places in zip(rows, near, strict=True)]
    made = candidate_lists(Dataset.from_list(found), negatives=LIST - 1).dataset
    return rows_file(f"lists-{split}", tuple(made.to_list()))


def reranker(smoke: bool = False) -> str:
    """The folder of a cross-encoder, warmed up on labels."""
    from stillroom.testbeds.retrieval import start

    dual = start(smoke)

    def build(folder: Path) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        body = locate(dual)
        model = AutoModelForSequenceClassification.from_pretrained(body, num_labels=1)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(body).save_pretrained(folder)

    torch.manual_seed(0)
    cold = str(build_once("testbeds/joint-reranker", fingerprint(dual), build))
    return trained_once(
        "joint-warm-reranker",
        {
            "task": "cross-encoder",
            "student": {"model": cold, "max_length": PAIR},
            "data": data(smoke),
            "method": "listwise_ce",
            "train": train(WARM_UP["re-ranker"], smoke, rate=3e-4),
        },
    )


def retriever(smoke: bool = False) -> str:
    """The folder of the dual encoder."""
    from stillroom.testbeds.retrieval import start

    return start(smoke, layers=(0,), steps=WARM_UP["retriever"])


def data(smoke: bool) -> dict[str, Any]:
    """The lists of training and validation."""
    return {split: lists(split, 32 if smoke else count) for split, count in ROWS.items()}


def train(steps: int, smoke: bool, *, rate: float = 1e-4) -> dict[str, Any]:
    """How everybody is trained."""
    return {
        "steps": 2 if smoke else steps,
        "batch_size": 4 if smoke else 16,
        "learning_rate": rate,
        "group_by_length": True,
        **UNWATCHED,
        "precision": "auto",
    }


def recipe(smoke: bool) -> dict[str, Any]:
    """Joint training, and what it is held against: the warmed-up re-ranker as it is, labels, no re-ranker's labels."""
    from stillroom.testbeds.retrieval import WINDOW

    return {
        "task": "bi-encoder",
        "teacher": {"model": reranker(smoke), "kind": "cross-encoder", "max_length": PAIR},
        "student": {"model": retriever(smoke), "max_length": WINDOW},
        "data": data(smoke),
        "method": "rocketqa-v2",
        "against": [
            {"name": "listwise_kl", "label": "static-teacher"},
            {"name": "listwise_ce", "label": "separate"},
            {"name": "rocketqa-v2", "label": "teacher-grad", "teacher_grad": True},
            "untrained",
        ],
        "train": train(60, smoke, rate=3e-4) | {"batch_size": 4 if smoke else 8},
        "evaluate": ["small-both"] if smoke else ["both"],
    }


@torch.no_grad()
def both(opened: Opened, *, pool: int, queries: int) -> dict[str, float]:
    """Retrievers search all of ``pool`` functions; everybody puts BM25's favourites in order, as `search` does."""
    from stillroom.testbeds.retrieval import CANDIDATES, vectors

    rows = described("test", pool)
    asked, names = [row["anchor"] for row in rows[:queries]], [row["positive"] for row in rows]
    relevance = [{place: 1} for place in range(queries)]
    near = torch.tensor(liked(pool, queries))
    if isinstance(opened.view, CrossEncoder):
        told = [scores(opened, query, [names[n] for n in places]) for query, places in zip(asked, near, strict=True)]
        chosen = torch.stack(told)
        found = {}
    else:
        sentences, functions = (vectors(opened, texts) for texts in (asked, names))
        found = dense_retrieval(sentences, functions, relevance, 10)
        chosen = (sentences @ functions.T).float().gather(1, near)
    whole = torch.full((queries, pool), -torch.inf).scatter(1, near, chosen.float())
    again = score_retrieval(whole, relevance, CANDIDATES)
    return found | {"reranked_mrr@10": again[f"mrr@{CANDIDATES}"]}


@cache
def liked(pool: int, queries: int) -> list[list[int]]:
    """The places of BM25's favourites for each query of the test."""
    from stillroom.testbeds.retrieval import CANDIDATES, favourites

    rows = described("test", pool)
    return favourites([row["anchor"] for row in rows[:queries]], [row["positive"] for row in rows], CANDIDATES)


def scores(opened: Opened, query: str, candidates: list[str]) -> torch.Tensor:
    """[N] of a cross-encoder."""
    first, *others = candidates
    inputs = opened.view.collate([opened.view.encode({"anchor": query, "positive": first, "negative": others})])
    found = opened.view.emit(opened.model, inputs.arguments, ("scores",)).scores
    assert found is not None
    return found[0]
