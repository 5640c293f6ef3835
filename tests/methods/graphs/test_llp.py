"""LLP: its three losses by hand, what carries gradient, contexts and negatives that are drawn, what is refused.

.venv/bin/python -m pytest tests/methods/graphs/test_llp.py
"""

import math

import pytest
import torch

from stillroom.checks import build_method, check_teacher
from stillroom.data.graphs import Graph
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.graphs.llp import LLP, rank_loss
from stillroom.recipe import Method, check
from stillroom.signals import Signals
from stillroom.views.base import make_batch
from stillroom.views.graph import LinkView

STEP = Step(0, 1)


def logit(p):
    return math.log(p / (1 - p))


def probabilities(*rows):
    return torch.tensor([[logit(p) for p in row] for row in rows], dtype=torch.float64)


@pytest.fixture
def view(tmp_path):
    """A path of five nodes, and a sixth that nothing joins."""
    Graph.of(torch.eye(6), torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])).save(tmp_path / "graph.safetensors")
    return LinkView(graph=tmp_path / "graph.safetensors")


def batch(view, *rows):
    return make_batch(view, None, [{"student": view.encode(row)} for row in rows])


ROW = {"source": 0, "target": 1, "negatives": [[0, 4]], "context": [1, 2, 3]}
STUDENT, TEACHER = probabilities([0.8, 0.3, 0.5, 0.6, 0.2]), probabilities([0.9, 0.1, 0.9, 0.4, 0.35])


def parts(view, student=STUDENT, teacher=TEACHER, rows=(ROW,), **settings):
    return LLP(**settings).parts(Signals(scores=student), Signals(scores=teacher), batch(view, *rows), STEP)


def test_the_three_losses_are_those_of_the_definition(view):
    """Context: student (0.5, 0.6, 0.2), teacher (0.9, 0.4, 0.35), delta 0.1."""
    found = parts(view)
    assert float(found["links"].sum) == pytest.approx(-(math.log(0.8) + math.log(0.7)) / 2, rel=1e-9)
    # 1 over 2: 0.1 - (0.5 - 0.6) = 0.2. 1 over 3: 0.1 - 0.3 < 0. 2 and 3 are 0.05 apart: the constant 0.1.
    assert float(found["rank"].sum) == pytest.approx((0.2 + 0 + 0.1) / 3, rel=1e-9)
    p, q = ([math.exp(v) for v in row] for row in ((0.9, 0.4, 0.35), (0.5, 0.6, 0.2)))
    p, q = ([v / sum(row) for v in row] for row in (p, q))
    kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert float(found["distribution"].sum) == pytest.approx(kl, rel=1e-9)
    assert {int(part.count) for part in found.values()} == {1}
    assert LLP().weights == {"links": 0.1, "rank": 1.0, "distribution": 1.0}


def test_a_softer_distribution_is_scaled_by_the_square_of_its_temperature(view):
    p, q = ([math.exp(v / 2) for v in row] for row in ((0.9, 0.4, 0.35), (0.5, 0.6, 0.2)))
    p, q = ([v / sum(row) for v in row] for row in (p, q))
    kl = 4 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    found = parts(view, temperature=2.0, rank=0)
    assert float(found["distribution"].sum) == pytest.approx(kl, rel=1e-9) and set(found) == {"links", "distribution"}


def test_pairs_that_the_teacher_does_not_order_cost_delta_and_teach_nothing():
    student = torch.tensor([[0.1, 0.9]], dtype=torch.float64, requires_grad=True)
    found = rank_loss(student, torch.tensor([[0.5, 0.55]], dtype=torch.float64), torch.ones(1, 2), delta=0.1)
    found.sum.backward()
    assert float(found.sum.detach()) == pytest.approx(0.1) and not student.grad.any()


def test_a_student_with_the_teachers_scores_has_only_ties_to_pay(view):
    found = parts(view, student=TEACHER, delta=0.04)
    assert float(found["distribution"].sum) == pytest.approx(0, abs=1e-12)
    assert float(found["rank"].sum) == pytest.approx(0, abs=1e-12)
    assert float(parts(view, student=TEACHER)["rank"].sum) == pytest.approx(0.1 / 3)  # one pair within 0.1


def test_only_the_order_counts_in_the_rank_loss(view):
    other = probabilities([0.9, 0.1, 0.99, 0.6, 0.55])
    assert float(parts(view)["rank"].sum) == pytest.approx(float(parts(view, teacher=other)["rank"].sum), rel=1e-12)


