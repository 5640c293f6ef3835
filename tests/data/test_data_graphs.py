"""Graphs: what is refused, real graphs of texts, features of texts, splits that do not leak, walks and draws.

.venv/bin/python -m pytest tests/data/test_data_graphs.py
"""

import math
from pathlib import Path

import pytest
import torch

from stillroom.blocks.random_walks import contexts, random_walks, unjoined_pairs
from stillroom.data.graphs import Graph, hashed_words, imports_of, split_links, split_nodes, wordnet_nouns
from stillroom.errors import UserError
from stillroom.evaluate.links import hits_at_k, link_auc

WORDNET = Path("/usr/share/wordnet/data.noun").is_file()
EDGES = torch.tensor([[0, 1, 3, 1, 2], [1, 0, 1, 2, 2]])  # twice 0-1, and 2 with itself


def ring(nodes=60):
    place = torch.arange(nodes)
    return Graph.of(torch.eye(nodes), torch.stack([place, (place + 1) % nodes]))


# --- one graph --------------------------------------------------------------------------------------------------------


def test_edges_go_both_ways_once():
    graph = Graph.of(torch.ones(4, 2), EDGES)
    assert graph.edges.T.tolist() == [[0, 1], [1, 0], [1, 2], [1, 3], [2, 1], [3, 1]]
    assert graph.starts.tolist() == [0, 1, 4, 5, 6]
    pairs = torch.tensor([[0, 2, 3, 0], [1, 0, 1, 0]])
    assert graph.joined(*pairs).tolist() == [True, False, True, False]


def test_a_graph_comes_back_from_its_file(tmp_path):
    graph = Graph.of(torch.rand(4, 2), EDGES)
    graph.save(tmp_path / "g.safetensors")
    again = Graph.load(tmp_path / "g.safetensors")
    assert torch.equal(again.features, graph.features) and torch.equal(again.edges, graph.edges)
    assert again.fingerprint == graph.fingerprint != Graph.of(graph.features, EDGES[:, :2]).fingerprint


@pytest.mark.parametrize(
    ("features", "edges", "said"),
    [
        (torch.ones(3, 2), EDGES, r"the graph: edge 3 joins the nodes 3 and 1, and there are nodes 0 to 2"),
        (torch.ones(4, 2), -EDGES, r"edge 1 joins the nodes 0 and -1"),
        (torch.ones(4), EDGES, r"features must be numbers of the shape \[nodes, width\]"),
        (torch.ones(4, 2), EDGES.T, r"edges must be whole numbers of the shape \[2, edges\]"),
        (torch.tensor([[1.0], [math.nan], [1.0], [1.0]]), EDGES, r"the features of node 1 are not all finite"),
    ],
)
def test_what_is_no_graph_is_refused(features, edges, said):
    with pytest.raises(UserError, match=said):
        Graph.of(features, edges)


def test_a_file_that_is_no_graph_is_refused(tmp_path):
    (tmp_path / "g.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="is no safetensors file"):
        Graph.load(tmp_path / "g.safetensors")
    with pytest.raises(UserError, match="there is no graph"):
        Graph.load(tmp_path / "other.safetensors")


# --- texts ------------------------------------------------------------------------------------------------------------


def test_bags_of_words_have_length_1_and_no_order():
    found = hashed_words(["the dog bites the man", "Man, the dog the bites!", "", "a cat"], width=4096)
    torch.testing.assert_close(found[0], found[1])
    assert found.norm(dim=-1).tolist() == pytest.approx([1, 1, 0, 1]) and float(found[0] @ found[3]) < 0.5
    counts = sorted(found[0][found[0] > 0].tolist())
    assert counts[-1] / counts[0] == pytest.approx(1 + math.log(2))  # "the" comes twice, the others once


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path))


def test_modules_are_joined_to_what_they_import(own_cache):
    found = imports_of(["huggingface_hub"])
    assert len(found.names) == len(set(found.names)) == len(found.texts) == len(found.labels) > 20
    assert found.classes == ["huggingface_hub"] and all(found.texts)
    place = {name: number for number, name in enumerate(found.names)}
    assert all(a < b for a, b in found.edges) and {n for pair in found.edges for n in pair} == set(place.values())
    import huggingface_hub

    folder = Path(huggingface_hub.__file__).parent
    for first, second in found.edges[:20]:  # one of the two names the other in its text
        texts = [
            (folder.parent / Path(*found.names[n].split("."))).with_suffix(".py").read_text()
            if (folder.parent / Path(*found.names[n].split("."))).with_suffix(".py").is_file()
            else (folder.parent / Path(*found.names[n].split(".")) / "__init__.py").read_text()
            for n in (first, second)
        ]
        tails = [found.names[n].rpartition(".")[2] for n in (second, first)]
        assert any(tail in text for tail, text in zip(tails, texts, strict=True))
    assert len(imports_of(["huggingface_hub"], count=30).names) <= 30


