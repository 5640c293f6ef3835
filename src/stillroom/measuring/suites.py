"""Measurements by name, beyond the recipe's own rows or on what a model writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stillroom.blocks.sampler import answers, stop_ids
from stillroom.errors import UserError, nearest
from stillroom.measuring.held_out import embed
from stillroom.views.causal_lm import CausalLM
from stillroom.views.load import Opened

Suite = Callable[[Opened], dict[str, float]]

ANSWERED_ROWS = 100
ANSWER_TOKENS = 96


def pydocs_retrieval(opened: Opened) -> dict[str, float]:
    """Docstring to function: 500 functions of modules that no training split holds; nDCG@10, MRR@10, Recall@10."""
    from stillroom.data.pydocs import retrieval
    from stillroom.evaluate.retrieval import dense_retrieval

    task = retrieval(split="test", count=500, seed=1)
    relevance = [{place: 1} for place in range(len(task.queries))]
    return dense_retrieval(embed(opened, task.queries), embed(opened, task.documents), relevance, 10)


def wordnet_retrieval(opened: Opened) -> dict[str, float]:
    """Definition to word: 500 words that no training split of wordnet holds; nDCG@10, MRR@10, Recall@10, as word_*."""
    from stillroom.data.wordnet import retrieval
    from stillroom.evaluate.retrieval import dense_retrieval

    task = retrieval(split="test", count=500, seed=1)
    found = dense_retrieval(embed(opened, task.queries), embed(opened, task.documents), task.relevance, 10)
    return {f"word_{name}": value for name, value in found.items()}


def word_similarity(opened: Opened) -> dict[str, float]:
    """Spearman correlation with people on WordSim-353, SimLex-999 (words) and Lee (documents), and their mean."""
    from stillroom.data import judgements
    from stillroom.evaluate.similarity import document_similarity, pair_similarity

    found = {}
    for name, pairs in (("wordsim353", judgements.wordsim353()), ("simlex999", judgements.simlex999())):
        first, second = embed(opened, list(pairs["first"])), embed(opened, list(pairs["second"]))
        found[name] = pair_similarity(first, second, list(pairs["score"]))
    documents, matrix = judgements.lee()
    found["lee"] = document_similarity(embed(opened, documents), matrix)
    return {"human_likeness": sum(found.values()) / len(found), **found}


SUITES: dict[str, Suite] = {
    "pydocs-retrieval": pydocs_retrieval,
    "wordnet-retrieval": wordnet_retrieval,
    "word-similarity": word_similarity,
}

# Suites that need the recipe's held-out rows, and the kind of model that each suite is for.
ON_ROWS = ("answers",)
KINDS = dict.fromkeys(SUITES, "embeddings") | {"answers": "language"}


def on_rows(rows: Any) -> dict[str, Suite]:
    """The suites that are measured on held-out rows."""
    return {"answers": lambda opened: written_answers(opened, rows)}


def written_answers(opened: Opened, rows: Any) -> dict[str, float]:
    """ROUGE-L, chrF and exact match of greedy answers to up to 100 held-out rows, against the rows' own."""
    from stillroom.evaluate.generation import chrf, exact_match, rouge

    view = opened.view
    assert isinstance(view, CausalLM)
    asked = [row for row in rows.select(range(min(len(rows), ANSWERED_ROWS)))]
    wanted = [row["messages"][-1]["content"] if row.get("messages") else row["completion"] for row in asked]
    stop = stop_ids(opened.model, view.tokenizer)
    said: list[str] = []
    for start in range(0, len(asked), 32):
        prompts = [view.prompt(row)[-(view.max_length - 1) :] for row in asked[start : start + 32]]
        for ids in answers(opened.model, prompts, stop=stop, max_new_tokens=ANSWER_TOKENS, temperature=0.0):
            said.append(view.tokenizer.decode(ids, skip_special_tokens=True))
    return {
        "rouge_l": rouge(said, wanted)["rougeL"],
        "chrf": chrf(said, wanted),
        "exact_match": exact_match(said, wanted),
    }


def check_suites(names: Sequence[str], task: str, suites: Mapping[str, Suite]) -> None:
    """Refuse an unknown suite, or one for another kind of model, before anything is trained.

    Raises:
        UserError: as it says.
    """
    known = (*suites, *ON_ROWS)
    for name in names:
        if name not in known:
            raise UserError(f"there is no evaluation {name!r}{nearest(name, known)}; there are {', '.join(known)}")
        if (kind := KINDS.get(name)) is not None and kind != task:
            raise UserError(f"the evaluation {name!r} is for models of the kind {kind!r}; this one is {task!r}")
