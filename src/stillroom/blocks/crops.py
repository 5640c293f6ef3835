"""Crops of images as self-supervised training takes them: another part, another colour, another sharpness each time.

All of a batch at once, on tensors, drawn with torch; no image library is needed.

Shapes: ``B`` images, ``C`` channels; images are in [0, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

GREY = (0.299, 0.587, 0.114)
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.4, 0.4, 0.2, 0.1
BLUR = (0.1, 2.0)  # standard deviation, in pixels
BLUR_REACH = 4  # pixels to either side
# Red, green and blue to brightness and two colour axes, around which a hue is turned.
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def random_crops(
    images: Tensor,
    size: int,
    *,
    scale: tuple[float, float],
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Tensor:
    """A part of each image, resized.

    Args:
        images: [B, C, height, width].
        size: height and width of a crop.
        scale: the least and the largest share of the image's area, in (0, 1].
        aspect: the least and the largest of width over height.
        flip: the chance to be mirrored.

    Returns:
        [B, C, size, size].

    Raises:
        ValueError: a share outside its range.
    """
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"a crop takes a share of the image in (0, 1], the smaller number first; not {scale}")
    draw = torch.rand(5, len(images), device=images.device, dtype=images.dtype)
    area = scale[0] + (scale[1] - scale[0]) * draw[0]
    ratio = (math.log(aspect[0]) + math.log(aspect[1] / aspect[0]) * draw[1]).exp()
    wide, tall = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    # From the crop's places in [-1, 1] to the image's: a part of this size, anywhere inside.
    across, down = (1 - wide) * (2 * draw[2] - 1), (1 - tall) * (2 * draw[3] - 1)
    mirrored = torch.where(draw[4] < flip, -wide, wide)
    nothing = torch.zeros_like(wide)
    places = torch.stack([mirrored, nothing, across, nothing, tall, down], -1).reshape(-1, 2, 3)
    grid = F.affine_grid(places, [len(images), images.shape[1], size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def recolour(
    images: Tensor, *, jitter: float = 0.8, grey: float = 0.2, blur: float = 0.5, solarise: float = 0.0
) -> Tensor:
    """Images with other colours, some grey, some blurred, some with their bright parts inverted.

    Args:
        images: [B, C, height, width] in [0, 1].
        jitter: the chance of each image to change in brightness, contrast, saturation and hue.
        grey: the chance to lose its colour.
        blur: the chance to be blurred.
        solarise: the chance that what is brighter than a half is inverted.
    """
    out = _where(jitter, _jittered(images), images)
    if images.shape[1] == 3:
        out = _where(grey, _grey(out).expand_as(out), out)
    out = _where(blur, _blurred(out), out) if blur else out
    return _where(solarise, torch.where(out >= 0.5, 1 - out, out), out)


def _where(chance: float, changed: Tensor, images: Tensor) -> Tensor:
    hit = torch.rand(len(images), 1, 1, 1, device=images.device) < chance
    return torch.where(hit, changed, images)


def _factor(images: Tensor, reach: float) -> Tensor:
    return 1 + reach * (2 * torch.rand(len(images), 1, 1, 1, device=images.device, dtype=images.dtype) - 1)


def _jittered(images: Tensor) -> Tensor:
    out = (images * _factor(images, BRIGHTNESS)).clamp(0, 1)
    middle = (_grey(out) if images.shape[1] == 3 else out).mean((1, 2, 3), keepdim=True)
    out = (middle + (out - middle) * _factor(images, CONTRAST)).clamp(0, 1)
    if images.shape[1] != 3:
        return out
    plain = _grey(out)
    out = (plain + (out - plain) * _factor(images, SATURATION)).clamp(0, 1)
    turn = 2 * math.pi * (_factor(images, HUE) - 1).flatten()
    return _turned(out, turn).clamp(0, 1)


def _turned(images: Tensor, angle: Tensor) -> Tensor:
    """Hues turned by an angle [B] in radians, brightness as it was."""
    to = images.new_tensor(YIQ)
    cos, sin, nothing, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([one, nothing, nothing, nothing, cos, -sin, nothing, sin, cos], -1).reshape(-1, 3, 3)
    return torch.einsum("bij,bjhw->bihw", to.inverse() @ turn @ to, images)


def _grey(images: Tensor) -> Tensor:
    return (images * images.new_tensor(GREY)[:, None, None]).sum(1, keepdim=True)


def _blurred(images: Tensor) -> Tensor:
    """Each image under a Gaussian of its own width."""
    rows, channels = images.shape[:2]
    sigma = BLUR[0] + (BLUR[1] - BLUR[0]) * torch.rand(rows, 1, device=images.device, dtype=images.dtype)
    reach = torch.arange(-BLUR_REACH, BLUR_REACH + 1, device=images.device, dtype=images.dtype)
    kernel = (-(reach**2) / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum(-1, keepdim=True)).repeat_interleave(channels, 0)[:, None]
    out = images.reshape(1, rows * channels, *images.shape[2:])
    pad = min(BLUR_REACH, images.shape[2] - 1, images.shape[3] - 1)
    kernel = kernel[..., BLUR_REACH - pad : BLUR_REACH + pad + 1]
    kernel = kernel / kernel.sum(-1, keepdim=True)
    out = F.conv2d(F.pad(out, (0, 0, pad, pad), mode="reflect"), kernel[..., None], groups=rows * channels)
    out = F.conv2d(F.pad(out, (pad, pad, 0, 0), mode="reflect"), kernel[:, :, None], groups=rows * channels)
    return out.reshape(images.shape)
