"""CLIP-KD: every part by hand, gradients against autograd, what a perfect student pays, hidden patches, bad input.

.venv/bin/python -m pytest tests/methods/multimodal/test_clip_kd.py
"""

import math

import numpy as np
import pytest
import torch
from tests.contracts import worlds

from stillroom.checks import build_method
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.multimodal.clip_kd import PARTS, ClipKD
from stillroom.objectives import info_nce_gradients
from stillroom.recipe import Method
from stillroom.signals import Batch, Signals

STEP = Step(0, 10)
ROWS, OURS, THEIRS = 5, 3, 4
NONE = dict.fromkeys(("task", "fd", "icl", "crd"), 0.0)


def vectors(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def towers(seed, width, scale, rows=ROWS):
    made = {"image": vectors(seed, rows, width), "text": vectors(seed + 1, rows, width)}
    return Signals(towers=made, scale=torch.tensor(scale, dtype=torch.float64))


STUDENT, TEACHER = towers(1, OURS, 8.0), towers(5, THEIRS, 20.0)


class Table:
    """A view whose model is a table of vectors."""

    def __init__(self, signals):
        self.signals = signals

    def emit(self, model, arguments, needs):
        return self.signals


def batch(rows=ROWS, mask=None):
    mask = torch.ones(rows, dtype=torch.bool) if mask is None else torch.tensor(mask).bool()
    return Batch(ids=[str(n) for n in range(rows)], student={}, mask=mask)


def method(student=STUDENT, teacher=TEACHER, **settings):
    made = ClipKD(**(NONE | settings))
    sample = batch(2)
    sample.emitted = teacher
    torch.manual_seed(3)
    made.setup(None, None, sample, Table(student))
    return made.double()


def part(name, student=STUDENT, teacher=TEACHER, of=None, made=None, **settings):
    made = made or method(student, teacher, **{name: 1.0}, **settings)
    return made, made.parts(student, teacher, of or batch(), STEP)[name]


# --- the slow way, in numpy -------------------------------------------------------------------------------------------


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def ce(scores):
    """The summed cross-entropy of a matrix's rows, row i choosing column i."""
    return sum(-math.log(softmax(row)[place]) for place, row in enumerate(scores))


def kl(theirs, ours):
    total = 0.0
    for mine, wanted in zip(ours, theirs, strict=True):
        p, q = softmax(wanted), softmax(mine)
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total


def both(signals):
    return signals.towers["image"].numpy(), signals.towers["text"].numpy()


def projected(made):
    found = []
    for side in ("image", "text"):
        linear = made.project[side]
        rows = STUDENT.towers[side].numpy()
        found.append(unit(rows @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()))
    return found


V, S = (unit(side) for side in both(TEACHER))
v, s = (unit(side) for side in both(STUDENT))


def test_the_task_is_the_contrast_of_the_students_own_embeddings():
    _, found = part("task")
    assert float(found.sum) == pytest.approx((ce(8 * v @ s.T) + ce(8 * s @ v.T)) / 2, rel=1e-9)
    assert int(found.count) == ROWS


def test_fd_is_the_mean_squared_error_over_all_elements():
    made, found = part("fd")
    ours = projected(made)
    expected = np.mean((ours[0] - V) ** 2) + np.mean((ours[1] - S) ** 2)
    assert float(found.sum / found.count) == pytest.approx(expected, rel=1e-9)


def test_icl_puts_the_students_anchors_among_the_teachers_embeddings():
    made, found = part("icl")
    pictures, texts = projected(made)
    c = 1 / 0.07
    assert float(found.sum) == pytest.approx((ce(c * pictures @ S.T) + ce(c * texts @ V.T)) / 2, rel=1e-6)


def test_crd_matches_similarities_with_each_models_scale():
    _, found = part("crd")
    expected = (kl(20 * V @ S.T, 8 * v @ s.T) + kl(20 * S @ V.T, 8 * s @ v.T)) / 2
    assert float(found.sum) == pytest.approx(expected, rel=1e-9)


def test_cross_kd_matches_them_with_the_teachers_other_side():
    made, found = part("cross_kd")
    pictures, texts = projected(made)
    c = 1 / 0.07
    expected = (kl(20 * V @ S.T, c * pictures @ S.T) + kl(20 * S @ V.T, c * texts @ V.T)) / 2
    assert float(found.sum) == pytest.approx(expected, rel=1e-6)


def slow_gradients(p, k, tau):
    """Row by row: (P - I) k / (tau B) and (P - I)^T p / (tau B)."""
    chances = np.stack([softmax(row) for row in p @ k.T / tau]) - np.eye(len(p))
    return chances @ k / tau / len(p), chances.T @ p / tau / len(p)


@pytest.mark.parametrize(
    ("settings", "ours", "theirs"),
    [({}, 1 / 8, 1 / 20), ({"parity": "code"}, 8, 20), ({"tau": 0.5}, 0.5, 0.5)],
    ids=["paper", "code", "chosen"],
)
def test_gd_compares_four_gradients(settings, ours, theirs):
    made, found = part("gd", **settings)
    pictures, texts = projected(made)
    expected = 0.0
    for one, other, wanted, to in ((pictures, texts, V, S), (texts, pictures, S, V)):
        mine, right = slow_gradients(one, other, ours), slow_gradients(wanted, to, theirs)
        expected += sum(np.mean((a - b) ** 2) for a, b in zip(mine, right, strict=True))
    assert float(found.sum / found.count) == pytest.approx(expected, rel=1e-9)


def test_the_closed_form_is_what_autograd_finds():
    anchors, targets = (vectors(seed, 6, 4).requires_grad_() for seed in (11, 12))
    loss = torch.nn.functional.cross_entropy(3.0 * anchors @ targets.T, torch.arange(6))
    for ours, theirs in zip(
        info_nce_gradients(anchors, targets, scale=3.0), torch.autograd.grad(loss, (anchors, targets)), strict=True
    ):
        torch.testing.assert_close(ours.detach(), theirs)


def test_afd_contrasts_embeddings_fused_with_the_teachers():
    made, found = part("afd")
    fused = []
    for ours, theirs, side in zip(projected(made), (V, S), ("image", "text"), strict=True):
        linear = made.fuse[side]
        both_of = np.concatenate([ours, theirs], 1)
        fused.append(unit(both_of @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()))
    scores = fused[0] @ fused[1].T / 0.07
    assert float(found.sum) == pytest.approx((ce(scores) + ce(scores.T)) / 2, rel=1e-6)


def test_the_code_takes_its_scales_raw():
    made, found = part("icl", parity="code")
    pictures, texts = projected(made)
    c = math.log(1 / 0.07)
    assert float(found.sum) == pytest.approx((ce(c * pictures @ S.T) + ce(c * texts @ V.T)) / 2, rel=1e-6)
    assert float(made.cross_scale().detach()) == pytest.approx(2.659, abs=1e-3)


# --- what makes it that paper -----------------------------------------------------------------------------------------


def test_a_student_that_is_its_teacher_has_nothing_left_to_learn():
    """Of one width, nothing is projected: embeddings, similarities and gradients agree; contrasts stay."""
    for name in ("fd", "crd", "gd"):
        made, found = part(name, TEACHER, TEACHER)
        assert float(found.sum) == pytest.approx(0, abs=1e-12) and not list(made.parameters())
    assert float(part("task", TEACHER, TEACHER)[1].sum) > 0.01


def test_with_crd_alone_it_is_plain_distillation_of_similarities():
    plain = build_method(Method(name="similarity_kl")).parts(STUDENT, TEACHER, batch(), STEP)
    ours = method(task=1.0, crd=1.0).parts(STUDENT, TEACHER, batch(), STEP)
    assert float(ours["crd"].sum) == pytest.approx(float(plain["kd"].sum), rel=1e-12)
    assert float(ours["task"].sum) == pytest.approx(float(plain["contrast"].sum), rel=1e-12)


def test_the_recommended_sum_is_the_default():
    assert ClipKD().weights == {"task": 1.0, "fd": 2000.0, "icl": 1.0, "crd": 1.0}


def test_only_what_has_a_weight_is_made_and_computed():
    assert not list(method(task=1.0, crd=1.0).parameters())
    assert set(method(fd=1.0).parts(STUDENT, TEACHER, batch(), STEP)) == {"fd"}
    assert {name.split(".")[0] for name in method(icl=1.0, afd=1.0).state_dict()} == {
        "project",
        "cross_scale",
        "fuse",
        "fused_scale",
    }


def test_masked_rows_are_not_there_for_any_part():
    every = dict.fromkeys([name for name in PARTS if name != "mfd"], 1.0)
    made, mask = method(**every), [1, 1, 0, 1, 0]
    kept = torch.tensor(mask).bool()

    def changed(signals, change):
        return Signals(towers={side: change(rows) for side, rows in signals.towers.items()}, scale=signals.scale)

    def poisoned(signals):
        return changed(signals, lambda rows: rows.masked_fill(~kept.unsqueeze(1), float("nan")))

    found = made.parts(poisoned(STUDENT), poisoned(TEACHER), batch(mask=mask), STEP)
    wanted = made.parts(*(changed(signals, lambda rows: rows[kept]) for signals in (STUDENT, TEACHER)), batch(3), STEP)
    for name in every:
        assert float(found[name].sum) == pytest.approx(float(wanted[name].sum), rel=1e-12)
    gradients = torch.autograd.grad(sum(part.sum for part in found.values()), list(made.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


# --- hidden patches ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return worlds.build("image-text", tmp_path_factory.mktemp("world"))


def test_the_student_reads_a_quarter_of_the_patches_and_the_teacher_all(world):
    made = worlds.case("clip-kd", world, fd=0.0, mfd=2000.0)
    rows = made.batch(world.rows)
    torch.manual_seed(0)
    hidden = made.objective.prepare(rows, STEP, made.student.model, made.student.view)
    assert hidden.student["patches"].shape == (8, 1) and "patches" not in hidden.teacher  # a picture has four

    def vector(arguments):
        return made.student.view.emit(made.student.model, arguments, ("tower:image",)).towers["image"]

    changed = dict(hidden.student)
    pixels = changed["pixel_values"].clone()
    for picture, kept in zip(pixels, hidden.student["patches"][:, 0].tolist(), strict=True):
        top, left = 4 * (kept // 2), 4 * (kept % 2)
        seen = picture[:, top : top + 4, left : left + 4].clone()
        picture.normal_()
        picture[:, top : top + 4, left : left + 4] = seen
    changed["pixel_values"] = pixels
    torch.testing.assert_close(vector(changed), vector(hidden.student))  # what is hidden does not matter
    assert not torch.allclose(vector(hidden.student), vector(rows.student))
    everything = rows.student | {"patches": torch.arange(4).expand(8, 4)}
    torch.testing.assert_close(vector(everything), vector(rows.student))


def test_as_in_the_code_mfd_is_fd(world):
    made = worlds.case("clip-kd", world, fd=0.0, mfd=2000.0, parity="code")
    rows = made.batch(world.rows)
    assert made.objective.prepare(rows, STEP, made.student.model, made.student.view) is rows


def test_the_scale_is_held_back(world):
    made = worlds.case("clip-kd", world)
    for far, near in ((30.0, math.log(100)), (-3.0, 0.0)):
        made.student.model.logit_scale.data.fill_(far)
        made.objective.prepare(made.batch(world.rows), STEP, made.student.model, made.student.view)
        assert float(made.student.model.logit_scale.detach()) == pytest.approx(near)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_single_row_is_refused():
    with pytest.raises(UserError, match=r"needs two rows in a batch, and one has 1; raise train\.batch_size"):
        method(task=1.0).parts(towers(1, OURS, 8.0, 1), towers(5, THEIRS, 20.0, 1), batch(1), STEP)


def test_a_teacher_whose_scale_is_no_number_is_refused():
    with pytest.raises(UserError, match="the teacher's scale is not a finite number"):
        method(teacher=towers(5, THEIRS, float("nan")), task=1.0)


@pytest.mark.parametrize(
    "settings",
    [{"task": -1}, {"mfd": 1}, NONE, {"mask_ratio": 1}, {"tau": 0}, {"parity": "paper code"}],
)
def test_a_setting_out_of_range_is_refused(settings):
    with pytest.raises(UserError, match="clip-kd"):
        build_method(Method(name="clip-kd", **settings))
