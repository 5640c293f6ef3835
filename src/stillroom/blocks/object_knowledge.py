"""What a CLIP knows of the objects of an image, of its overlapping blocks, and of the whole (OADP's extraction).

An object is looked at in a square around it, large enough that nothing is distorted, and its surroundings may be seen
by the patches but not by what is read out: a copy of the class token that attends to the patches of the object alone.

Boxes are [x0, y0, x1, y1] in pixels. Shapes: ``n`` boxes, ``D`` width of CLIP's embeddings.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.blocks.regions import need_inside
from stillroom.errors import UserError

MASKED = -100.0  # added to the attention towards what is not the object
SHRINK = 1.5  # from one size of an image to the next, for blocks
Crop = Literal["adaptive", "box", "larger-box"]


def adaptive_squares(boxes: Tensor, width: int, height: int) -> Tensor:
    """Squares around boxes, with sides sqrt(8 w h), moved into the image where they fit: [n, 4] -> [n, 4]."""
    size = boxes[:, 2:] - boxes[:, :2]
    side = (8 * size.prod(-1, keepdim=True)).sqrt()
    low = (boxes[:, :2] + boxes[:, 2:]) / 2 - side / 2
    room = boxes.new_tensor([width, height]) - side
    low = torch.where(room >= 0, torch.minimum(low.clamp(min=0), room), low)
    return torch.cat([low, low + side], -1)


def block_boxes(width: int, height: int, *, window: int = 224, stride: int = 112) -> Tensor:
    """The blocks of an image, in its pixels, [n, 4]: its middle square, then windows over ever smaller copies.

    Windows are spread evenly, at most ``stride`` pixels apart, over the image and over copies shrunk by 1.5 each time,
    as long as a window fits in.

    Raises:
        ValueError: a window or stride below 1.
    """
    if window < 1 or stride < 1:
        raise ValueError(f"window and stride are at least 1 pixel, not {window} and {stride}")
    side = min(width, height)
    found = [((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)]
    scale = 1.0
    while min(width, height) / scale >= window:
        for y in _starts(height / scale, window, stride):
            for x in _starts(width / scale, window, stride):
                found.append((x * scale, y * scale, (x + window) * scale, (y + window) * scale))
        scale *= SHRINK
    return torch.tensor(found)


def _starts(length: float, window: int, stride: int) -> list[float]:
    count = math.ceil((length - window) / stride) + 1
    return [place * (length - window) / max(count - 1, 1) for place in range(count)]


def cut(image: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Parts of an image [C, height, width], resized with care for what is smaller: [n, C, size, size].

    Pixels outside the image are 0.
    """
    height, width = image.shape[-2:]
    low, high = boxes[:, :2].floor().long(), boxes[:, 2:].ceil().long()
    reach = int(max(0, -int(low.min()), int((high - high.new_tensor([width, height])).max()))) if len(boxes) else 0
    wide = F.pad(image, (reach,) * 4)
    parts = []
    for (x0, y0), (x1, y1) in zip((low + reach).tolist(), (high + reach).tolist(), strict=True):
        part = wide[None, :, y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
        parts.append(F.interpolate(part, (size, size), mode="bilinear", antialias=True, align_corners=False))
    return torch.cat(parts) if parts else image.new_zeros(0, image.shape[0], size, size)


class ObjectEncoder(nn.Module):
    """CLIP's image tower, asked about the boxes of an image. It is not trained.

    Args:
        clip: a `CLIPModel` of transformers.
        crop: ``adaptive`` squares with masked attention; ``box``, the box itself; ``larger-box``, one and a half times
            as wide and high: the crops that went before.
        batch: crops that are run at once.
        mean: of the pixels, as CLIP was trained with.
        std: likewise.

    Raises:
        UserError: another kind of model.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        clip: nn.Module,
        *,
        crop: Crop = "adaptive",
        batch: int = 256,
        mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073),
        std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711),
    ) -> None:
        super().__init__()
        if not hasattr(clip, "vision_model") or not hasattr(clip, "visual_projection"):
            raise UserError(f"{type(clip).__name__} has no image tower with a projection; take a CLIPModel")
        if crop not in ("adaptive", "box", "larger-box"):
            raise UserError(f"objects are cut out by 'adaptive', 'box' or 'larger-box', not {crop!r}")
        self.clip: Any = clip.eval().requires_grad_(False)
        self.crop, self.batch = crop, batch
        tower: Any = clip
        config = tower.vision_model.config
        self.size, self.patch = int(config.image_size), int(config.patch_size)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def train(self, mode: bool = True) -> ObjectEncoder:
        """Stays in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def objects(self, image: Tensor, boxes: Tensor) -> Tensor:
        """The embedding of each box's object, of length 1.

        Args:
            image: [3, height, width] in [0, 1].
            boxes: [n, 4].

        Returns:
            [n, D].

        Raises:
            ValueError: a box is empty or outside the image.
        """
        height, width = image.shape[-2:]
        need_inside(boxes, width, height)
        if self.crop != "adaptive":
            return self.blocks(image, boxes if self.crop == "box" else _larger(boxes, width, height))
        squares = adaptive_squares(boxes, width, height)
        found = [
            self._masked(self._ready(cut(image, part, self.size)), _inside(own, part, 2 * self.size // self.patch))
            for own, part in zip(boxes.split(self.batch), squares.split(self.batch), strict=True)
        ]
        return torch.cat(found) if found else image.new_zeros(0, self.clip.config.projection_dim)

    @torch.no_grad()
    def blocks(self, image: Tensor, boxes: Tensor) -> Tensor:
        """The plain embedding of each part of an image [3, height, width], of length 1: [n, 4] -> [n, D]."""
        found = [
            F.normalize(self.clip.get_image_features(self._ready(cut(image, part, self.size))).pooler_output, dim=-1)
            for part in boxes.split(self.batch)
        ]
        return torch.cat(found) if found else image.new_zeros(0, self.clip.config.projection_dim)

    def whole(self, image: Tensor) -> Tensor:
        """The plain embedding of an image [3, height, width], resized as a whole, of length 1: [D]."""
        height, width = image.shape[-2:]
        return self.blocks(image, image.new_tensor([[0, 0, width, height]]))[0]

    def _ready(self, crops: Tensor) -> Tensor:
        return (crops - self.mean) / self.std

    def _masked(self, pixels: Tensor, inside: Tensor) -> Tensor:
        """Embeddings of crops [n, 3, size, size], read from the patches in ``inside`` [n, grid^2] alone.

        The patch grid is twice as fine as CLIP's own: patches overlap by half. Patches and class token run as ever; a
        copy of the class token beside them attends to itself and to the patches of the object.
        """
        vision = self.clip.vision_model
        tokens = self._fine_tokens(vision.embeddings, pixels)
        tokens = vision.pre_layrnorm(tokens)
        reader = tokens[:, :1].clone()
        bias = torch.cat([inside.new_zeros(len(inside), 1, dtype=tokens.dtype), (~inside).to(tokens) * MASKED], 1)
        for layer in vision.encoder.layers:
            normed, own = layer.layer_norm1(tokens), layer.layer_norm1(reader)
            reader = reader + _attend(layer.self_attn, own, torch.cat([own, normed[:, 1:]], 1), bias[:, None, None])
            reader = reader + layer.mlp(layer.layer_norm2(reader))
            tokens = tokens + _attend(layer.self_attn, normed, normed, None)
            tokens = tokens + layer.mlp(layer.layer_norm2(tokens))
        return F.normalize(self.clip.visual_projection(vision.post_layernorm(reader[:, 0])), dim=-1)

    def _fine_tokens(self, embeddings: Any, pixels: Tensor) -> Tensor:
        """Class token and patches at half the stride, positions interpolated: [n, 1 + grid^2, H]."""
        half = self.patch // 2
        # A quarter of a patch around the image: twice as many patches on a side, each around the middle of its cell.
        edge = (half // 2, half - half // 2) * 2
        patches = F.conv2d(F.pad(pixels, edge), embeddings.patch_embedding.weight, stride=half)
        grid = patches.shape[-1]
        table = embeddings.position_embedding.weight
        own = math.isqrt(len(table) - 1)
        places = table[1:].T.reshape(1, -1, own, own)
        places = F.interpolate(places, (grid, grid), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
        cls = (embeddings.class_embedding + table[0]).expand(len(pixels), 1, -1)
        return torch.cat([cls, patches.flatten(2).transpose(1, 2) + places], 1)


def _attend(attention: Any, queries: Tensor, tokens: Tensor, bias: Tensor | None) -> Tensor:
    """One attention of CLIP, with queries of their own."""

    def heads(values: Tensor) -> Tensor:
        return values.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)

    found = F.scaled_dot_product_attention(
        heads(attention.q_proj(queries)),
        heads(attention.k_proj(tokens)),
        heads(attention.v_proj(tokens)),
        attn_mask=bias,
        scale=attention.scale,
    )
    return attention.out_proj(found.transpose(1, 2).flatten(2))


def _inside(boxes: Tensor, squares: Tensor, grid: int) -> Tensor:
    """Which cells of a grid over each square have their middle in its box, [n, grid^2]; at least the nearest one."""
    side = squares[:, 2:] - squares[:, :2]
    relative = (boxes.reshape(-1, 2, 2) - squares[:, None, :2]) / side[:, None] * grid  # box in cells
    middle = torch.arange(grid, device=boxes.device) + 0.5
    x, y = ((middle >= relative[:, :1, axis]) & (middle <= relative[:, 1:, axis]) for axis in (0, 1))
    found = (y[:, :, None] & x[:, None, :]).flatten(1)
    nearest = relative.mean(1).floor().long().clamp(0, grid - 1)
    return found.scatter(1, (nearest[:, 1] * grid + nearest[:, 0])[:, None], True)


def _larger(boxes: Tensor, width: int, height: int) -> Tensor:
    """Boxes one and a half times as wide and high, kept inside the image."""
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, 1.5 * (boxes[:, 2:] - boxes[:, :2])
    edge = boxes.new_tensor([width, height])
    return torch.cat([(centre - size / 2).clamp(min=0), torch.minimum(centre + size / 2, edge)], -1)
