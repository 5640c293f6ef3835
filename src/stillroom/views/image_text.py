"""Pictures and their captions: models with a tower for each and one space for both, such as CLIP and SigLIP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from stillroom.errors import UserError
from stillroom.signals import Signals, record
from stillroom.views.base import Inputs, Row, TransformersView, digest, pad, row_key, tokenizer_hash
from stillroom.views.image import MEAN, STD, decode

PROCESSORS = ("processor_config.json", "preprocessor_config.json")


class ImageText(TransformersView):
    """Rows of an image and its text, for models that give a vector [B, D] of each.

    Args:
        tokenizer: of the text tower.
        size: height and width in pixels that every picture is resized to, where no image processor says more.
        max_length: tokens kept of a text, its special tokens included; the rest is cut on the right and counted.
        whole_window: pad every text to ``max_length``, and have the model read the padding, as SigLIP was trained.
        pictures: the image processor of a saved model.
    """

    auto: ClassVar = "AutoModel"
    formats: ClassVar = ("image-text",)

    def __init__(
        self,
        tokenizer: Any,
        *,
        size: int = 224,
        max_length: int = 77,
        whole_window: bool = False,
        pictures: Any = None,
    ) -> None:
        if size < 1:
            raise UserError(f"a picture needs a size of at least 1 pixel; got {size}")
        self.tokenizer, self.max_length, self.whole_window = tokenizer, max_length, whole_window
        self.pictures = _resizing(size) if pictures is None else pictures

    @classmethod
    def read(cls, folder: Path, **options: Any) -> Self:
        """The view that the folder's processor and configuration describe; ``options`` go before them."""
        from transformers import AutoConfig, AutoProcessor, AutoTokenizer

        found: dict[str, Any] = {}
        if (folder / "config.json").is_file():
            config = AutoConfig.from_pretrained(folder)
            found = {"size": config.vision_config.image_size, "max_length": config.text_config.max_position_embeddings}
            found["whole_window"] = config.model_type.startswith("siglip")
        if any((folder / file).is_file() for file in PROCESSORS):
            found["pictures"] = AutoProcessor.from_pretrained(folder).image_processor
        return cls(AutoTokenizer.from_pretrained(folder), **(found | options))

    @property
    def fingerprint(self) -> str:
        """A hash of tokenizer, lengths and what is done with pictures."""
        pictures = json.dumps(self.pictures.to_dict(), sort_keys=True, default=str)
        return digest("image-text", tokenizer_hash(self.tokenizer), self.max_length, self.whole_window, pictures)

    def encode(self, row: Row) -> dict[str, Any]:
        """A row as ``pixels``, bytes of the resized picture [3, height, width], and ``input_ids``."""
        found = decode(row["image"])
        if found.dim() != 3 or found.shape[0] not in (1, 3):
            raise UserError(f"an image has the shape {list(found.shape)}, not [1 or 3, height, width]")
        levels = (found.expand(3, -1, -1).permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        plain = {"do_rescale": False, "do_normalize": False, "input_data_format": "channels_last"}
        pixels = self.pictures.preprocess([levels], return_tensors="np", **plain)["pixel_values"][0]
        ids = self.tokenizer(row["text"], truncation=True, max_length=self.max_length)["input_ids"]
        return {
            "id": row_key(row),
            "dropped": "",
            "shortened": len(ids) == self.max_length,
            "length": len(ids),
            "pixels": pixels.tobytes(),
            "shape": list(pixels.shape),
            "input_ids": ids,
        }

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """Pictures [B, 3, height, width], tokens [B, T], and a mask [B] of rows."""
        levels = np.stack([np.frombuffer(row["pixels"], np.uint8).reshape(row["shape"]) for row in rows])
        images = torch.from_numpy(levels).float() / 255
        if self.pictures.do_normalize:
            levels_of = (self.pictures.image_mean, self.pictures.image_std)
            mean, std = (torch.tensor(list(value)).reshape(3, 1, 1) for value in levels_of)
            images = (images - mean) / std
        return Inputs(
            ids=[row["id"] for row in rows],
            arguments={"pixel_values": images, **self.padded([row["input_ids"] for row in rows])},
            mask=torch.ones(len(rows), dtype=torch.bool),
        )

    def padded(self, texts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Token lists as the text tower takes them, [B, T]."""
        ids, real = pad(texts, self.tokenizer.pad_token_id or 0, self.max_length if self.whole_window else 1)
        return {"input_ids": ids} if self.whole_window else {"input_ids": ids, "attention_mask": real.long()}

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """Vectors of the towers that are asked for, not normalised; scale and bias; taps of both towers.

        ``arguments["patches"]`` [B, K], if given, are the numbers of the patches that the image tower reads.
        """
        clip: Any = model
        taps = tuple(need.removeprefix("tap:") for need in needs if need.startswith("tap:"))
        asked = {need.removeprefix("tower:") for need in needs if need.startswith("tower:")}
        if other := [need for need in needs if need.partition(":")[0] not in ("tap", "tower", "scale", "bias")]:
            raise ValueError(f"a model with two towers gives no {other[0]}; ask for tower:image, tower:text or a tap")
        towers: dict[str, Tensor] = {}
        with record(model, taps) as tapped:
            if "image" in asked or taps:
                with only_patches(model, arguments.get("patches")):
                    towers["image"] = _pooled(clip.get_image_features(arguments["pixel_values"]))
            if "text" in asked or taps:
                texts = {name: arguments[name] for name in ("input_ids", "attention_mask") if name in arguments}
                towers["text"] = _pooled(clip.get_text_features(**texts))
        signals = Signals(towers={name: towers[name] for name in towers if name in asked}, taps=tapped)
        if "scale" in needs:
            signals.scale = clip.logit_scale.exp().reshape(())
        if "bias" in needs:
            own = getattr(model, "logit_bias", None)
            signals.bias = torch.zeros_like(clip.logit_scale.detach()).reshape(()) if own is None else own.reshape(())
        return signals

    def save(self, model: nn.Module, folder: Path) -> None:
        """Model and processor, as `AutoModel`, `AutoProcessor` and the zero-shot pipeline read them."""
        import transformers

        from stillroom.export.transformers import save_clean

        kind = getattr(transformers, type(model).__name__.removesuffix("Model") + "Processor")
        save_clean(model, folder, kind(image_processor=self.pictures, tokenizer=self.tokenizer))


@contextmanager
def only_patches(model: nn.Module, kept: Tensor | None) -> Iterator[None]:
    """Have the image tower read some of its patches alone, each in its own place (MAE, He et al., 2022, section 3).

    Args:
        model: with a ``vision_model`` that is a vision transformer.
        kept: [B, K] numbers of patches, row by row from the top left; all of them if None.
    """
    if kept is None:
        yield
        return
    embeddings = model.get_submodule("vision_model.embeddings")

    def pick(_module: nn.Module, _inputs: Any, states: Tensor) -> Tensor:
        others = states.shape[1] - patches_of(model)  # a class token, if there is one
        places = (kept + others).unsqueeze(-1).expand(-1, -1, states.shape[-1])
        return torch.cat([states[:, :others], states.gather(1, places)], 1)

    handle = embeddings.register_forward_hook(pick)
    try:
        yield
    finally:
        handle.remove()


def patches_of(model: nn.Module) -> int:
    """How many patches the image tower cuts a picture into.

    Raises:
        UserError: it is not a vision transformer.
    """
    vision = getattr(model, "vision_model", None)
    count = getattr(getattr(vision, "embeddings", None), "num_patches", None)
    if count is None:
        raise UserError("patches can be hidden from a vision transformer only; this image tower is another network")
    return int(count)


def _resizing(size: int) -> Any:
    """An image processor that brings a picture to a square of this size and its levels to [-1, 1]."""
    from transformers import CLIPImageProcessorPil

    square = {"height": size, "width": size}
    return CLIPImageProcessorPil(
        size=square,
        crop_size=square,
        do_center_crop=False,
        resample=2,  # bilinear
        image_mean=[MEAN] * 3,
        image_std=[STD] * 3,
    )


def _pooled(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output