@pytest.mark.skipif(not WORDNET, reason="needs Debian's wordnet-base")
def test_meanings_are_joined_to_what_they_are_kinds_or_parts_of(own_cache):
    from stillroom.data import load

    found = wordnet_nouns(200, classes=("noun.animal", "noun.food"))
    assert found.classes == ["noun.animal", "noun.food"] and abs(len(found.names) - 200) <= 5
    assert 80 <= sum(found.labels) <= 110
    rows = [row for split in ("train", "validation", "test") for row in load("wordnet", view="synsets", split=split)]
    known = {row["id"]: row for row in rows}
    for name, text, label in zip(found.names, found.texts, found.labels, strict=True):
        assert known[name]["lexicographer_file"] == found.classes[label] and known[name]["definition"].startswith(text)
    kinds = {(found.names[a], found.names[b]) for a, b in found.edges}
    hypernyms = [(a, b) for a, b in kinds if b in known[a]["hypernyms"] or a in known[b]["hypernyms"]]
    assert len(hypernyms) > 0.8 * len(kinds)


# --- splits -----------------------------------------------------------------------------------------------------------


def test_unseen_nodes_are_not_in_the_graph_of_training():
    graph, labels = ring(), [n % 3 for n in range(60)]
    split = split_nodes(graph, labels, train=3, validation=2, unseen=0.25)
    parts = [split.train, split.validation, split.test, split.unseen]
    assert sorted(torch.cat(parts).tolist()) == list(range(60)) and [len(part) for part in parts] == [9, 6, 34, 11]
    assert torch.equal(split.labels, torch.tensor(labels)[split.order])
    assert torch.equal(split.whole.features, graph.features[split.order])
    assert sorted(split.labels[split.train].tolist()) == [0] * 3 + [1] * 3 + [2] * 3
    assert len(split.seen) == 49 == int(split.unseen.min()) and int(split.seen.edges.max()) < 49
    old = {tuple(pair) for pair in graph.edges.T.tolist()}
    both = {tuple(split.order[list(pair)].tolist()) for pair in split.whole.edges.T.tolist()}
    seen = {tuple(split.order[list(pair)].tolist()) for pair in split.seen.edges.T.tolist()}
    hidden = set(split.order[split.unseen].tolist())
    assert both == old and seen == {pair for pair in old if not hidden & set(pair)}


def test_a_class_that_is_too_small_is_refused():
    with pytest.raises(UserError, match="class 1 has 1 nodes, and 2 are asked"):
        split_nodes(ring(5), [0, 0, 0, 0, 1], train=1, validation=1)
    with pytest.raises(UserError, match="5 nodes and there are 4 labels"):
        split_nodes(ring(5), [0] * 4, train=1, validation=1)


def test_links_that_were_taken_out_are_in_no_other_part_and_negatives_join_nothing():
    graph = ring()
    split = split_links(graph, validation=0.1, test=0.2, negatives=3)
    parts = [{tuple(pair) for pair in part.T.tolist()} for part in (split.train, split.validation, split.test)]
    whole = {tuple(sorted(pair)) for pair in graph.edges.T.tolist()}
    assert [len(part) for part in parts] == [42, 6, 12] and set.union(*parts) == whole
    assert {tuple(sorted(pair)) for pair in split.graph.edges.T.tolist()} == parts[0]
    apart = [{tuple(pair) for pair in part.T.tolist()} for part in (split.validation_negatives, split.test_negatives)]
    assert [len(part) for part in apart] == [18, 36] and not apart[0] & apart[1]
    assert not (apart[0] | apart[1]) & whole and all(a < b for part in apart for a, b in part)


# --- draws ------------------------------------------------------------------------------------------------------------


def test_walks_go_along_edges_and_stay_where_there_are_none():
    graph = Graph.of(torch.eye(5), torch.tensor([[0, 1, 1], [1, 2, 3]]))
    torch.manual_seed(0)
    found = random_walks(graph, torch.tensor([0, 4] * 300), 3)
    assert (found[1::2] == 4).all() and (found[::2, 0] == 1).all()
    second = torch.bincount(found[::2, 1], minlength=5) / 300
    assert second[[0, 2, 3]].tolist() == pytest.approx([1 / 3] * 3, abs=0.1) and (found[::2, 2] == 1).all()
    assert (
        random_walks(Graph.of(torch.eye(2), torch.zeros(2, 0).long()), torch.tensor([0, 1]), 2)
        == torch.tensor([[0], [1]])
    ).all()


def test_a_context_has_the_size_that_the_paper_gives_it():
    torch.manual_seed(0)
    assert contexts(ring(), torch.arange(7), walks=3, hops=2, random=2).shape == (7, 18)


def test_no_edge_joins_the_pairs_that_are_drawn():
    torch.manual_seed(0)
    pairs = unjoined_pairs(ring(6), 500)
    gaps = (pairs[:, 0] - pairs[:, 1]).remainder(6)
    assert set(gaps.tolist()) == {2, 3, 4}
    with pytest.raises(UserError, match="nearly all of the graph's 2 nodes are joined"):
        unjoined_pairs(Graph.of(torch.eye(2), torch.tensor([[0], [1]])), 3)


# --- measures ---------------------------------------------------------------------------------------------------------


def test_hits_are_counted_above_the_kth_best_negative():
    positive, negative = torch.tensor([0.9, 0.5, 0.4, 0.1]), torch.tensor([0.8, 0.4, 0.2])
    assert [hits_at_k(positive, negative, k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]
    with pytest.raises(ValueError, match="k of at least 1"):
        hits_at_k(positive, negative, 0)


def test_auc_is_the_chance_to_be_above():
    positive, negative = torch.tensor([0.9, 0.4]), torch.tensor([0.8, 0.4])
    assert link_auc(positive, negative) == pytest.approx((2 + 0.5) / 4)
