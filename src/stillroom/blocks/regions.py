"""Boxes of an image, and what a network's maps hold inside them.

Boxes are [x0, y0, x1, y1] in pixels, the last two just outside. No torchvision is needed.

Shapes: ``n, m`` boxes, ``C`` channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LARGEST_STEP = math.log(1000 / 16)  # of a box's logarithmic growth


def area(boxes: Tensor) -> Tensor:
    """[n, 4] -> [n]; 0 for a box without a place in it."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1)


def intersection(first: Tensor, second: Tensor) -> Tensor:
    """The area that each of [n, 4] shares with each of [m, 4], [n, m]."""
    low = torch.maximum(first[:, None, :2], second[:, :2])
    high = torch.minimum(first[:, None, 2:], second[:, 2:])
    return (high - low).clamp(min=0).prod(-1)


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of each of [n, 4] with each of [m, 4], [n, m]."""
    shared = intersection(first, second)
    return shared / (area(first)[:, None] + area(second) - shared).clamp(min=1e-9)


def need_inside(boxes: Tensor, width: int, height: int) -> None:
    """Refuse a box that is empty or leaves the image.

    Raises:
        ValueError: as it says, naming the box.
    """
    edge = boxes.new_tensor([width, height])
    wrong = ((boxes[:, :2] < 0) | (boxes[:, 2:] > edge) | (boxes[:, 2:] <= boxes[:, :2])).any(-1)
    if wrong.any():
        place = int(wrong.nonzero()[0])
        raise ValueError(
            f"box {place}, {[round(value, 1) for value in boxes[place].tolist()]}, is empty or outside an image of "
            f"{width} x {height} pixels"
        )


def steps_between(boxes: Tensor, wanted: Tensor) -> Tensor:
    """How boxes must move and grow to become others (Fast R-CNN, Girshick, 2015): [n, 4] twice -> [n, 4]."""
    centre, size = _centres(boxes)
    to, grown = _centres(wanted)
    return torch.cat([(to - centre) / size, (grown / size).log()], -1)


def moved(boxes: Tensor, steps: Tensor) -> Tensor:
    """The inverse of `steps_between`."""
    centre, size = _centres(boxes)
    centre, size = centre + steps[:, :2] * size, size * steps[:, 2:].clamp(max=LARGEST_STEP).exp()
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)
    return boxes[:, :2] + size / 2, size


def roi_align(features: Tensor, boxes: Tensor, image: Tensor, *, size: int, stride: float, samples: int = 2) -> Tensor:
    """What a map holds in boxes, on a grid (Mask R-CNN, He et al., 2017): bilinear, no rounding, cells averaged.

    Args:
        features: [B, C, h, w].
        boxes: [n, 4] in pixels of the image.
        image: [n] int64, which of the B images each is of.
        size: cells on each side.
        stride: pixels of the image to one of the map.
        samples: on each side of a cell.

    Returns:
        [n, C, size, size].
    """
    if not len(boxes):
        return features.new_zeros(0, features.shape[1], size, size) + 0 * features[:0].sum()
    points = (torch.arange(size * samples, device=boxes.device, dtype=boxes.dtype) + 0.5) / (size * samples)
    found = features.new_zeros(len(boxes), features.shape[1], size, size)
    span = torch.tensor([features.shape[3], features.shape[2]], device=boxes.device, dtype=boxes.dtype) * stride
    places = boxes[:, None, :2] + points[:, None] * (boxes[:, None, 2:] - boxes[:, None, :2])  # [n, points, (x, y)]
    places = 2 * places / span - 1
    for number in image.unique().tolist():
        own = image == number
        x, y = places[own].unbind(-1)
        grid = torch.stack([x[:, None, :].expand(-1, y.shape[1], -1), y[:, :, None].expand(-1, -1, x.shape[1])], -1)
        # All boxes of an image side by side, as one tall grid.
        sampled = F.grid_sample(
            features[number : number + 1],
            grid.flatten(0, 1)[None].to(features),
            padding_mode="border",
            align_corners=False,
        )[0]
        cells = sampled.unflatten(1, (len(x), -1)).transpose(0, 1)
        found = found.index_copy(0, own.nonzero()[:, 0], F.avg_pool2d(cells, samples).to(found.dtype))
    return found


class FeaturePyramid(nn.Module):
    """A network's maps at one width, each with what the coarser ones say added (FPN, Lin et al., 2017).

    Args:
        widths: channels of the maps, finest first.
        width: of what comes out.
    """

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in widths)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in widths)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[B, C_i, h_i, w_i] of each level -> [B, width, h_i, w_i]."""
        found = [lateral(each) for lateral, each in zip(self.lateral, maps, strict=True)]
        for level in reversed(range(len(found) - 1)):
            found[level] = found[level] + F.interpolate(found[level + 1], found[level].shape[2:], mode="nearest")
        return [smooth(each) for smooth, each in zip(self.smooth, found, strict=True)]


class RegionPooling(nn.Module):
    """`roi_align` on the level of a pyramid that fits a box's size: twice the size, one level coarser.

    Args:
        size: cells on each side.
        finest: boxes up to twice this many pixels (the root of their area) are read from the finest level.
    """

    def __init__(self, *, size: int = 7, finest: float = 56.0) -> None:
        super().__init__()
        self.size, self.finest = size, finest

    def forward(self, maps: Sequence[Tensor], strides: Sequence[float], boxes: Tensor, image: Tensor) -> Tensor:
        """Maps [B, C, h_i, w_i], boxes [n, 4], their images [n] -> [n, C, size, size]."""
        level = (area(boxes).sqrt() / self.finest).clamp(min=1e-6).log2().floor().clamp(0, len(maps) - 1)
        found = maps[0].new_zeros(len(boxes), maps[0].shape[1], self.size, self.size)
        for number, (features, stride) in enumerate(zip(maps, strides, strict=True)):
            own = level == number
            pooled = roi_align(features, boxes[own], image[own], size=self.size, stride=stride)
            found = found.index_copy(0, own.nonzero()[:, 0], pooled)
        return found
