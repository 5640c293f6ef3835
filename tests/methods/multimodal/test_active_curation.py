"""Active curation: the draw against its exact chances, scores by hand, what is trained and copied, bad input.

.venv/bin/python -m pytest tests/methods/multimodal/test_active_curation.py
"""

import math
from collections import Counter
from itertools import permutations

import pytest
import torch
from tests.contracts import worlds

from stillroom.checks import build_method
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.multimodal.active_curation import choose, fitted_bias, joint_sample
from stillroom.objectives import sigmoid_pair_losses
from stillroom.recipe import Method
from stillroom.signals import Batch, Signals
from stillroom.teachers import LocalTeacher

STEP = Step(0, 10)
DRAWS = 8_000


def matrix(seed, size=4, spread=1.0):
    return spread * torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(scores, count, chunks):
    generator = torch.Generator().manual_seed(0)
    found = (joint_sample(scores, count, chunks=chunks, generator=generator) for _ in range(DRAWS))
    return Counter(tuple(rows.tolist()) for rows in found)


# --- the draw ---------------------------------------------------------------------------------------------------------


def chances(scores, order):
    """The chance of drawing these rows in this order, one by one, from the definition."""
    size, chance, chosen = len(scores), 1.0, []
    for row in order:
        left = [i for i in range(size) if i not in chosen]
        logit = {i: scores[i][i] + sum(scores[k][i] + scores[i][k] for k in chosen) if chosen else 0.0 for i in left}
        chance *= math.exp(logit[row]) / sum(math.exp(value) for value in logit.values())
        chosen.append(row)
    return chance


def test_rows_are_drawn_with_the_chances_of_the_definition():
    scores = matrix(1)
    found, exact = drawn(scores, 3, 3), {order: chances(scores.tolist(), order) for order in permutations(range(4), 3)}
    assert sum(exact.values()) == pytest.approx(1)
    for order, chance in exact.items():
        assert found[order] / DRAWS == pytest.approx(chance, abs=4 * math.sqrt(chance / DRAWS) + 1e-4), order


def test_the_first_chunk_is_uniform_and_a_chunk_is_drawn_without_replacement():
    scores = matrix(2, spread=30.0)  # so sharp that anything but the first chunk is certain
    found = drawn(scores, 2, 1)
    assert len(found) == 12 and max(found.values()) / min(found.values()) < 1.3


def test_pairs_that_score_only_together_are_drawn_together():
    """Rows 0 and 3 are nothing alone; each makes the other likely."""
    scores = torch.zeros(4, 4)
    scores[0, 3] = 20.0
    found = drawn(scores, 2, 2)
    assert {rows for rows in found if rows[0] in (0, 3)} == {(0, 3), (3, 0)}
    assert len({rows for rows in found if rows[0] in (1, 2)}) == 6


def test_single_pairs_are_drawn_by_what_the_reference_makes_of_them():
    """The theory: without losses between pairs, the second draw is by the reference's p(x), or by p(x) / q(x)."""
    sure, unsure = torch.tensor([0.6, 0.2, 0.1, 0.1]), torch.tensor([0.3, 0.4, 0.1, 0.2])
    learner, reference = torch.diag(-unsure.log()).double(), torch.diag(-sure.log()).double()
    for score, weight in (("easy", sure), ("learnability", sure / unsure), ("hard", 1 / unsure)):
        generator, found = torch.Generator().manual_seed(0), Counter()
        for _ in range(DRAWS):
            first, second = choose(learner, reference, 2, chunks=2, score=score, generator=generator).tolist()
            if first == 3:
                found[second] += 1
        for row in range(3):
            wanted = float(weight[row] / weight[:3].sum())
            assert found[row] / found.total() == pytest.approx(wanted, abs=0.045), score


def test_what_is_drawn_is_a_part_of_the_rows_each_once():
    rows = joint_sample(matrix(3, 320, spread=100.0), 64, chunks=16)
    assert len(set(rows.tolist())) == 64 and int(rows.min()) >= 0 and int(rows.max()) < 320


