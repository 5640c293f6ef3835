"""VQGraph: reconstructions and code assignments by hand, straight-through and stop-gradient, what is refused.

.venv/bin/python -m pytest tests/methods/graphs/test_vqgraph.py
"""

import math

import pytest
import torch
from torch import nn

from stillroom.checks import build_method
from stillroom.data.graphs import Graph
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.graphs.vqgraph import QuantisedGNN, VQGraph, edge_error, node_error
from stillroom.recipe import Method
from stillroom.signals import Signals
from stillroom.views.base import make_batch
from stillroom.views.graph import NodeView
from stillroom.views.graph_models import built

STEP = Step(0, 1)
SHAPE = {"in_channels": 3, "hidden_channels": 4, "out_channels": 2, "codes": 5}


def vectors(seed, rows, width):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def view(tmp_path):
    Graph.of(vectors(0, 6, 3), torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])).save(tmp_path / "graph.safetensors")
    return NodeView(graph=tmp_path / "graph.safetensors")


def batch(view, nodes=range(6), labels=(0, 1, None, 1, None, None)):
    rows = [{"node": node, "label": labels[node]} for node in nodes]
    return make_batch(view, None, [{"student": view.encode(row)} for row in rows])


@pytest.fixture
def teacher():
    torch.manual_seed(1)
    return QuantisedGNN(**SHAPE).eval().requires_grad_(False)


@pytest.fixture
def student():
    torch.manual_seed(2)
    config = {"in_channels": 3, "hidden_channels": 7, "out_channels": 2, "num_layers": 2, "norm": None}
    return built(NodeView.config("MLP", config))


def losses(view, student, teacher, given=None, **settings):
    given = batch(view) if given is None else given
    method = VQGraph(**settings)
    torch.manual_seed(3)
    method.setup(student, teacher, given, view)
    ours = view.emit(student, given.student, method.needs.student)
    with torch.no_grad():
        theirs = view.emit(teacher, given.student, method.needs.teacher)
    return method, method.parts(ours, theirs, given, STEP), ours, theirs


def softmax(values):
    found = [math.exp(value) for value in values]
    return [value / sum(found) for value in found]


def kl(first, second):
    return sum(p * math.log(p / q) for p, q in zip(first, second, strict=True))


# --- the student ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parity", ["paper", "code"])
def test_code_assignments_are_copied_as_the_definition_says(view, student, teacher, parity):
    method, found, ours, theirs = losses(view, student, teacher, parity=parity)
    book, h = teacher.quantiser.book, theirs.taps["encoded"]
    expected = 0.0
    for node in range(6):
        g = method.map(ours.embedding[node]).detach()
        target = [float(h[node] @ code / h[node].norm() / code.norm()) / 4 for code in book]
        if parity == "code":
            said = [-float((g - code).norm()) / 4 for code in book]
        else:
            said = [float(g @ code / g.norm() / code.norm()) / 4 for code in book]
        expected += 16 * kl(softmax(target), softmax(said))
    assert float(found["codes"].sum.detach()) == pytest.approx(expected, rel=1e-3)
    assert int(found["codes"].count) == 6


def test_labels_count_where_they_are_known_and_soft_labels_everywhere(view, student, teacher):
    method, found, ours, theirs = losses(view, student, teacher, labels=0.25)
    hard = -sum(float(ours.logits[node].detach().log_softmax(-1)[label]) for node, label in ((0, 0), (1, 1), (3, 1)))
    assert float(found["labels"].sum.detach()) == pytest.approx(hard, rel=1e-5) and int(found["labels"].count) == 3
    soft = sum(kl(softmax(theirs.logits[n].tolist()), softmax(ours.logits[n].detach().tolist())) for n in range(6))
    assert float(found["soft_labels"].sum.detach()) == pytest.approx(soft, rel=1e-4)
    assert method.weights == {"labels": 0.25, "soft_labels": 0.75, "codes": 1.0}


def test_the_student_reads_a_nodes_own_features_and_the_teacher_the_graph(view, student, teacher, tmp_path):
    Graph.of(view.graph.features, torch.tensor([[0], [5]])).save(tmp_path / "other.safetensors")
    other = NodeView(graph=tmp_path / "other.safetensors")
    arguments = batch(view).student
    for model, same in ((student, True), (teacher, False)):
        found = [one.emit(model, arguments, ("logits",)).logits for one in (view, other)]
        assert torch.equal(*found) is same


def test_a_student_as_near_to_every_code_as_the_teacher_has_nothing_to_learn_of_them(view, teacher):
    """Its hidden layer holds the teacher's vectors, and the map is the identity."""
    given = batch(view)
    with torch.no_grad():
        theirs = view.emit(teacher, given.student, ("logits", "tap:encoded"))
    method = VQGraph()
    method.setup(nn.Identity(), teacher, given, type("V", (), {"emit": lambda *_: Signals(embedding=torch.ones(6, 4))}))
    with torch.no_grad():
        method.map.weight.copy_(torch.eye(4))
        method.map.bias.zero_()
    ours = Signals(logits=theirs.logits, embedding=3 * theirs.taps["encoded"])
    found = method.parts(ours, theirs, given, STEP)
    assert all(abs(float(found[name].sum.detach())) < 1e-5 for name in ("soft_labels", "codes"))


