"""The ground of the family `graphs`: what is hidden stays hidden, what it measures, that it tells better from worse.

.venv/bin/python -m pytest tests/testbeds/test_graphs.py
"""

import json
from pathlib import Path

import pytest
import torch

from stillroom.data.graphs import Graph
from stillroom.reproduce import reproduce
from stillroom.testbeds import graphs, graphs_nodes
from stillroom.views.load import open_model

WORDNET = Path("/usr/share/wordnet/data.noun").is_file()
needs_wordnet = pytest.mark.skipif(not WORDNET, reason="needs Debian's wordnet-base")
pytestmark = pytest.mark.usefixtures("own_cache")


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_links_that_are_asked_for_are_nowhere_in_training():
    split, folder = graphs.links(True), graphs.kept(True)
    graph = Graph.load(folder / "graph.safetensors")
    trained = {(row["source"], row["target"]) for row in rows(folder / "train.jsonl")}
    joined = {tuple(pair) for pair in graph.edges.T.tolist()}
    asked = {tuple(pair) for part in (split.test, split.validation) for pair in part.T.tolist()}
    assert len(asked) == split.test.shape[1] + split.validation.shape[1] and not asked & trained
    assert joined == trained | {(b, a) for a, b in trained}
    assert graph.features.shape == (len(split.graph), 384)


def test_links_are_scored_and_counted():
    """By the number of the first node alone: joined pairs of the highest ones hit."""
    opened = open_model(graphs.link_teacher(True), "link", graph=str(graphs.kept(True) / "graph.safetensors"))
    opened.model.eval()
    pairs = graphs.links(True).test
    vectors = opened.model["encoder"](opened.view.graph.features, opened.view.graph.edges)
    wanted = opened.model["predictor"](vectors[pairs[0]] * vectors[pairs[1]])[:, 0]
    torch.testing.assert_close(graphs.pair_scores(opened, pairs), wanted.detach(), atol=1e-5, rtol=1e-4)
    found = graphs.links_found(opened, part="test", smoke=True)
    assert set(found) == {"hits@200", "auc"} and all(0 <= value <= 1 for value in found.values())


def test_the_bench_of_links_runs(tmp_path):
    systems = reproduce("llp", seeds=[0], smoke=True, folder=tmp_path)["systems"]
    assert list(systems) == [
        *("teacher", "llp", "mlp", "logit-matching", "representation-matching", "rank-only", "distribution-only"),
        "untrained",
    ]
    assert all(system["values"][0] is not None for system in systems.values())
    folder = tmp_path / "llp" / "seed-0" / "against"
    parts = {
        name: set(json.loads((folder / name / "metrics.jsonl").read_text().splitlines()[0])["parts"])
        for name in ("rank-only", "distribution-only", "mlp")
    }
    assert parts == {"rank-only": {"links", "rank"}, "distribution-only": {"links", "distribution"}, "mlp": {"links"}}


@needs_wordnet
def test_unseen_nodes_and_hidden_labels_are_nowhere_in_training():
    split, folder = graphs_nodes.nodes(True), graphs_nodes.kept(True)
    known, others = rows(folder / "train.jsonl"), rows(folder / "others.jsonl")
    assert all(int(split.labels[row["node"]]) == row["label"] for row in known) and not any(
        "label" in row for row in others
    )
    trained = {row["node"] for row in (*known, *others)}
    assert not trained & set(split.unseen.tolist()) and not trained & set(split.validation.tolist())
    assert set(split.test.tolist()) == {row["node"] for row in others}
    seen = Graph.load(folder / "seen.safetensors")
    assert len(seen) == int(split.unseen.min()) and int(seen.edges.max()) < len(seen)


@needs_wordnet
def test_the_bench_of_classes_runs(tmp_path):
    systems = reproduce("vqgraph", seeds=[0], smoke=True, folder=tmp_path)["systems"]
    assert list(systems)[:4] == ["teacher", "vqgraph", "glnn", "mlp"]
    for system in systems.values():
        assert {"accuracy_seen", "accuracy_unseen", "accuracy"} <= set(system["metrics"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_of_links_tells_better_from_worse(tmp_path, whole_ground):
    """The teacher finds more links than an MLP that was trained without it, by more than its seeds differ."""
    systems = reproduce("llp", folder=tmp_path)["systems"]
    assert systems["teacher"]["mean"] - systems["mlp"]["mean"] > 2 * systems["mlp"]["std"]


@needs_wordnet
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_of_classes_tells_better_from_worse(tmp_path, whole_ground):
    """The teacher tells more classes than an MLP that was trained without it, by more than its seeds differ."""
    systems = reproduce("vqgraph", folder=tmp_path)["systems"]
    assert systems["teacher"]["mean"] - systems["mlp"]["mean"] > 2 * systems["mlp"]["std"]
