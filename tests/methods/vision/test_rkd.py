"""RKD: its two losses against slow references, what they are blind to, the order of neighbours, tasks, what is refused.

.venv/bin/python -m pytest tests/methods/vision/test_rkd.py
"""

import math
import warnings

import pytest
import torch
from tests.oracles import objectives as oracle

from stillroom.checks import build_method, build_methods
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.vision.rkd import RKD, hard_dark_rank
from stillroom.recipe import Method, Scratch, check
from stillroom.signals import Batch, Signals
from stillroom.students.open import new_model
from stillroom.views.load import open_model

STEP = Step(0, 1)


def vectors(seed, rows, width):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = vectors(0, 7, 3), vectors(1, 7, 5)


def batch(rows=7, mask=None, labels=None):
    mask = torch.ones(rows, dtype=torch.bool) if mask is None else torch.tensor(mask).bool()
    return Batch(ids=[str(n) for n in range(rows)], student={}, mask=mask, labels=labels)


def parts(student=STUDENT, teacher=TEACHER, of=None, logits=None, **settings):
    of = of or batch(len(student))
    return RKD(**settings).parts(Signals(embedding=student, logits=logits), Signals(embedding=teacher), of, STEP)


def total(found, method):
    return sum(method.weights.get(name, 1.0) * float(part.mean) for name, part in found.items())


def test_both_losses_are_those_of_the_definition():
    found = parts()
    unit = (TEACHER / TEACHER.norm(dim=-1, keepdim=True)).numpy()
    assert float(found["distance"].sum) == pytest.approx(oracle.distance_relation(STUDENT.numpy(), unit), rel=1e-9)
    assert float(found["angle"].sum) == pytest.approx(oracle.angle_relation(STUDENT.numpy(), unit), rel=1e-9)
    assert int(found["distance"].count) == int(found["angle"].count) == int(batch().counts()["batch"]) == 1
    assert RKD().weights == {"distance": 1.0, "angle": 2.0}


def test_the_student_may_turn_shift_and_scale_its_space():
    turned = 3 * STUDENT @ torch.linalg.qr(vectors(2, 3, 3)).Q + 5
    for name, part in parts(turned).items():
        assert float(part.sum) == pytest.approx(float(parts()[name].sum), rel=1e-9)


def test_a_student_that_is_the_teacher_in_more_dimensions_has_nothing_to_learn():
    wider = torch.nn.functional.pad(TEACHER, (0, 4))
    assert all(float(part.sum) < 1e-12 for part in parts(wider, normalise_teacher=False).values())
    assert all(float(part.sum) > 1e-4 for part in parts(wider).values())


def test_masked_rows_are_not_there():
    mask = [1, 0, 1, 1, 0, 1, 1]
    kept = torch.tensor(mask).bool()
    poisoned = STUDENT.masked_fill(~kept.unsqueeze(1), float("nan"))
    every = {"distance": 1.0, "angle": 1.0, "dark_rank": 1.0}
    found, wanted = parts(poisoned, of=batch(mask=mask), **every), parts(STUDENT[kept], TEACHER[kept], **every)
    for name, part in wanted.items():
        assert float(found[name].sum) == pytest.approx(float(part.sum), rel=1e-12) and found[name].count == part.count


def test_only_what_has_a_weight_is_computed():
    assert set(parts(angle=0)) == {"distance"} and set(parts(distance=0)) == {"angle"}
    assert set(parts(distance=0, angle=0, dark_rank=1)) == {"dark_rank"}


def test_the_gradient_reaches_the_student_through_its_mean_distance_and_not_the_teacher():
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    found = parts(student, teacher, angle=0)
    found["distance"].sum.backward()
    # The loss does not change with the student's scale, so its gradient is orthogonal to growing.
    assert student.grad.abs().max() > 1e-4 and float((student.grad * STUDENT).sum()) == pytest.approx(0, abs=1e-12)
    assert teacher.grad is None


# --- HardDarkRank -----------------------------------------------------------------------------------------------------


def test_the_order_of_neighbours_is_scored_as_by_hand():
    """The slow way: sort each row by the teacher, then draw the nearest four by the student's scores."""
    expected = 0.0
    for i in range(7):
        others = sorted((math.dist(TEACHER[i], TEACHER[j]), j) for j in range(7) if j != i)
        near = [j for _, j in others[:4]]
        scores = [-3.0 * math.dist(STUDENT[i], STUDENT[j]) ** 3 for j in near]
        expected += oracle.plackett_luce(scores, range(4))
    found = hard_dark_rank(STUDENT, TEACHER, torch.ones(7))
    assert float(found.sum) == pytest.approx(expected, rel=1e-9) and int(found.count) == 7
    unit = TEACHER / TEACHER.norm(dim=-1, keepdim=True)
    alone = parts(teacher=unit, distance=0, angle=0, dark_rank=1)["dark_rank"]
    assert float(alone.sum) == pytest.approx(float(hard_dark_rank(STUDENT, unit, torch.ones(7)).sum), rel=1e-12)


