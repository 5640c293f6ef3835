"""CLIP asked about boxes: which squares, which blocks, and what is read from where.

.venv/bin/python -m pytest tests/blocks/test_object_knowledge.py
"""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from stillroom.blocks import object_knowledge
from stillroom.blocks.object_knowledge import ObjectEncoder, adaptive_squares, block_boxes, cut
from stillroom.errors import UserError

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    text = TOWER | {
        "vocab_size": 8,
        "max_position_embeddings": 4,
        "eos_token_id": 2,
        "bos_token_id": 1,
        "pad_token_id": 0,
    }
    vision = TOWER | {"image_size": 16, "patch_size": 4}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def encoder(clip, **settings):
    return ObjectEncoder(clip, mean=(0.5,) * 3, std=(0.5,) * 3, **settings).double()


def picture(height=40, width=60, seed=0):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_squares_hold_eight_times_the_box_and_move_into_the_image():
    boxes = torch.tensor([[40.0, 45.0, 50.0, 65.0], [0.0, 0.0, 8.0, 4.0], [10.0, 20.0, 80.0, 90.0]])
    found = adaptive_squares(boxes, 100, 100)
    side = (found[:, 2:] - found[:, :2]).tolist()
    assert [one for one, _ in side] == pytest.approx([math.sqrt(8 * 200), math.sqrt(8 * 32), math.sqrt(8 * 4900)])
    torch.testing.assert_close(found[0], torch.tensor([25.0, 35.0, 65.0, 75.0]))  # around the middle of the box
    torch.testing.assert_close(found[1], torch.tensor([0.0, 0.0, 16.0, 16.0]))  # moved to the right and down
    torch.testing.assert_close((found[2, :2] + found[2, 2:]) / 2, torch.tensor([45.0, 55.0]))  # too large to fit


def test_blocks_are_the_middle_square_and_windows_over_ever_smaller_copies():
    found = block_boxes(100, 60, window=40, stride=20)
    assert found[0].tolist() == [20, 0, 80, 60]
    # 100 x 60: four by two windows of 40. Shrunk to 66.7 x 40: three windows in a row, of 60 pixels of the image.
    assert len(found) == 1 + 8 + 3
    assert found[1].tolist() == [0, 0, 40, 40] and found[8].tolist() == [60, 20, 100, 60]
    torch.testing.assert_close(found[9:, 0], torch.tensor([0.0, 20.0, 40.0]))
    torch.testing.assert_close(found[9:, 2] - found[9:, 0], torch.full((3,), 60.0))
    assert len(block_boxes(30, 60, window=40)) == 1
    assert block_boxes(640, 480)[:, 2:].max() <= 640
    starts = sorted(set(block_boxes(640, 480)[1:][:, 0].tolist()))
    assert max(b - a for a, b in pairwise(starts)) <= 112


def test_parts_are_cut_resized_and_black_outside():
    image = picture()
    torch.testing.assert_close(cut(image, torch.tensor([[8.0, 4.0, 24.0, 20.0]]), 16)[0], image[:, 4:20, 8:24])
    half = cut(torch.ones(3, 10, 10), torch.tensor([[-10.0, 0.0, 10.0, 10.0]]), 4)[0]
    torch.testing.assert_close(half[:, :, [0, 3]], torch.tensor([0.0, 1.0]).expand(3, 4, 2))
    assert cut(image, torch.zeros(0, 4), 4).shape == (0, 3, 4, 4)


def test_blocks_and_the_whole_are_clips_own_embeddings(clip):
    image, asked = picture(16, 16), encoder(clip)
    wanted = F.normalize(clip.get_image_features(((image - 0.5) / 0.5)[None]).pooler_output, dim=-1)[0]
    torch.testing.assert_close(asked.whole(image), wanted)
    torch.testing.assert_close(asked.blocks(image, torch.tensor([[0, 0, 16, 16.0]]))[0], wanted)
    torch.testing.assert_close(encoder(clip, crop="box").objects(image, torch.tensor([[0, 0, 16, 16.0]]))[0], wanted)
    assert not any(parameter.requires_grad for parameter in asked.clip.parameters())


