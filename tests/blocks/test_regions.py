"""Boxes and what maps hold inside them, against calculations by hand.

.venv/bin/python -m pytest tests/blocks/test_regions.py
"""

import pytest
import torch

from stillroom.blocks.regions import (
    FeaturePyramid,
    RegionPooling,
    intersection,
    iou,
    moved,
    need_inside,
    roi_align,
    steps_between,
)

BOXES = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 2.0, 6.0, 4.0]])


def test_overlaps():
    assert intersection(BOXES, BOXES).tolist() == [[16, 4], [4, 8]]
    assert iou(BOXES, BOXES).tolist() == [[1, pytest.approx(4 / 20)], [pytest.approx(4 / 20), 1]]
    assert iou(BOXES[:1], torch.tensor([[4.0, 0.0, 8.0, 4.0]])).tolist() == [[0]]
    assert iou(BOXES, torch.zeros(0, 4)).shape == (2, 0)


def test_steps_lead_from_a_box_to_another():
    # From a 4 x 4 box around (2, 2) to a 4 x 2 box around (4, 3): half a width right, a quarter down, half as high.
    steps = steps_between(BOXES[:1], BOXES[1:])
    torch.testing.assert_close(steps, torch.tensor([[0.5, 0.25, 0.0, torch.tensor(0.5).log()]]))
    torch.testing.assert_close(moved(BOXES[:1], steps), BOXES[1:])


def test_a_box_outside_its_image_is_refused():
    need_inside(BOXES, 6, 4)
    with pytest.raises(ValueError, match=r"box 1, \[2.0, 2.0, 6.0, 4.0\], is empty or outside an image of 5 x 4"):
        need_inside(BOXES, 5, 4)
    with pytest.raises(ValueError, match="box 0"):
        need_inside(torch.tensor([[3.0, 1.0, 3.0, 2.0]]), 5, 5)


def ramp(size, stride):
    """Two channels that say where a place is, in pixels of the image: x and y."""
    line = (torch.arange(size) + 0.5) * stride
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y])


def test_cells_hold_the_mean_of_what_lies_in_them():
    maps = torch.stack([ramp(16, 2.0), -ramp(16, 2.0)])
    boxes = torch.tensor([[4.0, 6.0, 20.0, 14.0], [9.0, 3.0, 13.0, 27.0], [4.0, 6.0, 20.0, 14.0]])
    found = roi_align(maps, boxes, torch.tensor([0, 0, 1]), size=2, stride=2.0)
    # Of a ramp, the mean of a cell is the value in its middle.
    torch.testing.assert_close(found[0, 0], torch.tensor([[8.0, 16.0], [8.0, 16.0]]))
    torch.testing.assert_close(found[0, 1], torch.tensor([[8.0, 8.0], [12.0, 12.0]]))
    torch.testing.assert_close(found[1, 0], torch.tensor([[10.0, 12.0], [10.0, 12.0]]))
    torch.testing.assert_close(found[1, 1], torch.tensor([[9.0, 9.0], [21.0, 21.0]]))
    torch.testing.assert_close(found[2], -found[0])
    assert roi_align(maps, boxes[:0], torch.zeros(0, dtype=torch.long), size=2, stride=2.0).shape == (0, 2, 2, 2)


def test_large_boxes_are_read_from_coarse_maps_and_gradient_arrives():
    maps = [torch.full((1, 1, 32, 32), 1.0), torch.full((1, 1, 16, 16), 2.0), torch.full((1, 1, 8, 8), 3.0)]
    maps = [each.requires_grad_() for each in maps]
    boxes = torch.tensor([[0.0, 0.0, side, side] for side in (4.0, 15.0, 17.0, 33.0, 60.0)])
    pool = RegionPooling(size=2, finest=8.0)
    found = pool(maps, [2.0, 4.0, 8.0], boxes, torch.zeros(5, dtype=torch.long))
    assert found[:, 0, 0, 0].tolist() == [1, 1, 2, 3, 3]
    found.sum().backward()
    assert all(float(each.grad.sum()) > 0 for each in maps)


def test_the_pyramid_hands_down_what_coarse_maps_say():
    torch.manual_seed(0)
    pyramid = FeaturePyramid([3, 5], 4)
    maps = [torch.randn(1, 3, 8, 8), torch.randn(1, 5, 4, 4, requires_grad=True)]
    fine, coarse = pyramid(maps)
    assert fine.shape == (1, 4, 8, 8) and coarse.shape == (1, 4, 4, 4)
    fine.sum().backward()
    assert float(maps[1].grad.abs().sum()) > 0
    top = pyramid.lateral[1](maps[1])
    low = pyramid.lateral[0](maps[0]) + top.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(fine, pyramid.smooth[0](low))