def test_the_teachers_order_is_all_that_counts():
    line = torch.tensor([[0.0], [1.0], [2.5], [4.5], [7.0], [10.0]])
    far = torch.tensor([[0.0], [10.0], [25.0], [45.0], [70.0], [100.0]])
    student = vectors(3, 6, 2)
    found = [float(hard_dark_rank(student, teacher, torch.ones(6)).sum) for teacher in (line, far)]
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_neighbours_that_coincide_give_finite_gradients():
    student = torch.ones(6, 2, requires_grad=True)
    found = hard_dark_rank(student, vectors(4, 6, 3), torch.ones(6)).sum
    found.backward()
    assert found.isfinite() and student.grad.isfinite().all()


# --- tasks ------------------------------------------------------------------------------------------------------------


def test_a_triplet_loss_may_stand_beside_the_relations():
    student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.5], [9.0, 9.0]])
    found = parts(student, vectors(5, 4, 3), of=batch(4, labels=torch.tensor([0, 0, 1, 2])), task="triplet", margin=1.0)
    # Anchor 0: d(p) 1, d(n) 1.5, off by 0.5. Anchor 1: d(p) 1, d(n) sqrt(3.25), off by 0.197. The far row is well off.
    assert float(found["triplet"].sum) == pytest.approx(0.5 + 2 - math.sqrt(3.25), rel=1e-6)
    assert int(found["triplet"].count) == 2


@pytest.fixture
def classifier(tmp_path):
    torch.manual_seed(0)
    config = {"num_channels": 1, "embedding_size": 4, "hidden_sizes": [4, 6], "depths": [1, 1], "layer_type": "basic"}
    new_model(Scratch(architecture="resnet", config=config), "image", list, tmp_path)
    return open_model(str(tmp_path), "image", size=8, channels=1)


def test_a_classifier_learns_labels_and_relations_of_what_its_head_reads(classifier):
    rows = [{"image": image.tolist(), "label": n % 2} for n, image in enumerate(torch.rand(5, 8, 8))]
    of = classifier.view.collate([classifier.view.encode(row) for row in rows])
    given = Batch(ids=of.ids, student=of.arguments, mask=of.mask, labels=of.labels)
    method = RKD(distance=25, angle=50, task="cross-entropy")
    method.setup(classifier.model, None, given, classifier.view)
    signals = classifier.view.emit(classifier.model.eval(), of.arguments, method.needs.student)
    torch.testing.assert_close(classifier.model.classifier(signals.embedding), signals.logits)
    found = method.parts(signals, Signals(embedding=vectors(6, 5, 9)), given, STEP)
    by_hand = -sum(float(signals.logits[n].detach().log_softmax(-1)[n % 2]) for n in range(5))
    assert float(found["cross_entropy"].sum) == pytest.approx(by_hand, rel=1e-5)
    assert int(found["cross_entropy"].count) == 5 and method.weights == {"distance": 25, "angle": 50}


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "settings", "least"),
    [(1, {"angle": 0}, 2), (2, {}, 3), (2, {"distance": 0}, 3), (4, {"dark_rank": 1.0}, 5)],
)
def test_a_batch_too_small_for_a_relation_is_refused(rows, settings, least):
    with pytest.raises(UserError, match=rf"need {least} rows in a batch, and one has {rows}; raise train.batch_size"):
        parts(STUDENT[:rows], TEACHER[:rows], **settings)
    assert parts(STUDENT[:least], TEACHER[:least], **settings)


@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_vectors_that_are_all_the_same_are_said(whose):
    both = {"student": STUDENT, "teacher": TEACHER} | {whose: torch.ones(7, 4, dtype=torch.float64)}
    with pytest.warns(UserWarning, match=f"the {whose}'s vectors of a batch are all the same"):
        found = parts(**both)
    assert all(part.sum.isfinite() for part in found.values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts()


@pytest.mark.parametrize(
    "settings", [{"distance": -1}, {"distance": 0, "angle": 0}, {"margin": 0}, {"task": "tripel"}, {"angel": 2}]
)
def test_a_setting_out_of_range_is_refused(settings):
    with pytest.raises(UserError, match="rkd"):
        build_method(Method(name="rkd", **settings))


def test_a_classifier_whose_head_would_learn_nothing_is_refused(classifier):
    with pytest.raises(UserError, match=r"untrained; set method\.task to cross-entropy"):
        RKD().setup(classifier.model, None, batch(), classifier.view)


def test_cross_entropy_asks_for_a_classifier():
    plain = {
        "name": "x",
        "teacher": "t",
        "student": "s",
        "data": "d",
        "method": {"name": "rkd", "task": "cross-entropy"},
    }
    with pytest.raises(UserError, match="learns by logits, which a model of the kind 'image-encoder' does not give"):
        build_methods(check(plain | {"task": "image-encoder"}))
    assert set(build_methods(check(plain | {"task": "image"}))) == {"rkd"}
