"""iBOT: its two losses against slow references, what is compared with what, the teacher, what is left in the end.

.venv/bin/python -m pytest tests/methods/vision/test_ibot.py
"""

import random

import pytest
import torch

from stillroom import catalog
from stillroom.checks import build_method
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.vision.ibot import IBOT
from stillroom.recipe import Method, Scratch
from stillroom.students.open import new_model
from stillroom.views.base import make_batch
from stillroom.views.load import open_model

VIT = {
    "num_channels": 1,
    "image_size": 12,
    "patch_size": 3,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
HEAD = {"prototypes": 6, "hidden": 10, "bottleneck": 4}
STEP = Step(50, 101)  # half way
B, N, K = 3, 16, 6


@pytest.fixture
def opened(tmp_path):
    torch.manual_seed(0)
    new_model(Scratch(architecture="vit", config=VIT), "image-encoder", list, tmp_path)
    found = open_model(str(tmp_path), "image-encoder", size=12, channels=1)
    found.model.double().eval()
    return found


def batch_of(opened, rows=B):
    images = torch.rand(rows, 12, 12, generator=torch.Generator().manual_seed(0))
    encoded = [{"student": opened.view.encode({"image": image.tolist(), "label": 0})} for image in images]
    batch = make_batch(opened.view, None, encoded)
    batch.student = {"pixel_values": batch.student["pixel_values"].double()}
    return batch


def set_up(opened, batch, **settings):
    method = IBOT(**(HEAD | settings))
    torch.manual_seed(1)
    method.setup(opened.model, None, batch, opened.view)
    method.double()
    with torch.no_grad():  # a teacher that differs from the student, and centres that are somewhere
        for parameter in (*method.teacher.parameters(), *method.teacher_head.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, dtype=parameter.dtype))
        for centre in method.centres.values():
            centre.value.normal_(std=0.05)
    return method


def prepared(method, opened, batch, seed=2):
    torch.manual_seed(seed)
    random.seed(seed)
    return method.prepare(batch, STEP, opened.model, opened.view)


def parts(method, opened, batch):
    signals = opened.view.emit(opened.model, batch.student, method.needs.student)
    signals.others = [opened.view.emit(opened.model, each, method.needs.student) for each in batch.others]
    return method.parts(signals, None, batch, STEP)


def slow(logits, target, centre, temperature):
    wanted = ((target - centre) / temperature).softmax(-1)
    return -float((wanted * (logits / 0.1).softmax(-1).log()).sum())


def named(model, head, pixels, mask=None, **more):
    """Logits of the crop and of its patches, one crop at a time."""
    with torch.no_grad():
        out = model(pixel_values=pixels[None], bool_masked_pos=None if mask is None else mask[None], **more)
        logits = head(out.last_hidden_state[0])
    return logits[0], logits[1:]


def test_both_losses_are_those_of_the_definition(opened):
    batch = batch_of(opened)
    method = set_up(opened, batch, local_crops=2, whole=0.0)
    made = prepared(method, opened, batch)
    pixels, masks, small = made.student["pixel_values"], made.student["bool_masked_pos"], made.others[0]["pixel_values"]
    assert pixels.shape == (2 * B, 1, 12, 12) and masks.shape == (2 * B, N) and small.shape == (2 * B, 1, 6, 6)
    crop_centre, patch_centre = (method.centres[name].value for name in ("cls", "patch"))
    crops = patches = 0.0
    for image in range(B):
        ours, theirs = [], []
        for crop in range(2):
            place = crop * B + image
            ours.append(named(opened.model, method.head, pixels[place], masks[place]))
            theirs.append(named(method.teacher.copy, method.teacher_head.copy, pixels[place]))
        local = [
            named(opened.model, method.head, small[n * B + image], interpolate_pos_encoding=True) for n in range(2)
        ]
        every = [cls for cls, _ in [*ours, *local]]
        pairs = [(q, v) for q in range(2) for v in range(4) if q != v]
        crops += sum(slow(every[v], theirs[q][0], crop_centre, 0.04) for q, v in pairs) / len(pairs)
        for crop in range(2):
            hidden = [i for i in range(N) if masks[crop * B + image, i]]
            losses = [slow(ours[crop][1][i], theirs[crop][1][i], patch_centre, 0.07) for i in hidden]
            patches += sum(losses) / max(len(losses), 1) / 2
    found = parts(method, opened, made)
    assert float(found["cls"].sum.detach()) == pytest.approx(crops, rel=1e-9)
    assert float(found["patch"].sum.detach()) == pytest.approx(patches, rel=1e-9)
    assert int(found["cls"].count) == int(found["patch"].count) == B