@pytest.mark.parametrize(
    ("scores", "count", "chunks", "said"),
    [
        (torch.zeros(4, 4), 3, 2, "3 can't be drawn in 2 equal chunks"),
        (torch.zeros(4, 4), 6, 2, "of 4 rows, 6 can't be drawn"),
        (torch.zeros(4, 3), 2, 2, "square matrix"),
        (torch.full((4, 4), math.nan), 2, 2, "finite"),
    ],
)
def test_a_draw_that_can_not_be_is_refused(scores, count, chunks, said):
    with pytest.raises(ValueError, match=said):
        joint_sample(scores, count, chunks=chunks)
    with pytest.raises(ValueError, match="learnability, easy or hard"):
        choose(matrix(1), matrix(2), 2, chunks=2, score="best")


# --- scores -----------------------------------------------------------------------------------------------------------


def test_pair_losses_by_hand():
    pictures, texts = torch.eye(2).double(), torch.tensor([[3.0, 0.0], [1.0, 1.0]]).double()
    found = sigmoid_pair_losses(pictures, texts, torch.eye(2), scale=4.0, bias=-1.0)
    half = 4 / math.sqrt(2) - 1
    expected = [
        [math.log1p(math.exp(-3)), math.log1p(math.exp(half))],
        [math.log1p(math.exp(-1)), math.log1p(math.exp(-half))],
    ]
    torch.testing.assert_close(found, torch.tensor(expected).double())


def test_the_fitted_bias_is_where_the_sigmoid_loss_is_least():
    logits = [matrix(seed, 6, spread=5.0) for seed in (1, 2)]
    bias = fitted_bias(logits).requires_grad_()
    loss = sum(torch.nn.functional.softplus(-(2 * torch.eye(6) - 1) * (part + bias)).sum() for part in logits)
    assert float(torch.autograd.grad(loss, bias)[0]) == pytest.approx(0, abs=1e-6)


# --- the method in the loop -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return worlds.build("image-text", tmp_path_factory.mktemp("world"))


def prepared(world, **settings):
    """A method in training, a batch as the loop hands it over, and what the method makes of it."""
    made = worlds.case("active-curation", world, **({"filter": 0.5, "chunks": 2} | settings))
    made.objective.train()
    rows = made.batch(world.rows)
    torch.manual_seed(0)
    return made, rows, made.objective.prepare(rows, STEP, made.student.model.train(), made.student.view)


@pytest.mark.parametrize("score", ["learnability", "easy", "hard"])
def test_rows_are_chosen_by_both_models_losses_in_evaluation_mode(world, score):
    made, rows, kept = prepared(world, score=score, distillation=0.0 if score == "hard" else 1.0)
    assert made.student.model.training
    with torch.no_grad():
        losses = []
        for opened, bias in ((made.student, made.objective.bias), (made.teacher, made.objective.reference_bias)):
            found = opened.view.emit(opened.model.eval(), rows.student, made.objective.needs.student)
            assert float(found.bias) == 0  # a CLIP has none: one is learnt for the student, one fitted to the teacher
            pair = found.towers["image"], found.towers["text"]
            losses.append(sigmoid_pair_losses(*pair, torch.eye(8), scale=found.scale, bias=bias))
    torch.manual_seed(0)
    wanted = choose(*losses, 4, chunks=2, score=score)
    assert kept.ids == [rows.ids[place] for place in wanted.tolist()]
    torch.testing.assert_close(kept.student["pixel_values"], rows.student["pixel_values"][wanted])
    assert int(kept.counts()["row"]) == 4


def test_the_reference_is_asked_once_about_the_super_batch(world, tmp_path):
    made = worlds.case("active-curation", world)
    for model in (made.student.model, made.teacher.model, made.objective):
        model.float()
    trainer = worlds.trainer(made, tmp_path, steps=2, batch_size=8)
    asked, plain = [], trainer.teacher

    def counted(batch, needs):
        asked.append(len(batch))
        return plain(batch, needs)

    trainer.teacher = counted
    trainer.run()
    assert asked == [8, 8]