def test_contexts_are_walks_and_then_nodes_drawn_evenly(view):
    torch.manual_seed(0)
    rows = [{"source": 0, "target": 1}] * 400
    method = LLP(walks=2, hops=3, random=0.5)
    drawn = method.prepare(batch(view, *rows), STEP, torch.nn.Identity(), view)
    pairs, links, anchors = drawn.student["pairs"], drawn.columns["links"], drawn.student["nodes"]
    assert pairs.shape == (400, 2 + 2 * 3 + 3, 2) and drawn.student["candidates"].all()
    assert links[0].tolist() == [1, 0, *[-1] * 9] and (links == links[0]).all()
    assert (pairs[:, 0] == torch.tensor([0, 1])).all()
    near = {(a, b) for a, b in view.graph.edges.T.tolist()}
    assert not any((a, b) in near or a == b for a, b in pairs[:, 1].tolist())
    assert set(anchors.tolist()) == set(range(6)) and (pairs[:, 2:, 0] == anchors.unsqueeze(1)).all()
    for anchor, context in zip(anchors.tolist(), pairs[:, 2:, 1].tolist(), strict=True):
        for walk in (context[:3], context[3:6]):
            steps = list(zip([anchor, *walk], walk, strict=False))
            assert anchor == 5 or all(step in near for step in steps)
    evenly = torch.bincount(pairs[:, -3:, 1].flatten(), minlength=6) / 1200
    assert (evenly - 1 / 6).abs().max() < 0.05
    assert method.log()["isolated"] == pytest.approx(float((anchors == 5).double().mean()))


def test_an_anchor_without_neighbours_gets_nodes_drawn_evenly(view):
    torch.manual_seed(1)
    drawn = LLP().prepare(batch(view, *[{"source": 0, "target": 1}] * 300), STEP, torch.nn.Identity(), view)
    alone = drawn.student["nodes"] == 5
    assert drawn.student["pairs"][alone][:, 2:8, 1].unique().numel() == 6


def test_one_long_walk_in_place_of_several(view):
    torch.manual_seed(0)
    rows = [{"source": 0, "target": 1}] * 50
    drawn = LLP(method="rw", random=0).prepare(batch(view, *rows), STEP, torch.nn.Identity(), view)
    near = {(a, b) for a, b in view.graph.edges.T.tolist()}
    for anchor, walk in zip(drawn.student["nodes"].tolist(), drawn.student["pairs"][:, 2:, 1].tolist(), strict=True):
        assert anchor == 5 or all(step in near for step in zip([anchor, *walk], walk, strict=False))


def test_rows_that_bring_their_pairs_keep_them(view):
    given = batch(view, ROW)
    assert LLP().prepare(given, STEP, torch.nn.Identity(), view) is given


def test_masked_rows_and_pairs_are_not_there(view):
    short = ROW | {"context": [1, 2]}
    student = torch.cat([STUDENT, STUDENT, STUDENT]).masked_fill(torch.tensor([[0], [1], [0]]).bool(), float("nan"))
    given = batch(view, ROW, ROW, short)
    student[2, 4] = float("nan")
    given.mask[1] = False
    found = LLP().parts(Signals(scores=student), Signals(scores=TEACHER.repeat(3, 1)), given, STEP)
    alone = [parts(view), parts(view, STUDENT[:, :4], TEACHER[:, :4], (short,))]
    for name, part in found.items():
        assert float(part.sum) == pytest.approx(sum(float(one[name].sum) for one in alone), rel=1e-12)
        assert int(part.count) == 2


@pytest.mark.parametrize(
    "settings",
    [
        *({"delta": 0}, {"delta": 1}, {"rank": 0, "distribution": 0}, {"supervised": -1}, {"temperature": 0}),
        *({"walks": 0}, {"walks": 1, "hops": 1, "random": 0}, {"method": "dfs"}),
    ],
)
def test_a_setting_out_of_range_is_refused(settings):
    with pytest.raises(UserError, match="llp"):
        build_method(Method(name="llp", **settings))


def test_a_context_of_one_node_is_refused(view):
    with pytest.raises(UserError, match="a context needs two nodes to be put in order"):
        parts(view, rows=(ROW | {"context": [1]},))


def test_a_cached_teacher_is_refused():
    recipe = check({"name": "x", "task": "link", "student": "s", "method": "llp", "data": "d"} | CACHED)
    with pytest.raises(UserError, match=r"set teacher\.cache=false"):
        check_teacher(recipe, {"llp": LLP()})


CACHED = {"teacher": {"model": "t", "cache": True}}
