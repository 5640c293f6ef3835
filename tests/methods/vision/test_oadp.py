"""OADP: each part of its loss against a slow reference, what novel classes may do when, the stage before it.

.venv/bin/python -m pytest tests/methods/vision/test_oadp.py
"""

import io
import json
import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image as Pictures
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, ResNetConfig, ResNetModel

from stillroom import catalog
from stillroom.blocks.object_knowledge import ObjectEncoder, block_boxes
from stillroom.methods.vision.oadp import OADP, Image, ObjectKnowledge

D, C = 5, 4
BASE = torch.tensor([True, True, False, True])
BACKBONE = {"embedding_size": 4, "hidden_sizes": [6, 8], "depths": [1, 1], "layer_type": "basic"}


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(seed, *shape):
    return F.normalize(normal(seed, *shape), dim=-1)


TEXT = unit(0, C, D)


def made(**settings):
    torch.manual_seed(0)
    small = {"levels": 2, "width": 4, "pooled": 2, "finest": 16.0, "temperature": 0.2}
    backbone = ResNetModel(ResNetConfig(**BACKBONE)).eval()
    return OADP(backbone=backbone, text=TEXT, base=BASE, **(small | settings))


def known(seed=0):
    """An image with two labelled objects, four proposals of which two cover one, and three blocks."""
    return Image(
        proposals=torch.tensor([[4.0, 4, 20, 20], [5, 5, 20, 20], [30, 30, 60, 60], [2, 40, 20, 60]]),
        boxes=torch.tensor([[4.0, 4, 20, 20], [40, 2, 60, 20]]),
        labels=torch.tensor([1, 3]),
        object_boxes=torch.tensor([[5.0, 5, 20, 20], [30, 30, 60, 60]]),
        objects=unit(seed + 1, 2, D),
        block_boxes=torch.tensor([[0.0, 0, 30, 30], [30, 0, 64, 30], [0, 30, 30, 64]]),
        blocks=unit(seed + 2, 3, D),
        whole=unit(seed + 3, D),
    )


IMAGES = normal(9, 2, 3, 64, 64)


def regions(model, images, boxes, image):
    """What the heads read of boxes."""
    maps = model._maps(images)
    levels = model.pyramid(maps)
    return model.pool(levels, [64 / each.shape[3] for each in maps], boxes, image)


def test_objects_blocks_relations_and_the_image_are_pulled_to_what_clip_says():
    model, both = made().train(), [known(), known(10)]
    model.backbone.eval()
    found = model(IMAGES, both)
    assert set(found) == {"class", "box", "object", "block", "relation", "global", "block_labels", "global_labels"}
    image = torch.tensor([0, 0, 1, 1])
    ours = model.object(regions(model, IMAGES, torch.cat([each.object_boxes for each in both]), image))[0]
    wanted = torch.cat([each.objects for each in both])
    assert float(found["object"].mean) == pytest.approx(float((ours - wanted).abs().mean()), rel=1e-5)
    image = torch.tensor([0, 0, 0, 1, 1, 1])
    ours = model.block(regions(model, IMAGES, torch.cat([each.block_boxes for each in both]), image))[0]
    wanted = torch.cat([each.blocks for each in both])
    assert float(found["block"].mean) == pytest.approx(float((ours - wanted).abs().mean()), rel=1e-5)
    relation = ((ours @ ours.T - wanted @ wanted.T) ** 2).mean()
    assert float(found["relation"].mean) == pytest.approx(float(relation), rel=1e-5)
    deepest = model.backbone(IMAGES).last_hidden_state.mean((2, 3))
    ours = F.normalize(model.whole(deepest), dim=-1)
    wanted = torch.stack([each.whole for each in both])
    assert float(found["global"].mean) == pytest.approx(float(((ours - wanted) ** 2).sum(-1).mean()), rel=1e-5)


