"""Images whose every pixel has a class.

Pixels are to these models what tokens are to a language model: logits are [B, P, C] for the P = height x width pixels
of the image as the model reads it, row by row, labels and mask [B, P]; so a loss on tokens is a loss on pixels.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.errors import UserError
from stillroom.signals import Signals
from stillroom.views.base import Inputs, Row, digest, run
from stillroom.views.image import ImageClassifier

IGNORED = 255  # the class of pixels that count for nothing


class ImageSegmenter(ImageClassifier):
    """Rows of an image and the class of each of its pixels, for models that give logits [B, C, height, width].

    Args:
        size: height and width in pixels that every image, and its mask, is resized to.
        channels: 3 for colour, 1 for grey.
    """

    auto: ClassVar = "AutoModelForSemanticSegmentation"
    formats: ClassVar = ("segmented-image",)
    primary: ClassVar = ("mean_iou", True)

    def __init__(self, *, size: int = 64, channels: int = 3) -> None:
        super().__init__(size=size, channels=channels)

    @property
    def fingerprint(self) -> str:
        """A hash of size and channels."""
        return digest("segmentation", self.size, self.channels)

    def encode(self, row: Row) -> dict[str, Any]:
        """A row as bytes: [channels, size, size] numbers from 0 to 255, and the [size, size] ``classes``."""
        encoded = super().encode({name: value for name, value in row.items() if name != "label"})
        return encoded | {"classes": self.classes(row["mask"]).numpy().tobytes()}

    def classes(self, mask: Any) -> Tensor:
        """The class of each pixel, [size, size] uint8; resized by taking the nearest.

        Args:
            mask: a file, its bytes, an opened picture of one channel, or whole numbers [height, width].

        Raises:
            UserError: it can't be decoded, has several channels, or numbers outside 0 to 255.
        """
        found = _decode_mask(mask)
        size = (self.size, self.size)
        return F.interpolate(found[None, None].float(), size, mode="nearest-exact")[0, 0].to(torch.uint8)

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """Images [B, channels, size, size] in [-1, 1]; labels [B, P], and the mask of those that count."""
        found = super().collate(rows)
        classes = np.stack([np.frombuffer(row["classes"], dtype=np.uint8) for row in rows])
        found.labels = torch.from_numpy(classes).long()
        found.mask = found.labels != IGNORED
        return found

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """Logits [B, P, C], brought to the image's size; hidden states and taps as the model gives them."""
        output, signals = run(model, arguments, needs)
        if "logits" in needs:
            size = arguments["pixel_values"].shape[-2:]
            logits = F.interpolate(output.logits, size, mode="bilinear", align_corners=False)
            signals.logits = logits.flatten(2).transpose(1, 2)
        return signals


def _decode_mask(mask: Any) -> Tensor:
    """[height, width] of whole numbers."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(mask, str | bytes):
        try:
            with Image.open(io.BytesIO(mask) if isinstance(mask, bytes) else mask) as opened:
                return _decode_mask(opened)
        except (OSError, UnidentifiedImageError) as error:
            raise UserError(f"a mask can't be decoded: {error}") from None
    values = np.array(mask)
    if values.ndim != 2:
        raise UserError(f"a mask has the shape {list(values.shape)}, not [height, width]: one number a pixel")
    if not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.max() > IGNORED:
        raise UserError(
            f"a mask has numbers from {values.min()} to {values.max()}: classes are whole numbers from 0 to 254, and "
            f"{IGNORED} where there is none"
        )
    return torch.from_numpy(values.astype(np.int64))
