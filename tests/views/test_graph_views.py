"""Views of graphs: what a model of nodes or links reads and gives, how it is kept, what is refused.

.venv/bin/python -m pytest tests/views/test_graph_views.py
"""

import json
from pathlib import Path

import pytest
import torch
import torch_geometric.nn
from datasets import Dataset
from safetensors.torch import load_model
from torch import nn

from stillroom.checks import check_labels
from stillroom.data.files import load
from stillroom.data.graphs import Graph
from stillroom.engine.encoding import encode
from stillroom.errors import UserError
from stillroom.planning import plan
from stillroom.recipe import Scratch, check
from stillroom.run import execute
from stillroom.students.open import new_model
from stillroom.views.base import make_batch
from stillroom.views.graph import LinkView, NodeView
from stillroom.views.load import open_model

MLP = {"in_channels": 3, "hidden_channels": 5, "out_channels": 2, "num_layers": 2, "norm": None}
GCN = {"in_channels": 3, "hidden_channels": 5, "out_channels": 2, "num_layers": 2}


@pytest.fixture
def graph(tmp_path):
    torch.manual_seed(0)
    Graph.of(torch.randn(6, 3), torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])).save(tmp_path / "g.safetensors")
    return str(tmp_path / "g.safetensors")


def opened(tmp_path, graph, kind, architecture, config):
    torch.manual_seed(1)
    new_model(Scratch(architecture=architecture, config=config), kind, list, tmp_path / architecture)
    found = open_model(str(tmp_path / architecture), kind, graph=graph)
    found.model.eval()
    return found


def batch(view, rows):
    return make_batch(view, None, [{"student": view.encode(row)} for row in rows])


def test_nodes_with_and_without_labels_make_one_batch(tmp_path, graph):
    view = NodeView(graph=graph)
    found = batch(view, [{"node": 4, "label": 1}, {"node": 0}])
    assert found.student["nodes"].tolist() == [4, 0] and found.labels.tolist() == [1, -1] and found.mask.all()