def test_a_block_has_every_class_that_it_meets_and_the_image_every_class_it_holds():
    model, one = made(), known()
    # The first block holds the first object, the second the second one; nothing lies in the third.
    assert model._met(one.block_boxes, one).tolist() == [
        [False, True, False, False],
        [False, False, False, True],
        [False, False, False, False],
    ]
    assert model._met(None, one).tolist() == [[False, True, False, True]]
    model.train()
    model.backbone.eval()
    found = model(IMAGES[:1], [one])["block_labels"]
    ours = model.block(regions(model, IMAGES[:1], one.block_boxes, torch.zeros(3, dtype=torch.long)))[0]
    expected = 0.0
    for vector, there in zip(ours, model._met(one.block_boxes, one)[:, BASE], strict=True):
        for name, present in zip(TEXT[BASE], there.tolist(), strict=True):
            p = 1 / (1 + math.exp(-float(vector @ name) / 0.2))
            m = max(p - 0.05, 0)
            expected -= (math.log(p) if present else m**4 * math.log(1 - m)) / (3 * 3)
    assert float(found.mean) == pytest.approx(expected, rel=1e-5)


def test_detection_learns_base_classes_background_and_boxes():
    model, one = (
        made(
            object_weight=0, block_weight=0, relation_weight=0, global_weight=0, block_labels=0, global_labels=0
        ).train(),
        known(),
    )
    model.backbone.eval()
    found = model(IMAGES[:1], [one])
    assert set(found) == {"class", "box"}
    vectors, hidden = model.detect(regions(model, IMAGES[:1], one.proposals, torch.zeros(4, dtype=torch.long)))
    names = [0, 1, 3]  # novel classes take no part
    expected = 0.0
    for vector, label in zip(vectors, [1, 1, None, None], strict=True):
        logits = [float(vector @ TEXT[name]) / 0.2 for name in names]
        logits.append(float(vector @ F.normalize(model.background, dim=0)) / 0.2)
        own = logits[names.index(label)] if label is not None else logits[-1]
        expected += math.log(sum(map(math.exp, logits))) - own
    assert float(found["class"].sum) == pytest.approx(expected, rel=1e-5) and int(found["class"].count) == 4
    # The second proposal must move by half a pixel of 15 and grow by 16 / 15; the first one stays.
    steps = model.steps(hidden)[:2]
    wanted = torch.tensor([[0, 0, 0, 0], [-0.5 / 15, -0.5 / 15, math.log(16 / 15), math.log(16 / 15)]])
    assert float(found["box"].sum) == pytest.approx(float((steps - wanted).abs().sum()), rel=1e-4)
    assert int(found["box"].count) == 4


def test_an_image_without_labels_is_background():
    one = known()
    one.boxes, one.labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    found = made().train()(IMAGES[:1], [one])
    assert float(found["box"].sum) == 0 and all(part.sum.isfinite() for part in found.values())


def test_weights_rise_to_the_papers():
    model = made()
    assert [model.weight("object", step) for step in (0, 100, 200, 5000)] == pytest.approx([0, 128, 256, 256])
    assert model.weight("block_labels", 500) == pytest.approx(8) and model.weight(
        "global_labels", 500
    ) == pytest.approx(1)
    assert model.weight("class", 0) == model.weight("box", 0) == 1
    found = model.train()(IMAGES, [known(), known(1)])
    at_start = float(model.loss(found, 0))
    assert at_start == pytest.approx(float(found["class"].mean + found["box"].mean), rel=1e-5)
    full = {"object": 256, "block": 128, "relation": 8, "global": 0.5, "block_labels": 16, "global_labels": 4}
    wanted = at_start + sum(weight * float(found[name].mean) for name, weight in full.items())
    assert float(model.loss(found, 2000)) == pytest.approx(wanted, rel=1e-5)


def test_everything_that_is_made_learns():
    model = made().train()
    model.loss(model(IMAGES, [known(), known(1)]), 3000).backward()
    still = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert not still, still
    assert "text" not in dict(model.named_parameters())


def test_novel_classes_come_back_with_the_geometric_mean():
    model, one = made(base_share=2 / 3, novel_share=1 / 3).eval(), known()
    found = model.predict(IMAGES, [one.proposals, one.proposals[:1]])
    assert [tuple(each.scores.shape) for each in found] == [(4, C + 1), (1, C + 1)]
    pooled = regions(model, IMAGES[:1], one.proposals, torch.zeros(4, dtype=torch.long))
    vectors, objects = model.detect(pooled)[0], model.object(pooled)[0]
    table = torch.cat([TEXT, F.normalize(model.background, dim=0)[None]])
    for vector, seen, scores in zip(vectors, objects, found[0].scores, strict=True):
        p, q = (vector @ table.T / 0.2).softmax(-1), (seen @ TEXT.T / 0.2).softmax(-1)
        for place in range(C):
            w = 2 / 3 if BASE[place] else 1 / 3
            assert float(scores[place]) == pytest.approx(float(p[place] ** w * q[place] ** (1 - w)), rel=1e-4)
        assert float(scores[-1]) == pytest.approx(max(1 - float(scores[:-1].sum()), 0), abs=1e-6)
    assert float(found[0].scores[:, 2].min()) > 0
    with torch.no_grad():
        model.steps.weight.zero_()
        model.steps.bias.zero_()
    torch.testing.assert_close(model.predict(IMAGES[:1], [one.proposals])[0].boxes, one.proposals)