def test_patches_that_are_seen_teach_nothing_and_small_crops_are_never_masked(opened):
    batch = batch_of(opened)
    method = set_up(opened, batch, whole=1.0, cls=0.0, local_crops=1)
    made = prepared(method, opened, batch)
    assert not made.student["bool_masked_pos"].any() and "bool_masked_pos" not in made.others[0]
    found = parts(method, opened, made)
    assert set(found) == {"patch"} and float(found["patch"].sum.detach()) == 0.0


def test_dino_is_what_is_left_without_patches(opened):
    batch = batch_of(opened)
    method = set_up(opened, batch, patch=0.0, whole=1.0)
    made = prepared(method, opened, batch)
    found = parts(method, opened, made)
    assert set(found) == {"cls"}
    swapped = prepared(method, opened, batch)
    swapped.student["pixel_values"] = swapped.student["pixel_values"].roll(B, 0)
    again = parts(method, opened, swapped)  # the two crops are worth the same
    assert float(again["cls"].sum.detach()) == pytest.approx(float(found["cls"].sum.detach()), rel=1e-9)


def test_a_masked_row_is_not_there(opened):
    batch = batch_of(opened)
    method = set_up(opened, batch, local_crops=1, whole=0.0)
    made = prepared(method, opened, batch)
    wanted = parts(method, opened, made)
    made.mask = torch.tensor([True, False, True])
    found = parts(method, opened, made)
    made.student["pixel_values"][[1, 4]] = float("nan")
    made.others[0]["pixel_values"][1] = float("nan")
    dirty = parts(method, opened, made)
    for name in wanted:
        assert int(found[name].count) == 2 and float(found[name].sum) < float(wanted[name].sum)
        torch.testing.assert_close(dirty[name].sum, found[name].sum)


def test_hidden_patches_are_replaced_before_positions_are_added(opened):
    batch = batch_of(opened)
    set_up(opened, batch)
    with torch.no_grad():
        opened.model.embeddings.mask_token.fill_(2.0)
    everything = torch.ones(1, N, dtype=torch.bool)
    seen = opened.model.embeddings(batch.student["pixel_values"][:1], bool_masked_pos=everything)
    torch.testing.assert_close(seen[:, 1:], 2.0 + opened.model.embeddings.position_embeddings[:, 1:])


def test_the_mask_token_and_both_layers_learn_and_the_teacher_does_not(opened):
    batch = batch_of(opened)
    method = set_up(opened, batch, whole=0.0, shared_head=False)
    made = prepared(method, opened, batch)
    sum(part.sum for part in parts(method, opened, made).values()).backward()
    learning = {"mask": opened.model.embeddings.mask_token, "crops": method.head.directions.weight}
    learning["patches"] = method.patch_directions.weight
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in learning.values()), learning
    assert all(p.grad is None for p in (*method.teacher.parameters(), *method.teacher_head.parameters()))


def test_the_last_layer_rests_at_the_start(opened):
    batch = batch_of(opened)
    method = set_up(opened, batch, freeze=0.6, whole=0.0)
    sum(part.sum for part in parts(method, opened, prepared(method, opened, batch)).values()).backward()
    assert method.head.directions.weight.grad is None
    assert float(method.head.layers[0].weight.grad.abs().sum()) > 0