def slow_reading(clip, pixels, inside):
    """The reader beside the tokens, as the equations say: one image, one head at a time."""
    vision = clip.vision_model
    weight, table = vision.embeddings.patch_embedding.weight, vision.embeddings.position_embedding.weight
    grid = 8
    framed = F.pad(pixels, (1, 1, 1, 1))
    patches = [
        (weight * framed[:, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4]).sum((1, 2, 3))
        for y in range(grid)
        for x in range(grid)
    ]
    places = F.interpolate(table[1:].T.reshape(1, -1, 4, 4), (grid, grid), mode="bicubic")[0].flatten(1).T
    tokens = torch.cat([(vision.embeddings.class_embedding + table[0])[None], torch.stack(patches) + places])
    tokens = vision.pre_layrnorm(tokens)
    reader = tokens[:1]
    for layer in vision.encoder.layers:
        attention = layer.self_attn

        def attend(queries, keys, values, bias, attention=attention):
            out = []
            for head in range(attention.num_heads):
                part = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
                scores = queries[:, part] @ keys[:, part].T * attention.scale + bias
                out.append(scores.softmax(-1) @ values[:, part])
            return attention.out_proj(torch.cat(out, -1))

        normed, own = layer.layer_norm1(tokens), layer.layer_norm1(reader)
        read = torch.cat([own, normed[1:]])
        bias = torch.tensor([0.0, *(0.0 if cell else -100.0 for cell in inside)], dtype=tokens.dtype)
        reader = reader + attend(attention.q_proj(own), attention.k_proj(read), attention.v_proj(read), bias)
        reader = reader + layer.mlp(layer.layer_norm2(reader))
        tokens = tokens + attend(
            attention.q_proj(normed), attention.k_proj(normed), attention.v_proj(normed), torch.zeros(())
        )
        tokens = tokens + layer.mlp(layer.layer_norm2(tokens))
    return F.normalize(clip.visual_projection(vision.post_layernorm(reader[0])), dim=-1)


def test_an_object_is_read_from_its_own_patches_on_the_doubled_grid(clip):
    image, box = picture(64, 64), torch.tensor([[20.0, 24.0, 34.0, 34.0]])
    square = adaptive_squares(box, 64, 64)
    crop = (cut(image, square, 16)[0] - 0.5) / 0.5
    (x0, y0), side = square[0, :2].tolist(), float(square[0, 2] - square[0, 0])
    inside = [
        20 <= x0 + (x + 0.5) * side / 8 <= 34 and 24 <= y0 + (y + 0.5) * side / 8 <= 34
        for y in range(8)
        for x in range(8)
    ]
    assert 0 < sum(inside) < 64
    with torch.no_grad():
        wanted = slow_reading(clip, crop, inside)
    torch.testing.assert_close(encoder(clip).objects(image, box)[0], wanted)


def test_what_is_read_depends_on_the_box_and_patches_are_not_masked(clip, monkeypatch):
    """The same crop, asked about two objects in it; with everything inside, the mask does nothing."""
    pixels = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    asked = encoder(clip)
    left = (torch.arange(64) % 8 < 4)[None]
    everything = torch.ones(1, 64, dtype=torch.bool)
    with torch.no_grad():
        found = [asked._masked(pixels, inside) for inside in (left, ~left, everything)]
        assert (found[0] - found[1]).abs().max() > 1e-3
        # With all patches inside, what is read is the class token of the same tower, up to whom it also attends to.
        monkeypatch.setattr(object_knowledge, "MASKED", 0.0)
        torch.testing.assert_close(asked._masked(pixels, left), found[2])


def test_many_boxes_are_asked_about_in_parts(clip):
    image = picture()
    boxes = torch.tensor([[2.0, 3.0, 12.0, 11.0], [20.0, 5.0, 50.0, 35.0], [1.0, 1.0, 8.0, 30.0]])
    whole = encoder(clip).objects(image, boxes)
    torch.testing.assert_close(encoder(clip, batch=2).objects(image, boxes), whole)
    torch.testing.assert_close(whole.norm(dim=-1), torch.ones(3, dtype=torch.float64))
    assert encoder(clip).objects(image, boxes[:0]).shape == (0, 6)
    larger = encoder(clip, crop="larger-box").objects(image, boxes[:1])
    torch.testing.assert_close(larger, encoder(clip, crop="box").objects(image, torch.tensor([[0.0, 1.0, 14.5, 13.0]])))


def test_what_can_not_be_is_refused(clip):
    with pytest.raises(ValueError, match="outside an image of 60 x 40 pixels"):
        encoder(clip).objects(picture(), torch.tensor([[50.0, 0.0, 61.0, 5.0]]))
    with pytest.raises(UserError, match="Linear has no image tower with a projection; take a CLIPModel"):
        ObjectEncoder(nn.Linear(2, 2))
    with pytest.raises(UserError, match="'adaptive', 'box' or 'larger-box', not 'square'"):
        encoder(clip, crop="square")
    with pytest.raises(ValueError, match="window and stride"):
        block_boxes(10, 10, window=0)
