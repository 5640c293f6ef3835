"""Images: for classifiers, and for encoders that give one vector an image."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.errors import UserError
from stillroom.signals import Signals
from stillroom.views.base import Inputs, Row, TransformersView, digest, row_key, run

MEAN = STD = 0.5  # pixels in [0, 1] become numbers in [-1, 1]


class ImageClassifier(TransformersView):
    """Rows of an image and its label, for models that give logits [B, C].

    Args:
        size: height and width in pixels that every image is resized to.
        channels: 3 for colour, 1 for grey.
    """

    auto: ClassVar = "AutoModelForImageClassification"
    formats: ClassVar = ("labelled-image",)
    primary: ClassVar = ("accuracy", True)

    def __init__(self, *, size: int = 32, channels: int = 3) -> None:
        if size < 1 or channels not in (1, 3):
            raise UserError(f"an image needs a size of at least 1 and 1 or 3 channels; got {size} and {channels}")
        self.size, self.channels = size, channels

    @classmethod
    def read(cls, folder: Path, **options: Any) -> Self:
        """The view that the folder's processor and configuration describe; ``options`` go before them."""
        found: dict[str, Any] = {}
        if (file := folder / "preprocessor_config.json").is_file():
            found["size"] = json.loads(file.read_text())["size"]["height"]
        if (file := folder / "config.json").is_file():
            found["channels"] = json.loads(file.read_text()).get("num_channels", 3)
        return cls(**(found | options))

    @property
    def fingerprint(self) -> str:
        """A hash of size and channels."""
        return digest("image", self.size, self.channels)

    def encode(self, row: Row) -> dict[str, Any]:
        """A row as bytes, [channels, size, size] numbers from 0 to 255, and its ``label``."""
        pixels = self.pixels(row["image"])
        levels = (pixels * 255).round().to(torch.uint8)
        encoded = {
            "id": row_key(row),
            "dropped": "",
            "shortened": False,
            "length": 1,
            "pixels": levels.numpy().tobytes(),
        }
        return encoded | ({"label": row["label"]} if row.get("label") is not None else {})

    def pixels(self, image: Any) -> Tensor:
        """An image as [channels, size, size] in [0, 1].

        Args:
            image: a file, its bytes, an opened picture, or numbers of one of the shapes [height, width], [1 or 3,
                height, width] and [height, width, 1 or 3]: fractions from 0 to 1, or whole numbers from 0 to 255
                (0 to 65,535 in an array of 16 unsigned bits).

        Raises:
            UserError: it can't be decoded, has numbers outside the range, or another shape.
        """
        found = decode(image)
        if found.dim() != 3 or found.shape[0] not in (1, 3):
            raise UserError(f"an image has the shape {list(found.shape)}, not [1 or 3, height, width]")
        if found.shape[0] != self.channels:
            found = found.mean(0, keepdim=True).expand(self.channels, -1, -1)
        size = (self.size, self.size)
        return F.interpolate(found[None], size, mode="bilinear", align_corners=False, antialias=True)[0].clamp(0, 1)

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """Images [B, channels, size, size] in [-1, 1], and a mask [B] of rows."""
        levels = np.stack([np.frombuffer(row["pixels"], dtype=np.uint8) for row in rows])
        images = torch.from_numpy(levels).reshape(-1, self.channels, self.size, self.size).float() / 255
        return Inputs(
            ids=[row["id"] for row in rows],
            arguments={"pixel_values": (images - MEAN) / STD},
            mask=torch.ones(len(rows), dtype=torch.bool),
            labels=torch.tensor([row["label"] for row in rows]) if rows and "label" in rows[0] else None,
        )

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """Logits [B, C]; ``embedding`` [B, D], what the classifier reads; hidden states and taps as the model gives."""
        if "embedding" not in needs:
            output, signals = run(model, arguments, needs)
        else:
            with read_by(model, "classifier") as vectors:
                output, signals = run(model, arguments, needs)
            signals.embedding = vectors[0].flatten(1)
        if "logits" in needs:
            signals.logits = output.logits
        return signals

    def save(self, model: nn.Module, folder: Path) -> None:
        """Model and image processor, as the ``Auto`` classes read them."""
        from transformers import ViTImageProcessorPil

        from stillroom.export.transformers import save_clean

        values = [MEAN] * self.channels
        size = {"height": self.size, "width": self.size}
        save_clean(model, folder, ViTImageProcessorPil(size=size, image_mean=values, image_std=values))


class ImageEncoder(ImageClassifier):
    """Rows of an image, maybe labelled, for models that give one vector [B, D] an image: their pooled output."""

    auto: ClassVar = "AutoModel"
    primary: ClassVar = ("loss", False)

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """The pooled output as ``embedding`` [B, D]; hidden states and taps as the model gives them."""
        output, signals = run(model, arguments, needs)
        if "embedding" in needs:
            signals.embedding = output.pooler_output.flatten(1)
        return signals


@contextmanager
def read_by(model: nn.Module, name: str) -> Iterator[list[Tensor]]:
    """Collect what the submodule called ``name`` is given during one forward pass."""
    found: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    try:
        yield found
    finally:
        handle.remove()


def decode(image: Any) -> Tensor:
    """An image as `ImageClassifier.pixels` takes it, in its own size: [channels, height, width] in [0, 1].

    Raises:
        UserError: it can't be decoded, or has numbers outside the range.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(image, str | bytes):
        try:
            with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
                return decode(opened)
        except (OSError, UnidentifiedImageError) as error:
            raise UserError(f"an image can't be decoded: {error}") from None
    if isinstance(image, Image.Image):
        if image.mode in ("I;16", "I;16B", "I"):  # grey in 16 bits; Pillow converts it to 8 by cutting off at 255
            return torch.from_numpy(np.asarray(image).astype(np.float32))[None] / 65535
        image = np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    values = np.asarray(image)
    fractions = torch.from_numpy(values.astype(np.float32))
    if not np.issubdtype(values.dtype, np.floating):
        fractions /= 65535 if values.dtype == np.uint16 else 255
    if fractions.min() < 0 or fractions.max() > 1:
        raise UserError(
            f"an image has numbers from {values.min()} to {values.max()}: whole numbers are read as 0 to 255, "
            "fractions as 0 to 1"
        )
    if fractions.dim() == 2:
        return fractions[None]
    last = fractions.shape[-1] in (1, 3) and fractions.shape[0] not in (1, 3)
    return fractions.permute(2, 0, 1) if last else fractions