def test_without_an_object_head_the_detector_speaks_alone():
    model = made(object_weight=0).eval()
    found = model.predict(IMAGES[:1], [known().proposals])[0].scores
    torch.testing.assert_close(found.sum(-1), torch.ones(4))


def test_what_can_not_be_is_refused():
    one = known()
    with pytest.raises(ValueError, match="novel classes are left out in training mode"):
        made().train().predict(IMAGES[:1], [one.proposals])
    one.block_boxes = torch.tensor([[0.0, 0, 30, 65]])
    with pytest.raises(ValueError, match="outside an image of 64 x 64"):
        made().train()(IMAGES[:1], [one])
    for settings in ({"temperature": 0}, {"object_weight": -1}, {"base_share": 1.5}):
        with pytest.raises(ValueError, match="weights must be >= 0"):
            made(**settings)
    with pytest.raises(ValueError, match="base must tell of each of the 4 classes"):
        OADP(backbone=ResNetModel(ResNetConfig(**BACKBONE)), text=TEXT, base=BASE[:2])


# --- the stage before -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder():
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = tower | {
        "vocab_size": 8,
        "max_position_embeddings": 4,
        "eos_token_id": 2,
        "bos_token_id": 1,
        "pad_token_id": 0,
    }
    vision = tower | {"image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=D))
    return ObjectEncoder(clip, mean=(0.5,) * 3, std=(0.5,) * 3)


def row(proposals, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    file = io.BytesIO()
    Pictures.fromarray(pixels).save(file, "PNG")
    return {"id": str(seed), "image": file.getvalue(), "proposals": proposals}


def test_knowledge_is_added_and_small_proposals_are_dropped_and_counted(encoder, tmp_path):
    rows = [row([[0, 0, 10, 10], [3, 3, 5, 30]]), row([[1, 1, 2, 2]], 1), row([[8.0, 4.0, 40.0, 30.0]], 2)]
    stage = ObjectKnowledge(encoder, window=16, stride=16, rejects=tmp_path / "rejects.jsonl")
    found = stage.run(Dataset.from_list(rows))
    assert found["id"][:] == ["0", "2"] and found[0]["object_boxes"] == [[0, 0, 10, 10]]
    assert stage.account.rejected == {"no proposal of 4 pixels": 1}
    assert stage.account.noted == {"proposal under 4 pixels": 2} and stage.account.adds_up
    assert [json.loads(line)["reason"] for line in (tmp_path / "rejects.jsonl").read_text().splitlines()] == [
        "no proposal of 4 pixels"
    ]
    image = torch.from_numpy(np.array(Pictures.open(io.BytesIO(rows[2]["image"])))).permute(2, 0, 1).float() / 255
    wanted = encoder.objects(image, torch.tensor([[8.0, 4.0, 40.0, 30.0]]))
    torch.testing.assert_close(torch.tensor(found[1]["objects"]), wanted)
    blocks = block_boxes(48, 32, window=16, stride=16)
    torch.testing.assert_close(torch.tensor(found[1]["block_boxes"]), blocks)
    torch.testing.assert_close(torch.tensor(found[1]["blocks"]), encoder.blocks(image, blocks))
    torch.testing.assert_close(torch.tensor(found[1]["whole"]), encoder.whole(image))


def test_a_proposal_outside_its_image_is_refused_by_row(encoder):
    with pytest.raises(ValueError, match="box 0") as caught:
        ObjectKnowledge(encoder).run(Dataset.from_list([row([[0, 0, 10, 10]]), row([[40, 0, 60, 10]], 1)]))
    assert caught.value.__notes__ == ["at row 1 (id '1')"]


def test_the_catalogue_finds_it():
    assert catalog.load("oadp") is OADP