def test_the_teacher_and_the_centres_move_after_a_step(opened):
    batch = batch_of(opened)
    method = set_up(opened, batch, momentum=0.9, whole=0.0).train()
    made = prepared(method, opened, batch)
    clean = [named(method.teacher.copy, method.teacher_head.copy, pixels) for pixels in made.student["pixel_values"]]
    means = {
        "cls": torch.stack([cls for cls, _ in clean]).mean(0),
        "patch": torch.stack([patches.mean(0) for _, patches in clean]).mean(0),
    }
    before = {name: centre.value.clone() for name, centre in method.centres.items()}
    weight, ours = method.teacher.copy.layernorm.weight.clone(), opened.model.layernorm.weight.detach()
    parts(method, opened, made)
    method.after_step(STEP, {})
    for name, centre in method.centres.items():
        torch.testing.assert_close(centre.value, 0.9 * before[name] + 0.1 * means[name])
    # Half way along the cosine from 0.9 to 1.
    torch.testing.assert_close(method.teacher.copy.layernorm.weight, 0.95 * weight + 0.05 * ours)


@pytest.mark.parametrize("keep", ["teacher", "student"])
def test_who_is_kept_and_that_the_mask_token_goes(opened, keep):
    own = set(opened.model.state_dict())
    batch = batch_of(opened)
    method = set_up(opened, batch, keep=keep)
    wanted = (method.teacher.copy if keep == "teacher" else opened.model).layernorm.weight.clone()
    assert "embeddings.mask_token" in opened.model.state_dict()
    method.finish(opened.model)
    assert set(opened.model.state_dict()) == own and torch.equal(opened.model.layernorm.weight, wanted)


def test_about_half_of_the_crops_stay_whole_and_the_others_lose_a_tenth_to_a_half(opened):
    batch = batch_of(opened)
    method = set_up(opened, batch, mask_shape="random")
    random.seed(0)
    hidden = torch.stack([method._mask() for _ in range(400)]).float().mean(-1)
    assert 160 < int((hidden == 0).sum()) < 260 and hidden.max() <= 0.5 and hidden[hidden > 0].min() >= 1 / N


def test_a_mask_of_another_grid_is_refused(opened):
    batch = batch_of(opened)
    method = set_up(opened, batch)
    made = prepared(method, opened, batch)
    signals = opened.view.emit(opened.model, made.student, method.needs.student)
    made.student = made.student | {"bool_masked_pos": torch.zeros(2 * B, 9, dtype=torch.bool)}
    with pytest.raises(ValueError, match="a mask of 9 patches does not fit a model with 16"):
        method.parts(signals, None, made, STEP)


def test_models_and_sizes_that_can_not_be_are_refused(opened, tmp_path):
    batch = batch_of(opened)
    with pytest.raises(UserError, match="small crops of 7 pixels are no whole number of 3-pixel patches"):
        set_up(opened, batch, local_crops=1, local_size=7)
    batch.student = {"pixel_values": torch.zeros(2, 1, 9, 9)}
    with pytest.raises(UserError, match="made for images of 12 pixels and the view gives 9"):
        set_up(opened, batch)
    with pytest.raises(UserError, match="Linear hides no patches; take a ViT"):
        IBOT().setup(torch.nn.Linear(2, 2), None, batch, opened.view)


@pytest.mark.parametrize(
    "settings",
    [
        {"cls": 0, "patch": 0},
        {"student_temperature": 0},
        {"teacher_temperature": -0.1},
        {"momentum": 1.1},
        {"mask_ratio": 0.9},
        {"scale": [0.5, 0.2]},
        {"prototypes": 1},
        {"keep": "both"},
    ],
)
def test_a_setting_out_of_range_is_refused(settings):
    with pytest.raises(UserError, match="ibot"):
        build_method(Method(name="ibot", **settings))


def test_the_catalogue_finds_it():
    assert catalog.load("ibot") is IBOT