@pytest.mark.parametrize(("architecture", "config"), [("GCN", GCN), ("GraphSAGE", GCN), ("GAT", GCN), ("MLP", MLP)])
def test_a_saved_model_loads_with_torch_geometric_alone(tmp_path, graph, architecture, config):
    one = opened(tmp_path, graph, "node", architecture, config)
    one.view.save(one.model, tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["config.json", "model.safetensors"]
    kept = json.loads((tmp_path / "saved" / "config.json").read_text())
    model = getattr(torch_geometric.nn, kept["architecture"])(**kept["arguments"])
    load_model(model, str(tmp_path / "saved" / "model.safetensors"))
    world = Graph.load(graph)
    wanted = model.eval()(world.features, *([] if architecture == "MLP" else [world.edges]))
    found = one.view.emit(one.model, {"nodes": torch.tensor([2, 5, 2])}, ("logits",)).logits
    torch.testing.assert_close(found, wanted[[2, 5, 2]])


def test_a_model_of_links_loads_part_by_part(tmp_path, graph):
    one = opened(tmp_path, graph, "link", "GraphSAGE", GCN | {"predictor": {"num_layers": 3, "hidden_channels": 4}})
    one.view.save(one.model, tmp_path / "saved")
    parts = json.loads((tmp_path / "saved" / "config.json").read_text())["parts"]
    made = {
        name: getattr(torch_geometric.nn, part["architecture"])(**part["arguments"]) for name, part in parts.items()
    }
    model = nn.ModuleDict(made).eval()
    load_model(model, str(tmp_path / "saved" / "model.safetensors"))
    world = Graph.load(graph)
    vectors = model["encoder"](world.features, world.edges)
    row = {"source": 0, "target": 1, "negatives": [[2, 5]], "context": [3, 3], "anchor": 4}
    wanted = [model["predictor"](vectors[a] * vectors[b]).item() for a, b in ((0, 1), (2, 5), (4, 3), (4, 3))]
    given = batch(one.view, [row, {"source": 1, "target": 2}])
    found = one.view.emit(one.model, given.student, ("scores", "embedding"))
    assert found.scores[0].tolist() == pytest.approx(wanted, rel=1e-5) and not found.scores[1, 1:].any()
    torch.testing.assert_close(found.embedding, vectors[[4, 1]])
    assert given.columns["links"].tolist() == [[1, 0, -1, -1], [1, 0, 0, 0]]
    assert given.columns["candidates"].tolist() == [[True] * 4, [True, False, False, False]]


def test_hidden_states_are_what_layers_read_and_the_last_the_logits(tmp_path, graph):
    one = opened(tmp_path, graph, "node", "GCN", GCN)
    world, nodes = Graph.load(graph), torch.tensor([3, 1])
    found = one.view.emit(one.model, {"nodes": nodes}, ("hidden:all", "embedding", "logits", "tap:convs.0"))
    first = one.model.convs[0](world.features, world.edges)
    torch.testing.assert_close(found.hidden[0], world.features[nodes])
    torch.testing.assert_close(found.hidden[1], first.relu()[nodes])
    torch.testing.assert_close(found.hidden[2], found.logits)
    torch.testing.assert_close(found.embedding, found.hidden[1])
    torch.testing.assert_close(found.taps["convs.0"], first)  # of all nodes
    with pytest.raises(ValueError, match="hidden states 0 to 2; there is no 3"):
        one.view.emit(one.model, {"nodes": nodes}, ("hidden:3",))


def test_a_frozen_model_reads_the_graph_once_and_again_when_it_changed(tmp_path, graph):
    one = opened(tmp_path, graph, "node", "GCN", GCN)
    runs = []
    one.model.register_forward_hook(lambda *_: runs.append(1))

    def logits(*nodes):
        return one.view.emit(one.model, {"nodes": torch.tensor(nodes)}, ("logits",)).logits

    with torch.no_grad():
        first = logits(0, 1)
        assert torch.equal(logits(1, 2)[0], first[1]) and len(runs) == 1
        one.model.convs[0].bias.add_(1.0)
        assert not torch.equal(logits(0, 1), first) and len(runs) == 2
    assert logits(0, 1).requires_grad and len(runs) == 3
    one.model.train()
    with torch.no_grad():
        logits(0)
        logits(0)
    assert len(runs) == 5


def test_a_row_with_a_node_out_of_range_is_refused_by_its_place(graph):
    with pytest.raises(UserError, match=r"the data, row 2: 'node' is 6, and the graph has nodes 0 to 5; mend the row"):
        encode(Dataset.from_list([{"node": 5}, {"node": 6}]), NodeView(graph=graph))
    with pytest.raises(UserError, match=r"row 1: 'target' is 9"):
        encode(Dataset.from_list([{"source": 5, "target": 9}]), LinkView(graph=graph), name="links")


def test_rows_are_checked_as_they_are_loaded(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"node": 1, "label": 0}\n{"node": "two", "label": 0}\n')
    with pytest.raises(
        UserError, match=r"rows.jsonl line 2: 'node' must be the number of a node, from 0; found a string"
    ):
        load(tmp_path / "rows.jsonl")
    (tmp_path / "links.jsonl").write_text('{"source": 1, "target": -2}\n')
    with pytest.raises(UserError, match=r"'target' must be the number of a node, from 0; found -2"):
        load(tmp_path / "links.jsonl")


def test_what_does_not_fit_is_refused(tmp_path, graph):
    with pytest.raises(UserError, match="name its file as the option 'graph'"):
        opened(tmp_path, graph, "node", "GCN", GCN) and open_model(str(tmp_path / "GCN"), "node")
    with pytest.raises(UserError, match="there is no architecture 'GraphSAG'; did you mean 'GraphSAGE'"):
        opened(tmp_path, graph, "node", "GraphSAG", GCN)
    with pytest.raises(UserError, match="there can be no GCN"):
        opened(tmp_path, graph, "node", "GCN", {"in_channels": 3})
    wide = opened(tmp_path, graph, "node", "MLP", MLP | {"in_channels": 4})
    with pytest.raises(UserError, match="the model reads features of the width 4, and the graph has 3"):
        wide.view.emit(wide.model, {"nodes": torch.tensor([0])}, ("logits",))
    with pytest.raises(UserError, match="row 2 has the label 2, and the student has classes 0 to 1"):
        check_labels([Dataset.from_list([{"label": None}, {"label": 2}])], 2)


def rows_files(folder: Path):
    (folder / "known.jsonl").write_text("".join(f'{{"node": {n}, "label": {n % 2}}}\n' for n in range(4)))
    (folder / "others.jsonl").write_text('{"node": 4}\n{"node": 5}\n')
    return [str(folder / "known.jsonl"), str(folder / "others.jsonl")]


def test_a_recipe_trains_a_graph_network_and_then_an_mlp_by_it(tmp_path, graph):
    """Labelled and unlabelled nodes from two files, a plan, a teacher that is cached, figures for everybody."""
    train = {"steps": 2, "batch_size": 6, "device": "cpu", "save_every": 0, "evaluate_every": 0}
    common = {"task": "node", "output": str(tmp_path / "runs"), "train": train}
    common["data"] = {"train": rows_files(tmp_path), "validation": str(tmp_path / "known.jsonl")}
    new = {"new": {"architecture": "GCN", "config": GCN}, "options": {"graph": graph}}
    first = execute(check(common | {"name": "teacher", "student": new, "method": "node_labels"}))
    assert (first.model / "model.safetensors").is_file() and first.counts.rows == 6
    new = {"new": {"architecture": "MLP", "config": MLP}, "options": {"graph": graph}}
    teacher = {"model": str(first.model), "options": {"graph": graph}, "cache": True}
    recipe = check(common | {"name": "student", "student": new, "method": "glnn", "teacher": teacher})
    planned = plan(recipe)
    assert planned.rows == 6 and planned.memory["student weights"] == 4 * (3 * 5 + 5 + 5 * 2 + 2)
    metrics = {entry["name"]: entry["metrics"] for entry in execute(recipe).evaluation["systems"]}
    assert set(metrics) == {"teacher", "glnn"} and 0 <= metrics["glnn"]["accuracy"] <= 1
    assert "probability_loyalty" in metrics["glnn"]
