"""`retrieval`: find the function that a sentence describes; a large dual encoder teaches a small one.

A row is a sentence, the function it describes, and one other that BM25 takes for it. The teacher, all-MiniLM-L6-v2,
compares by cosine; its scores are computed once and kept. The student compares by inner product: two of the teacher's
six layers with a small vocabulary, which were trained for a while to find the right one of a batch's functions. From
there everybody goes on: same start, same rows, same steps. The last weights are measured, on functions of other
modules.

Both score on the scale that they were trained on, 20 cosines, so that a margin means something to both.
"""

from __future__ import annotations

import re
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stillroom.data.cache import build_once, fingerprint
from stillroom.errors import need
from stillroom.evaluate.retrieval import dense_retrieval, score_retrieval
from stillroom.measuring import Suite
from stillroom.testbeds import joint, languages
from stillroom.testbeds.base import UNWATCHED, Bench, trained_once
from stillroom.testbeds.described import described, rows_file
from stillroom.views.load import Opened
from stillroom.views.locate import locate

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
LAYERS, VOCABULARY, WARM_UP = (0, 5), 6000, 80
ROWS = {"train": 5000, "validation": 60}
POOL, QUERIES, CANDIDATES = 500, 400, 10
NEGATIVES, AMONG = 1, 20  # others of a row, drawn from so many that BM25 likes best
WINDOW = 32
SCALE = 20.0  # of cosines, in the training of both models

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


# --- rows and models --------------------------------------------------------------------------------------------------


def _words(text: str) -> list[str]:
    """In lower case; names are taken apart at underscores and capitals."""
    return [word.lower() for word in _WORD.findall(text)]


def favourites(queries: list[str], documents: list[str], count: int) -> list[list[int]]:
    """The places of the ``count`` documents that BM25 likes best for each query, best first."""
    index = need("bm25s", "retrieval").BM25()
    index.index([_words(text) for text in documents], show_progress=False)
    scores = np.stack([index.get_scores(_words(text)) for text in queries])
    return np.argsort(-scores, axis=1, kind="stable")[:, :count].tolist()


@cache
def triples(split: str, count: int) -> str:
    """A file of rows: a sentence, the function that it describes, and functions that BM25 takes for it."""
    rows, draw = described(split, count), np.random.default_rng(0)
    names = [row["positive"] for row in rows]
    found: list[dict[str, Any]] = []
    for place, near in enumerate(favourites([row["anchor"] for row in rows], names, AMONG)):
        others = [other for other in near if other != place]
        found.append(rows[place] | {"negative": [names[n] for n in draw.choice(others, NEGATIVES, replace=False)]})
    return rows_file(f"ranked-{split}", tuple(found))


def _data(smoke: bool) -> dict[str, Any]:
    return {split: triples(split, 32 if smoke else count) for split, count in ROWS.items()}


def _train(steps: int, smoke: bool, **settings: Any) -> dict[str, Any]:
    fixed = {"group_by_length": True, **UNWATCHED, "precision": "auto"}
    return {"steps": 2 if smoke else steps, "batch_size": 32, **fixed, **settings}


def teacher() -> str:
    """The folder of the teacher: MiniLM, whose inner products are ``SCALE`` cosines."""

    def build(folder: Path) -> None:
        whole = _library().SentenceTransformer(str(locate(MINILM)), device="cpu")
        _save([*whole, _times(SCALE**0.5, whole.get_embedding_dimension())], folder)

    return str(build_once("testbeds/retrieval-teacher", fingerprint(MINILM, SCALE), build))


def start(smoke: bool = False, *, layers: tuple[int, ...] = LAYERS, steps: int = WARM_UP) -> str:
    """The folder of the dual encoder that everybody starts from: some of the teacher's layers, trained for so long.

    It was trained on cosines. What takes their place is a layer that multiplies by one number, such that vectors of the
    usual length give ``SCALE`` cosines: a student that must give unit vectors could not give its teacher's margins.
    """
    rows = described("train", 32 if smoke else ROWS["train"])
    trained = trained_once(
        "retrieval-start",
        {
            "task": "embeddings",
            "student": {
                "cut": {"of": MINILM, "layers": list(layers), "vocabulary": VOCABULARY},
                "max_length": WINDOW,
            },
            "data": rows_file("described-train", rows),
            "method": "contrastive",
            "train": _train(steps, smoke, batch_size=64, learning_rate=3e-4),
        },
    )

    def build(folder: Path) -> None:
        *body, _normalise = _library().SentenceTransformer(trained, device="cpu")
        plain = _library().SentenceTransformer(modules=body, device="cpu")
        usual = plain.encode([row["anchor"] for row in rows[:200]], convert_to_tensor=True).norm(dim=-1).mean()
        _save([*body, _times(SCALE**0.5 / float(usual), plain.get_embedding_dimension())], folder)

    return str(build_once("testbeds/retrieval-dual-start", fingerprint(trained, SCALE), build))


