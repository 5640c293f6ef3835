"""`graphs`: graph neural networks teach MLPs, that will never see an edge, links between modules and classes of words.

Links: modules of well-known packages, joined where one imports the other; a module is known by the sentence vector of
its docstring. A tenth of the links is asked for, a twentieth is there to choose by; neither is in the graph that
teachers read and walks go along. Classes: meanings of WordNet in ten classes, joined where one is a kind or a part of
the other; a meaning is known by the words of its definition, and twenty of each class by their class. A fifth of the
others comes only after training (`stillroom.testbeds.graphs_nodes`).

Student and baselines have one start for each seed, made from nothing, the same batches and the same steps. The last
weights are measured: no checkpoint is chosen.
"""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.graphs import Graph, Links, imports_of, sentence_vectors, split_links
from stillroom.engine.encoding import encode
from stillroom.engine.loop import micro_batches
from stillroom.evaluate.links import hits_at_k, link_auc
from stillroom.measuring import Suite
from stillroom.testbeds.base import UNWATCHED, Bench, trained_once
from stillroom.testbeds.graphs_nodes import VQGRAPH
from stillroom.views.base import make_batch
from stillroom.views.load import Opened

PACKAGES = {False: ("sympy", "scipy", "networkx", "pandas", "numpy", "huggingface_hub"), True: ("huggingface_hub",)}
NEGATIVES, HITS = (
    {False: 50, True: 5},
    200,
)  # pairs that nothing joins to each link; how many of them may come before it

TEACHER = {"in_channels": 384, "hidden_channels": 128, "num_layers": 2, "out_channels": 128}
STUDENT = {"in_channels": 384, "hidden_channels": 64, "num_layers": 2, "out_channels": 64, "norm": None}
TEACHER_STEPS, STEPS = 300, 250
TEACHER_RATE, RATE = 2e-3, 4e-3


# --- rows and models --------------------------------------------------------------------------------------------------


@cache
def links(smoke: bool) -> Links:
    """The modules and their imports, divided."""
    found = imports_of(PACKAGES[smoke])
    features = sentence_vectors(found.texts)
    return split_links(Graph.of(features, found.edge_index, "the graph of modules"), negatives=NEGATIVES[smoke])


@cache
def kept(smoke: bool) -> Path:
    """A folder with the graph of the training links, and files of links {source, target} by part."""
    split = links(smoke)

    def build(folder: Path) -> None:
        folder.mkdir()
        split.graph.save(folder / "graph.safetensors")
        for part, pairs in {"train": split.train, "validation": split.validation}.items():
            lines = [json.dumps({"source": a, "target": b}) + "\n" for a, b in pairs.T.tolist()]
            (folder / f"{part}.jsonl").write_text("".join(lines))

    mark = fingerprint(split.graph.fingerprint, split.train.tolist(), split.validation.tolist())
    return build_once("testbeds/imports", mark, build)


def _train(steps: int, smoke: bool, *, learning_rate: float, batch_size: int) -> dict[str, Any]:
    return {
        "steps": 2 if smoke else steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "optimizer": "adam",
        "weight_decay": 0.0,
        "schedule": "constant",
        **UNWATCHED,
    }


def _new(architecture: str, config: dict[str, Any], smoke: bool) -> dict[str, Any]:
    graph = str(kept(smoke) / "graph.safetensors")
    return {"new": {"architecture": architecture, "config": config}, "options": {"graph": graph}}


def link_teacher(smoke: bool = False) -> str:
    """The folder of the GraphSAGE that predicts links."""
    recipe = {
        "task": "link",
        "student": _new("GraphSAGE", TEACHER, smoke),
        "data": {"train": str(kept(smoke) / "train.jsonl")},
        "method": "link_bce",
        "train": _train(TEACHER_STEPS, smoke, learning_rate=TEACHER_RATE, batch_size=512),
    }
    return trained_once("graphs-link-teacher", recipe)


# --- measurements -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def pair_scores(opened: Opened, pairs: Tensor) -> Tensor:
    """The logits of pairs [2, n]."""
    from datasets import Dataset

    rows = Dataset.from_dict({"source": pairs[0].tolist(), "target": pairs[1].tolist()})
    found = []
    for chunk in micro_batches(encode(rows, opened.view)[0], 2048):
        batch = make_batch(opened.view, None, chunk)
        scores = opened.view.emit(opened.model, batch.student, ("scores",)).scores
        assert scores is not None
        found.append(scores[:, 0])
    return torch.cat(found)


def links_found(opened: Opened, *, part: str, smoke: bool) -> dict[str, float]:
    """``hits@200`` and ``auc`` of links that were taken out, against pairs that nothing joins."""
    split = links(smoke)
    positive, negative = (pair_scores(opened, getattr(split, name)) for name in (part, f"{part}_negatives"))
    return {f"hits@{HITS}": hits_at_k(positive, negative, HITS), "auc": link_auc(positive, negative)}


LINK_SUITES: dict[str, Suite] = {
    "links": partial(links_found, part="test", smoke=False),
    "few-links": partial(links_found, part="test", smoke=True),
    "links-to-choose-by": partial(links_found, part="validation", smoke=False),
}


# --- benches ----------------------------------------------------------------------------------------------------------


def _links(smoke: bool, *, method: dict[str, Any], against: list[Any]) -> dict[str, Any]:
    graph = str(kept(smoke) / "graph.safetensors")
    return {
        "task": "link",
        "teacher": {"model": link_teacher(smoke), "options": {"graph": graph}},
        "student": _new("MLP", STUDENT, smoke),
        "data": {"train": str(kept(smoke) / "train.jsonl")},
        "method": method,
        "against": against,
        "train": _train(STEPS, smoke, learning_rate=RATE, batch_size=512),
        "evaluate": ["few-links" if smoke else "links"],
    }


WEIGHTS = {"supervised": 0.1, "rank": 1.0, "distribution": 1.0}

BENCHES: dict[str, Bench] = {
    "llp": Bench(
        claim="By the teacher's order and distribution of links, an MLP finds more than by its single predictions.",
        metric=f"hits@{HITS}",
        higher_is_better=True,
        versus="logit-matching",
        recipe=partial(
            _links,
            method={"name": "llp"} | WEIGHTS,
            against=[
                {"name": "link_bce", "label": "mlp"},
                {"name": "link_match", "label": "logit-matching"},
                {"name": "link_match", "label": "representation-matching", "what": "vectors"},
                {"name": "llp", "label": "rank-only"} | WEIGHTS | {"distribution": 0},
                {"name": "llp", "label": "distribution-only"} | WEIGHTS | {"rank": 0},
                "untrained",
            ],
        ),
        suites=LINK_SUITES,
    ),
    "vqgraph": VQGRAPH,
}
