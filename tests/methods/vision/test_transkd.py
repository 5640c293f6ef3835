"""TransKD: its fusion and its embeddings against slow references, its variants, what is refused, what is dropped.

.venv/bin/python -m pytest tests/methods/vision/test_transkd.py
"""

import pytest
import torch
from torch.nn import functional as F

from stillroom import catalog
from stillroom.checks import build_method
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.vision.transkd import GlobalLocalMixer, SelectiveFusion, TransKD
from stillroom.recipe import Method, Scratch
from stillroom.students.open import new_model
from stillroom.teachers import LocalTeacher
from stillroom.views.base import make_batch
from stillroom.views.load import open_model

SHAPE = {
    "num_labels": 3,
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 1, 1],
    "decoder_hidden_size": 8,
    "classifier_dropout_prob": 0.0,
    "drop_path_rate": 0.0,
}
STEP = Step(0, 1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student and a teacher in float64, eval mode."""
    found = {}
    for name, widths in (("student", [4, 8, 8, 16]), ("teacher", [8, 8, 16, 24])):
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(len(name))
        scratch = Scratch(architecture="segformer", config=SHAPE | {"hidden_sizes": widths})
        new_model(scratch, "segmentation", list, folder)
        found[name] = open_model(str(folder), "segmentation", size=32)
        found[name].model.double().eval()
    return found


def batch_of(models, rows=3, ignored=()):
    draw = torch.Generator().manual_seed(0)
    encoded = [
        {
            "student": models["student"].view.encode(
                {
                    "image": torch.rand(3, 32, 32, generator=draw).numpy(),
                    "mask": (
                        torch.randint(3, (32, 32), generator=draw) if n not in ignored else torch.full((32, 32), 255)
                    ).numpy(),
                }
            )
        }
        for n in range(rows)
    ]
    batch = make_batch(models["student"].view, None, encoded)
    batch.student = {"pixel_values": batch.student["pixel_values"].double()}
    return batch


def set_up(models, batch, **settings):
    method = TransKD(**settings)
    teacher = LocalTeacher(models["teacher"].model, models["teacher"].view)
    batch.emitted = teacher(batch, method.needs.teacher)
    torch.manual_seed(1)
    method.setup(models["student"].model, models["teacher"].model, batch, models["student"].view)
    method.double().eval()
    ours = models["student"].view.emit(models["student"].model, batch.student, method.needs.student)
    return method, ours, batch.emitted


def test_the_embeddings_are_those_before_the_blocks_widened(models):
    batch = batch_of(models)
    method, ours, theirs = set_up(models, batch, feature="none")
    found = method.parts(ours, theirs, batch, STEP)
    assert set(found) == {"ce", "embedding"}
    expected, inputs = 0.0, {name: batch.student["pixel_values"] for name in models}
    for stage, weight in enumerate((0.1, 0.1, 0.5, 1.0)):
        tokens = {}
        for name, opened in models.items():
            module = opened.model.segformer.stages[stage]
            tokens[name] = module.patch_embeddings(inputs[name])[0]
            inputs[name] = module(inputs[name])
        wide = method.align[str(stage)](tokens["student"])
        expected += weight * float(((wide - tokens["teacher"]) ** 2).detach().mean()) * len(batch)
    assert float(found["embedding"].sum) == pytest.approx(expected, rel=1e-9)
    assert int(found["embedding"].count) == 3


def slow_fusion(fusion, maps):
    """The equations, stage by stage, with batch norm as its running statistics make it."""
    deeper, out = None, {}
    for i in (3, 2, 1, 0):
        conv, norm = fusion.reduce[i]
        x = norm(F.conv2d(maps[i], conv.weight))
        if deeper is None:
            r = x
        else:
            y = deeper.repeat_interleave(2, -1).repeat_interleave(2, -2)
            squeeze, squeezed_norm, _ = fusion.squeeze[i]
            z = F.relu(squeezed_norm(F.conv2d((x + y).mean((2, 3), keepdim=True), squeeze.weight)))
            logits = fusion.choose[i](z)
            first, second = logits[:, : logits.shape[1] // 2].exp(), logits[:, logits.shape[1] // 2 :].exp()
            r = first / (first + second) * x + second / (first + second) * y
        wide, last = fusion.widen[i]
        out[i] = last(F.conv2d(r, wide.weight, padding=1))
        deeper = r
    return [out[i] for i in range(4)]


def test_the_fusion_goes_from_the_deepest_stage_up(models):
    batch = batch_of(models)
    method, ours, theirs = set_up(models, batch, embedding_weights=(0, 0, 0, 0), temperature=2.0)
    for norm in (part for part in method.fusion.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    maps = [ours.hidden[stage] for stage in range(4)]
    expected = 0.0
    for stage, (own, fused) in enumerate(zip(slow_fusion(method.fusion, maps), method.fusion(maps), strict=True)):
        torch.testing.assert_close(fused, own)
        p, q = ((value.flatten(2) / 2).softmax(-1) for value in (theirs.hidden[stage], own))
        expected += 4 * float((p * (p / q).log()).sum()) / own.shape[1]
    found = method.parts(ours, theirs, batch, STEP)
    assert set(found) == {"ce", "feature"} and float(found["feature"].sum) == pytest.approx(expected, rel=1e-9)


def test_the_deepest_map_reaches_the_shallowest_output_and_not_the_other_way():
    torch.manual_seed(0)
    fusion = SelectiveFusion([(4, 6), (4, 6), (4, 6), (4, 6)], mid_width=8).eval()
    maps = [torch.randn(1, 4, size, size, requires_grad=True) for size in (8, 4, 2, 1)]
    out = fusion(maps)
    assert float(torch.autograd.grad(out[0].sum(), maps[3], retain_graph=True)[0].abs().sum()) > 0
    assert torch.autograd.grad(out[3].sum(), maps[0], allow_unused=True) == (None,)


def test_labels_count_by_pixel_and_images_without_any_are_left_out_of_all_parts(models):
    batch, fewer = batch_of(models, 3, ignored=(2,)), batch_of(models, 2)
    method, ours, theirs = set_up(models, batch, feature="hcl")
    found = method.parts(ours, theirs, batch, STEP)
    _, short, shorter = set_up(models, fewer, feature="hcl")
    wanted = method.parts(short, shorter, fewer, STEP)
    assert int(found["ce"].count) == 2 * 32 * 32 and int(found["feature"].count) == 2
    for name, part in wanted.items():
        torch.testing.assert_close(found[name].sum, part.sum)


def test_one_image_alone_can_be_trained_on(models):
    batch = batch_of(models, 1)
    method, ours, theirs = set_up(models, batch)
    method.train()
    assert all(part.sum.isfinite() for part in method.parts(ours, theirs, batch, STEP).values())


def test_the_mixer_adds_attention_and_a_gated_convolution():
    torch.manual_seed(0)
    mixer, tokens = GlobalLocalMixer(6, heads=2).double(), torch.randn(1, 5, 6, dtype=torch.float64)
    q, k, v = mixer.queries_keys_values(tokens[0]).chunk(3, -1)
    heads = [(q[:, part] @ k[:, part].T / 3**0.5).softmax(-1) @ v[:, part] for part in (slice(0, 3), slice(3, 6))]
    attended = mixer.out(torch.cat(heads, -1))
    padded = F.pad(tokens[0].T, (1, 1))

    def convolved(convolution):
        return torch.stack(
            [(convolution.weight * padded[:, t : t + 3]).sum((1, 2)) + convolution.bias for t in range(5)]
        )

    local = convolved(mixer.value) * convolved(mixer.gate).sigmoid()
    torch.testing.assert_close(mixer(tokens)[0], 0.5 * attended + 0.5 * local)
    mixer.residual = True
    torch.testing.assert_close(mixer(tokens)[0], tokens[0] + 0.5 * attended + 0.5 * local)


def test_the_assistant_starts_with_the_shares_of_the_paper_and_reads_the_stage_before(models):
    batch = batch_of(models)
    method, ours, theirs = set_up(models, batch, variant="ea", feature="none")
    torch.testing.assert_close(method.shares, 0.1 * torch.arange(1, 9, dtype=torch.float64), atol=1e-6, rtol=1e-6)
    expected = 0.0
    for stage, weight in enumerate((0.1, 0.1, 0.5, 1.0)):
        source = ours.hidden[stage - 1] if stage else batch.student["pixel_values"]
        embedder = method.assistants[str(stage)]
        helped = embedder.norm(embedder.project(source).flatten(2).transpose(1, 2))
        name = f"segformer.stages.{stage}.patch_embeddings"
        own = method.align[str(stage)](ours.taps[name])
        target = (stage + 1) / 10 * own + (stage + 5) / 10 * helped
        expected += weight * float(((target - theirs.taps[name]) ** 2).mean()) * 3
    found = method.parts(ours, theirs, batch, STEP)
    assert float(found["embedding"].sum) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("variant", ["base", "gl", "ea"])
def test_everything_that_is_made_learns_and_the_teacher_does_not(models, variant):
    batch = batch_of(models)
    method, ours, theirs = set_up(models, batch, variant=variant, heads=2, feature="hcl")
    total = sum(part.sum for part in method.parts(ours, theirs, batch, STEP).values())
    gradients = torch.autograd.grad(total, list(method.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert all(parameter.grad is None for parameter in models["teacher"].model.parameters())


def test_a_student_that_says_what_the_teacher_says_has_nothing_to_learn(models):
    same = {"student": models["teacher"], "teacher": models["teacher"]}
    batch = batch_of(same)
    method, ours, theirs = set_up(same, batch, feature="none")
    for linear in method.align.values():
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    assert float(method.parts(ours, theirs, batch, STEP)["embedding"].sum) == pytest.approx(0, abs=1e-20)


def test_models_that_do_not_match_are_refused(models, tmp_path):
    config = SHAPE | {"hidden_sizes": [8, 8, 8, 8], "strides": [4, 2, 2, 1]}
    new_model(Scratch(architecture="segformer", config=config), "segmentation", list, tmp_path)
    other = open_model(str(tmp_path), "segmentation", size=32)
    other.model.double()
    with pytest.raises(UserError, match="the maps of stage 4 are 1x1 and 2x2; take models with the same strides"):
        set_up(models | {"teacher": other}, batch_of(models))
    with pytest.raises(UserError, match="the student has 4 stages and the teacher 4, and embedding_weights names 3"):
        set_up(models, batch_of(models), embedding_weights=(1, 1, 1))
    with pytest.raises(UserError, match="5 heads don't divide the width 16"):
        set_up(models, batch_of(models), variant="gl", heads=5)


@pytest.mark.parametrize(
    "settings",
    [{"variant": "gf"}, {"feature": "kl"}, {"feature_weight": -1}, {"temperature": 0}, {"mid_width": 0},
     {"feature": "none", "embedding_weights": [0, 0, 0, 0]}, {"embedding_weights": []}],
)  # fmt: skip
def test_a_setting_out_of_range_is_refused(settings):
    with pytest.raises(UserError, match="transkd"):
        build_method(Method(name="transkd", **settings))


def test_the_catalogue_finds_it():
    assert catalog.load("transkd") is TransKD