def _times(factor: float, width: int) -> Any:
    """A module of a pipeline that multiplies vectors by a number, to begin with."""
    dense = import_module("sentence_transformers.sentence_transformer.modules").Dense
    layer = dense(width, width, bias=False, activation_function=nn.Identity())
    layer.linear.weight.data = factor * torch.eye(width)
    return layer


def _save(modules: list[Any], folder: Path) -> None:
    _library().SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)


def _library() -> Any:
    return need("sentence_transformers", "embeddings")


# --- measurements -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def search(opened: Opened, *, pool: int, queries: int) -> dict[str, float]:
    """Functions found by their descriptions, in two ways.

    ``mrr@10`` and so on: all of ``pool`` functions searched with the model's vectors. ``reranked_mrr@10`` and so on:
    BM25's ten favourites put in order by the model; a query whose function is not among them counts 0.
    """
    rows = described("test", pool)
    asked, names = [row["anchor"] for row in rows[:queries]], [row["positive"] for row in rows]
    relevance = [{place: 1} for place in range(queries)]
    sentences, functions = (vectors(opened, texts) for texts in (asked, names))
    whole = sentences @ functions.T
    near = torch.tensor(favourites(asked, names, CANDIDATES))
    reranked = torch.full_like(whole, -torch.inf).scatter(1, near, whole.gather(1, near))
    found = {f"reranked_{name}": value for name, value in score_retrieval(reranked, relevance, CANDIDATES).items()}
    return dense_retrieval(sentences, functions, relevance, 10) | found


def vectors(opened: Opened, texts: list[str]) -> Tensor:
    """[texts, D], as the pipeline gives them, of any length."""
    model: Any = opened.model
    return model.encode(texts, batch_size=64, convert_to_tensor=True, show_progress_bar=False)


SUITES: dict[str, Suite] = {
    "search": partial(search, pool=POOL, queries=QUERIES),
    "small-search": partial(search, pool=16, queries=8),
    "both": partial(joint.both, pool=500, queries=joint.RERANKED),
    "small-both": partial(joint.both, pool=16, queries=8),
}


# --- benches ----------------------------------------------------------------------------------------------------------


def _recipe(smoke: bool, *, method: Any, against: list[Any], steps: int = 70, rate: float = 2e-4) -> dict[str, Any]:
    return {
        "task": "bi-encoder",
        "teacher": {"model": teacher(), "cache": True},
        "student": {"model": start(smoke), "max_length": WINDOW},
        "data": _data(smoke),
        "method": method,
        "against": against,
        "train": _train(steps, smoke, learning_rate=rate),
        "evaluate": ["small-search" if smoke else "search"],
    }


BENCHES: dict[str, Bench] = {
    "margin-mse": Bench(
        claim="Taught by the margins of a strong scorer, a small dual encoder ranks better than one that goes on "
        "learning from labels.",
        metric="mrr@10",
        higher_is_better=True,
        versus="ranknet",
        recipe=partial(_recipe, method="margin-mse", against=["ranknet", "score_mse", "listwise_kl", "untrained"]),
        suites=SUITES,
    ),
    "colbert-xm": Bench(
        claim="Fine-tuned on English with its language adapters frozen, a modular model searches better in languages "
        "that it was not fine-tuned in than one whose languages share everything.",
        metric="mrr_others",
        higher_is_better=True,
        versus="one-adapter",
        measure=languages.measure,
    ),
    "rocketqa-v2": Bench(
        claim="Taught by a re-ranker that goes on learning beside it, a retriever ranks better than taught by that "
        "re-ranker as it was.",
        metric="mrr@10",
        higher_is_better=True,
        versus="static-teacher",
        recipe=joint.recipe,
        suites=SUITES,
    ),
}