def test_signals_of_the_reference_go_with_the_rows(world):
    made, rows, kept = prepared(world)
    again = LocalTeacher(made.teacher.model, made.teacher.view)(kept, made.objective.needs.teacher)
    torch.testing.assert_close(kept.emitted.towers["text"], again.towers["text"])
    assert float(kept.emitted.scale) == float(made.objective.ask(rows).scale)


def test_uniform_takes_the_first_rows_and_asks_nobody(world):
    made, rows, kept = prepared(world, score="uniform", distillation=0.0)
    assert kept.ids == rows.ids[:4] and not made.objective.asks and not made.objective.needs.teacher


def test_in_evaluation_all_rows_count(world):
    made, rows, _ = prepared(world)
    made.objective.eval()
    assert made.objective.prepare(rows, STEP, made.student.model, made.student.view) is rows


def test_iid_distillation_copies_on_other_rows(world):
    made, _, kept = prepared(world, distil_on="random")
    mark = kept.columns["chosen"]
    assert mark.tolist() == [True] * 4 + [False] * 4
    student = made.student.view.emit(made.student.model.eval(), kept.student, made.objective.needs.student)
    both = made.objective.parts(student, kept.emitted, kept, STEP)
    for name, part in (("sigmoid", kept.take(mark.nonzero()[:, 0])), ("kd", kept.take((~mark).nonzero()[:, 0]))):
        alone = made.student.view.emit(made.student.model, part.student, made.objective.needs.student)
        found = made.objective.parts(alone, part.emitted, part, STEP)[name]
        torch.testing.assert_close(both[name].sum, found.sum)


def test_the_parts_by_hand(world):
    """Three pairs; the sigmoid loss is a mean of row sums, kd that of two cross-entropies, each with its own scale."""
    made, _, _ = prepared(world)
    draw = torch.Generator().manual_seed(7)
    u, w, big_u, big_w = (torch.randn(3, 2, generator=draw, dtype=torch.float64) for _ in range(4))
    student = Signals(towers={"image": u, "text": w}, scale=torch.tensor(5.0), bias=torch.tensor(0.0))
    teacher = Signals(towers={"image": big_u, "text": big_w}, scale=torch.tensor(9.0), bias=torch.tensor(0.0))
    batch = Batch(ids=list("abc"), student={}, mask=torch.ones(3, dtype=torch.bool))
    found = made.objective.parts(student, teacher, batch, STEP)

    def cosine(a, b):
        return float(a @ b / a.norm() / b.norm())

    sigmoid = kd = 0.0
    for i in range(3):
        for j in range(3):
            sigmoid += math.log1p(math.exp((-1 if i == j else 1) * (5 * cosine(u[i], w[j]) - 10)))
        for ours, theirs in (((u[i], w), (big_u[i], big_w)), ((w[i], u), (big_w[i], big_u))):
            q, p = (
                torch.tensor([scale * cosine(one, other) for other in others]).double().softmax(0)
                for scale, (one, others) in ((5, ours), (9, theirs))
            )
            kd -= float((p * q.log()).sum()) / 2
    assert float(found["sigmoid"].sum) == pytest.approx(sigmoid / 3, rel=1e-6)
    assert float(found["kd"].sum) == pytest.approx(kd / 3, rel=1e-6)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_super_batch_that_chunks_do_not_divide_is_refused(world):
    with pytest.raises(UserError, match=r"of 8 rows the filter 0\.5 leaves 4, which 3 chunks do not divide"):
        prepared(world, chunks=3)


@pytest.mark.parametrize(
    "settings",
    [
        {"filter": 0},
        {"filter": 1},
        {"chunks": 0},
        {"distillation": -1},
        {"score": "best"},
        {"distil_on": "random", "distillation": 0},
    ],
)
def test_a_setting_out_of_range_is_refused(settings):
    with pytest.raises(UserError, match="active-curation"):
        build_method(Method(name="active-curation", **settings))
