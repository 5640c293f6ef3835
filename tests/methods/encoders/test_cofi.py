"""CoFi: sizes by the paper's formula, masks against the closed form, layers matched by hand, what is exported.

pytest tests/methods/encoders/test_cofi.py
"""

import math

import pytest
import torch
import transformers
from tests.contracts import worlds

from stillroom.method import Step
from stillroom.methods.encoders.cofi import PRUNING, SETTLED, CoFi, match
from stillroom.teachers import LocalTeacher

L, H, A, INNER = 1, 16, 4, 32  # the student of the world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return worlds.build("text-classifier", tmp_path_factory.mktemp("world"))


def case(world, **settings):
    return worlds.case("cofi", world, **({"warm_up": 0.0} | settings))


def q(log_alpha):
    return 1 / (1 + math.exp(-(log_alpha + 2 / 3 * math.log(11))))


def test_the_expected_sparsity_is_the_papers(world):
    """With 2 H a unit and P_head / H a hidden dimension of a head, biases of units go uncounted, as in the paper."""
    method = case(world).objective
    levels = {"hidden": 0.3, "head": -0.4, "head_layer": 0.1, "mlp": -0.2, "intermediate": -1.0}
    for name, mask in method.masks.items():
        torch.nn.init.constant_(mask.log_alpha, levels[name])
    p = {name: q(level) for name, level in levels.items()}
    head = (4 * H * H + 4 * H) // A
    size = head / H * (L * A * H) * p["hidden"] * p["head_layer"] * p["head"]
    size += 2 * (L * INNER * H) * p["hidden"] * p["mlp"] * p["intermediate"]
    whole = L * (A * head + 2 * H * INNER + INNER + H)
    assert float(method.expected_sparsity()) == pytest.approx(1 - size / whole, rel=1e-9)


def test_without_hidden_masks_a_unit_brings_its_share_of_the_biases(world):
    method = case(world, masks=("head", "intermediate")).objective
    for mask in method.masks.values():
        torch.nn.init.constant_(mask.log_alpha, 0.0)
    head, unit = (4 * H * H + 4 * H) // A, (2 * H * INNER + INNER + H) // INNER
    size = (A * head + INNER * unit) * q(0.0)
    assert float(method.expected_sparsity()) == pytest.approx(1 - size / (A * head + 2 * H * INNER + INNER + H))


def test_the_target_rises_and_stays():
    method = CoFi(sparsity=0.8, warm_up=0.1, rise=0.4)
    targets = [method.target(Step(number, 100)) for number in (0, 10, 30, 50, 90)]
    assert targets == pytest.approx([0, 0, 0.4, 0.8, 0.8])


def test_layers_are_matched_from_the_top_down():
    errors = torch.tensor([[1.0, 9.0, 0.5, 9.0], [9.0, 2.0, 1.0, 3.0]])
    assert match(errors, [True] * 4, ordered=True) == [0, 2]  # 2 for the upper; of those below it 0 is the nearest
    assert match(errors, [True] * 4, ordered=False) == [2, 2]
    assert match(errors, [True, True, False, True], ordered=True) == [0, 1]
    assert match(errors, [False, False, True, False], ordered=True) == [2, 2]  # none lower is left: the same again
    assert match(errors, [False] * 4, ordered=True) == [3, 3]


def test_unpruned_with_outputs_alone_it_is_plain_distillation(world):
    made = case(world, warm_up=0.5, settle=0.8, layers=0.0, kd=1.0)
    batch = made.batch(world.rows)
    needs = made.objective.needs
    student = made.student.view.emit(made.student.model, batch.student, needs.student)
    teacher = LocalTeacher(made.teacher.model, made.teacher.view)(batch, needs.teacher)
    found = made.objective.parts(student, teacher, batch, Step(0, 10))
    plain = case(world)
    plain.objective._hooks.release()
    logits = plain.student.view.emit(plain.student.model, batch.student, ("logits",)).logits
    wanted = 4 * torch.nn.functional.kl_div(
        (logits / 2).log_softmax(-1), (teacher.logits / 2).softmax(-1), reduction="batchmean"
    )
    assert float(found["kd"].mean) == pytest.approx(float(wanted))
    assert "sparsity" not in found


def test_a_draw_is_one_for_all_examples_and_the_same_in_every_process(world):
    made = [case(world) for _ in range(2)]
    drawn = []
    for one in made:
        one.objective.train()
        one.objective.seed.fill_(7)
        one.objective.prepare(one.batch(world.rows), Step(3, 100), one.student.model, one.student.view)
        drawn.append(one.objective.now())
    assert torch.equal(drawn[0].intermediate, drawn[1].intermediate)
    assert 0 < int((drawn[0].intermediate == 0).sum()) < INNER


def test_a_run_reaches_its_target_and_the_export_gives_what_the_masked_model_gave(world, tmp_path):
    made = case(world, sparsity=0.6, mask_rate=0.1, rise=0.4, settle=0.8)
    for model in (made.student.model, made.teacher.model, made.objective):
        model.float()
    whole = sum(p.numel() for p in made.student.model.parameters())
    trainer = worlds.trainer(made, tmp_path / "run", steps=60, batch_size=8, save_every=0)
    finish, seen = made.objective.finish, {}
    batch = made.batch(world.rows)

    def watched(student):
        student.eval()
        with torch.no_grad():
            seen["logits"] = student(**batch.student).logits
        seen["sparsity"] = float(made.objective.expected_sparsity())
        finish(student)

    made.objective.finish = watched
    trainer.run()
    assert seen["sparsity"] == pytest.approx(0.6, abs=0.1)
    made.student.view.save(made.student.model, tmp_path / "model")
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch.student).logits, seen["logits"], atol=1e-5, rtol=1e-4)
    assert sum(p.numel() for p in loaded.parameters()) < whole
    assert int(made.objective.stage) == SETTLED and not made.objective._hooks.handles


def test_a_student_is_kept_only_once_it_is_settled(world):
    method = case(world).objective
    assert int(method.stage) == PRUNING and not method.eligible(Step(5, 10))
    method._settle()
    assert method.eligible(Step(5, 10))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sparsity": 1.0}, "between 0 and 1"),
        ({"masks": ("neurons",)}, "there is no mask 'neurons'"),
        ({"masks": ("hidden",)}, "masks must name one of"),
        ({"warm_up": 0.5, "rise": 0.4}, "must not lie beyond settle"),
    ],
)
def test_settings_out_of_range(settings, said):
    with pytest.raises(ValueError, match=said):
        CoFi(**settings)
