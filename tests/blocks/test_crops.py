"""Crops and colours: what they take, what they leave alone.

.venv/bin/python -m pytest tests/blocks/test_crops.py
"""

import pytest
import torch

from stillroom.blocks import crops
from stillroom.blocks.crops import random_crops, recolour


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def ramp(rows=64, size=32):
    """Images whose two channels say where a pixel is, from 0 to 1."""
    line = (torch.arange(size) + 0.5) / size
    return torch.stack(torch.meshgrid(line, line, indexing="ij")).expand(rows, 2, size, size)


def test_a_crop_is_a_part_of_the_image_of_the_asked_area_and_shape():
    found = random_crops(ramp(500), 16, scale=(0.2, 0.5), flip=0.0)
    tall = (found[:, 0, -1, 0] - found[:, 0, 0, 0]) * 16 / 15
    wide = (found[:, 1, 0, -1] - found[:, 1, 0, 0]) * 16 / 15
    area, ratio = tall * wide, wide / tall
    assert area.min() > 0.19 and area.max() < 0.51 and float(area.mean()) == pytest.approx(0.35, abs=0.02)
    assert ratio.min() > 0.74 and ratio.max() < 1.35
    assert found.min() >= 0 and found.max() <= 1
    assert found[:, 0, 0, 0].std() > 0.1  # anywhere


def test_the_whole_image_is_the_image_and_half_are_mirrored():
    images = ramp(400)
    torch.testing.assert_close(random_crops(images, 32, scale=(1, 1), aspect=(1, 1), flip=0.0), images)
    mirrored = random_crops(images, 32, scale=(1, 1), aspect=(1, 1))[:, 1, 0, 0] > 0.5
    assert 150 < int(mirrored.sum()) < 250


def test_nothing_asked_for_changes_nothing():
    images = torch.rand(8, 3, 16, 16)
    assert torch.equal(recolour(images, jitter=0, grey=0, blur=0, solarise=0), images)


def test_colours_stay_colours():
    images = torch.rand(64, 3, 16, 16)
    found = recolour(images, jitter=1, grey=0.5, blur=0.5, solarise=0.5)
    assert found.min() >= 0 and found.max() <= 1 and not torch.equal(found, images)
    grey = recolour(images, jitter=0, grey=1, blur=0)
    wanted = 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]
    torch.testing.assert_close(grey, wanted[:, None].expand_as(grey))
    inverted = recolour(images, jitter=0, grey=0, blur=0, solarise=1)
    torch.testing.assert_close(inverted, torch.where(images < 0.5, images, 1 - images))


def test_a_turned_hue_keeps_its_brightness_and_a_full_turn_its_colour():
    images = torch.rand(4, 3, 5, 5)
    weights = images.new_tensor(crops.GREY)[:, None, None]
    turned = crops._turned(images, torch.full((4,), 1.0))
    torch.testing.assert_close((turned * weights).sum(1), (images * weights).sum(1))
    assert (turned - images).abs().max() > 0.05
    torch.testing.assert_close(crops._turned(images, torch.full((4,), 2 * torch.pi)), images, atol=1e-5, rtol=1e-4)


def test_a_blur_spreads_a_point_and_keeps_its_sum():
    point = torch.zeros(6, 1, 21, 21)
    point[:, :, 10, 10] = 1
    found = crops._blurred(point)
    torch.testing.assert_close(found.sum((1, 2, 3)), torch.ones(6))
    torch.testing.assert_close(found, found.transpose(2, 3))
    assert len({round(float(value), 4) for value in found[:, 0, 10, 10]}) == 6  # each by a width of its own


def test_a_share_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"a share of the image in \(0, 1\], the smaller number first"):
        random_crops(ramp(1), 8, scale=(0.5, 1.5))