# --- the tokenizer ----------------------------------------------------------------------------------------------------


def tokenizer_parts(view, model, mask=None, **settings):
    given = batch(view)
    given.mask = given.mask if mask is None else mask
    method = VQGraph(stage="tokenizer", **settings)
    method.setup(model, None, given, view)
    found = view.emit(model, given.student, method.needs.student)
    return method, method.parts(found, None, given, STEP), found


def test_the_reconstructions_are_those_of_the_definition(view):
    torch.manual_seed(4)
    model = QuantisedGNN(**SHAPE).eval()
    method, found, seen = tokenizer_parts(view, model)
    h = model.convs[0](view.graph.features, view.graph.edges).relu().detach()
    torch.testing.assert_close(seen.taps["encoded"].detach(), h)
    codes = torch.stack([model.quantiser.book[int((model.quantiser.book @ (one / one.norm())).argmax())] for one in h])
    rebuilt = codes @ model.node_decoder.weight.T + model.node_decoder.bias
    assert float(found["node"].sum.detach()) == pytest.approx(float(((h - rebuilt.detach()) ** 2).mean()), rel=1e-5)
    assert float(found["commitment"].sum.detach()) == pytest.approx(float(((h - codes.detach()) ** 2).mean()), rel=1e-5)
    decoded = (codes @ model.edge_decoder.weight.T + model.edge_decoder.bias).detach()
    products = [[float(a @ b) for b in decoded] for a in decoded]
    low, high = min(map(min, products)), max(map(max, products))
    wanted = [[1.0 if abs(i - j) <= 1 else 0.0 for j in range(6)] for i in range(6)]
    squares = [((products[i][j] - low) / (high - low) - wanted[i][j]) ** 2 for i in range(6) for j in range(6)]
    assert float(found["edge"].sum.detach()) == pytest.approx(math.sqrt(sum(squares) / 36), rel=1e-5)
    assert method.weights == {"labels": 1.0, "node": 1e-3, "edge": 0.03, "commitment": 0.25}
    assert 1 <= method.log()["perplexity"] <= 5 or method.log()["perplexity"] == pytest.approx(0, abs=1e-6)


def test_the_papers_forms_of_the_reconstructions():
    decoded, target = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    sigmoid = [1 / (1 + math.exp(-value)) for value in (1, 0, 0, 4)]
    by_hand = sum((a - b) ** 2 for a, b in zip(sigmoid, (1, 0, 0, 1), strict=True)) / 4
    assert float(edge_error(decoded, target, "sigmoid")) == pytest.approx(by_hand, rel=1e-6)
    turned = torch.tensor([[1.0, 0.0], [2.0, 0.0]])  # cosines 1 and 0
    assert float(node_error(decoded, turned, "cosine", gamma=2.0)) == pytest.approx((0 + 1) / 2, rel=1e-5)


def test_gradients_pass_the_codebook_and_the_codes_move_only_in_training(view):
    torch.manual_seed(5)
    model = QuantisedGNN(**SHAPE)
    before = model.quantiser.book.clone()
    view.emit(model.eval(), batch(view).student, ("logits",))
    assert torch.equal(model.quantiser.book, before)
    _, found, _ = tokenizer_parts(view, model.train())
    assert not torch.equal(model.quantiser.book, before) and "quantiser.book" not in dict(model.named_parameters())
    found["labels"].sum.backward()
    assert model.convs[0].lin.weight.grad.abs().sum() > 0  # through the quantiser
    assert model.node_decoder.weight.grad is None  # which no label speaks to


def test_an_empty_mask_gives_exact_zeros(view):
    torch.manual_seed(6)
    _, found, _ = tokenizer_parts(view, QuantisedGNN(**SHAPE), torch.zeros(6, dtype=torch.bool))
    assert all(float(part.sum.detach()) == 0 for part in found.values())


# --- what is refused --------------------------------------------------------------------------------------------------


def test_an_edge_target_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match="2 nodes need a square matrix of edges"):
        edge_error(torch.ones(2, 3), torch.ones(2, 3), "min-max")


def test_a_teacher_without_a_codebook_is_refused(view, student):
    with pytest.raises(UserError, match=r"the teacher has no codebook; it must be a QuantisedGNN"):
        VQGraph().setup(student, student, batch(view), view)


def test_fewer_than_two_codes_are_refused():
    with pytest.raises(UserError, match="at least 2 codes"):
        built(NodeView.config("QuantisedGNN", SHAPE | {"codes": 1}))


@pytest.mark.parametrize(
    "settings", [{"labels": 2}, {"codes": -1}, {"temperature": 0}, {"gamma": 0}, {"stage": "both"}, {"edges": "max"}]
)
def test_a_setting_out_of_range_is_refused(settings):
    with pytest.raises(UserError, match="vqgraph"):
        build_method(Method(name="vqgraph", **settings))
