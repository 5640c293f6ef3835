"""Classes of meanings, told with and without their neighbours: the second half of the ground `graphs`.

Two accuracies: of nodes that were there in training, whose label alone was unknown (transductive), and of nodes that
come only afterwards with their edges (inductive). An MLP reads a node's own features in both cases. Of nodes that it
was trained on it soon says what its teacher says; so the second is what tells students apart, and students are not
trained on the nodes of validation, which stand for those unseen.
"""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.graphs import Graph, Nodes, hashed_words, split_nodes, wordnet_nouns
from stillroom.measuring import Suite
from stillroom.testbeds.base import UNWATCHED, Bench, trained_once
from stillroom.views.graph import NodeView
from stillroom.views.load import Opened

COUNT = {False: 2000, True: 400}
LABELS = {"train": 20, "validation": 15}  # of each class
WIDTH = 512  # of the bags of words

TOKENIZER = {"in_channels": WIDTH, "hidden_channels": 64, "out_channels": 10, "codes": 256, "dropout": 0.5}
STUDENT = {
    **{"in_channels": WIDTH, "hidden_channels": 128, "out_channels": 10, "num_layers": 2, "norm": None},
    "dropout": [0.5, 0.0],
}
TEACHER_STEPS, STEPS = 150, 100
RATE = 1e-2


@cache
def nodes(smoke: bool) -> Nodes:
    """The meanings, divided."""
    found = wordnet_nouns(COUNT[smoke])
    graph = Graph.of(hashed_words(found.texts, WIDTH), found.edge_index, "the graph of meanings")
    return split_nodes(graph, found.labels, **LABELS)


@cache
def kept(smoke: bool) -> Path:
    """A folder with the graph of the seen nodes, and files of nodes by part; labels only where they are known."""
    split = nodes(smoke)

    def build(folder: Path) -> None:
        folder.mkdir()
        split.seen.save(folder / "seen.safetensors")
        split.whole.save(folder / "whole.safetensors")
        for part in ("train", "validation"):
            rows = [{"node": n, "label": int(split.labels[n])} for n in getattr(split, part).tolist()]
            _write(folder / f"{part}.jsonl", rows)
        _write(folder / "others.jsonl", [{"node": n} for n in split.test.tolist()])

    rows = [split.train.tolist(), split.validation.tolist(), split.test.tolist(), split.labels.tolist()]
    mark = fingerprint(split.whole.fingerprint, split.seen.fingerprint, "students see train and test", rows)
    return build_once("testbeds/nouns", mark, build)


def _write(path: Path, rows: list[dict[str, int]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _common(smoke: bool, steps: int) -> dict[str, Any]:
    folder = kept(smoke)
    train = [{"source": str(folder / "train.jsonl")}, {"source": str(folder / "others.jsonl")}]
    return {
        "task": "node",
        "data": {"train": train, "validation": str(folder / "validation.jsonl")},
        "train": {
            "steps": 2 if smoke else steps,
            "batch_size": len(nodes(smoke).seen),
            "learning_rate": RATE,
            "optimizer": "adam",
            "weight_decay": 5e-4,
            "schedule": "constant",
            **UNWATCHED,
        },
    }


def _new(architecture: str, config: dict[str, Any], smoke: bool) -> dict[str, Any]:
    options = {"graph": str(kept(smoke) / "seen.safetensors")}
    return {"new": {"architecture": architecture, "config": config}, "options": options}


def tokenizer(smoke: bool = False) -> str:
    """The folder of the graph neural network with a codebook, which teaches."""
    method = {"name": "vqgraph", "stage": "tokenizer"}
    recipe = {"student": _new("QuantisedGNN", TOKENIZER, smoke), "method": method}
    return trained_once("graphs-tokenizer", _common(smoke, TEACHER_STEPS) | recipe)


@torch.no_grad()
def classes_told(opened: Opened, *, part: str, smoke: bool) -> dict[str, float]:
    """``accuracy_seen`` and ``accuracy_unseen``: the share of test nodes whose class is told."""
    split, folder = nodes(smoke), kept(smoke)
    if part == "validation":
        return {"accuracy_seen": _accuracy(opened, opened.view, split, split.validation)}
    whole = NodeView(graph=folder / "whole.safetensors")
    return {
        "accuracy_seen": _accuracy(opened, opened.view, split, split.test),
        "accuracy_unseen": _accuracy(opened, whole, split, split.unseen),
    }


def _accuracy(opened: Opened, view: Any, split: Nodes, asked: torch.Tensor) -> float:
    logits = view.emit(opened.model, {"nodes": asked}, ("logits",)).logits
    return float((logits.argmax(-1) == split.labels[asked]).double().mean())


NODE_SUITES: dict[str, Suite] = {
    "classes": partial(classes_told, part="test", smoke=False),
    "few-classes": partial(classes_told, part="test", smoke=True),
    "classes-to-choose-by": partial(classes_told, part="validation", smoke=False),
}


def recipe(smoke: bool, *, method: dict[str, Any], against: list[Any]) -> dict[str, Any]:
    """The recipe of a bench on these nodes."""
    options = {"graph": str(kept(smoke) / "seen.safetensors")}
    return _common(smoke, STEPS) | {
        "teacher": {"model": tokenizer(smoke), "options": options},
        "student": _new("MLP", STUDENT, smoke),
        "method": method,
        "against": against,
        "evaluate": ["few-classes" if smoke else "classes"],
    }


VQGRAPH = Bench(
    claim="By codes beside soft labels, an MLP tells more classes than by soft labels alone.",
    metric="accuracy_unseen",
    higher_is_better=True,
    versus="glnn",
    recipe=partial(
        recipe,
        method={"name": "vqgraph"},
        against=[
            "glnn",
            {"name": "node_labels", "label": "mlp"},
            {"name": "vqgraph", "label": "code-scores", "parity": "code"},
            {"name": "vqgraph", "label": "codes-and-labels", "labels": 0.5},
            "untrained",
        ],
    ),
    suites=NODE_SUITES,
)
