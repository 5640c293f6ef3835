"""Denoisers: networks of diffusers that are asked about noised pictures of a class."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path as Folder
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from stillroom.blocks.diffusion import PREDICTIONS, Path
from stillroom.errors import UserError, nearest, need
from stillroom.signals import Signals
from stillroom.views.base import Inputs, LibraryView, Row, digest, row_key
from stillroom.views.image import ImageClassifier

NO_CLASS = -1


class Denoiser(LibraryView):
    """Rows of a picture and its class, or of a class alone, for a `UNet2DModel` with its scheduler.

    What a model emits is its estimate of the clean picture, whatever it was trained to predict: ``clean``
    [B, C, height, width]. A row is collated as the network reads it, clean and at timestep 0; what makes noise of it is
    the method's `prepare`.

    Args:
        size: height and width in pixels.
        channels: 3 for colour, 1 for grey.
        schedule: settings of a diffusers `DDIMScheduler`.
        classes: how many there are; the network's last class embedding, one more, stands for no class. 0 for none.
        guidance: w of classifier-free guidance, eps = eps_0 + w (eps_c - eps_0) (Ho and Salimans, 2021); 1 for none.
    """

    formats: ClassVar = ("labelled-image", "class")

    def __init__(
        self,
        *,
        size: int = 32,
        channels: int = 3,
        schedule: Mapping[str, Any] | None = None,
        classes: int = 0,
        guidance: float = 1.0,
    ) -> None:
        if guidance != 1 and not classes:
            raise UserError("guidance needs a network that knows classes")
        diffusers = need("diffusers", "diffusion")
        self.size, self.channels, self.classes, self.guidance = size, channels, classes, guidance
        self.scheduler = diffusers.DDIMScheduler(**(schedule or {}))
        if (kind := self.scheduler.config.prediction_type) not in PREDICTIONS:
            raise UserError(f"a schedule predicts {', '.join(PREDICTIONS)}; this one {kind!r}")
        self.prediction = kind
        self.path = Path(self.scheduler.alphas_cumprod)
        self._images = ImageClassifier(size=size, channels=channels)

    @classmethod
    def read(cls, folder: Folder, **options: Any) -> Self:
        """The view that the folder's network and scheduler describe; ``options`` go before them."""
        network = json.loads((folder / "config.json").read_text())
        found: dict[str, Any] = {
            "size": network["sample_size"],
            "channels": network["in_channels"],
            "classes": max((network.get("num_class_embeds") or 0) - 1, 0),
        }
        if (file := folder / "scheduler_config.json").is_file():
            found["schedule"] = {key: value for key, value in json.loads(file.read_text()).items() if key[0] != "_"}
        return cls(**(found | options))

    @classmethod
    def config(cls, architecture: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """As diffusers keeps it; the architecture must be its `UNet2DModel`."""
        network = need("diffusers", "diffusion").UNet2DModel
        if architecture != network.__name__:
            raise UserError(f"a denoiser is made as a {network.__name__} of diffusers, not as {architecture!r}")
        known = [name for name in signature(network.__init__).parameters if name != "self"]
        if unknown := [name for name in arguments if name not in known]:
            raise UserError(f"{architecture} has no setting {unknown[0]!r}{nearest(unknown[0], known)}")
        return {"_class_name": architecture, **arguments}

    @classmethod
    def built(cls, config: dict[str, Any]) -> nn.Module:
        """A network of this configuration."""
        try:
            return need("diffusers", "diffusion").UNet2DModel.from_config(config)
        except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
            raise UserError(f"there can be no {config['_class_name']} with these settings: {error}") from error

    @classmethod
    def new(cls, architecture: str, arguments: dict[str, Any], folder: Folder) -> None:
        """An untrained network, as ``UNet2DModel.from_pretrained`` reads it."""
        made: Any = cls.built(cls.config(architecture, arguments))
        made.save_pretrained(folder)

    @classmethod
    def open(cls, folder: Folder, dtype: torch.dtype, attention: str | None, **options: Any) -> tuple[nn.Module, Self]:
        """The network (from safetensors only) and its view."""
        diffusers = need("diffusers", "diffusion")
        model = diffusers.UNet2DModel.from_pretrained(
            folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True
        )
        return model, cls.read(folder, **options)

    def save(self, model: nn.Module, folder: Folder) -> None:
        """Network and scheduler, as ``UNet2DModel.from_pretrained`` and ``DDIMScheduler.from_pretrained`` read them."""
        from stillroom.export.transformers import save_clean

        save_clean(model, folder, self.scheduler)

    @property
    def fingerprint(self) -> str:
        """A hash of size, schedule and guidance."""
        schedule = sorted((name, str(value)) for name, value in self.scheduler.config.items() if name[0] != "_")
        return digest("denoiser", self.size, self.channels, schedule, self.classes, self.guidance)

    def encode(self, row: Row) -> dict[str, Any]:
        """A row as bytes, [channels, size, size] numbers from 0 to 255 (empty without a picture), and its class."""
        label = row.get("label")
        if label is not None and self.classes and not 0 <= label < self.classes:
            raise UserError(f"a row has the class {label}, and the network has classes 0 to {self.classes - 1}")
        pixels = b""
        if row.get("image") is not None:
            pixels = (self._images.pixels(row["image"]) * 255).round().to(torch.uint8).numpy().tobytes()
        known = {"id": row_key(row), "dropped": "", "shortened": False, "length": 1, "pixels": pixels}
        return known | {"label": NO_CLASS if label is None else label}

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """``sample`` [B, channels, size, size] in [-1, 1] (0 for none), ``timestep`` 0, ``class_labels`` [B]."""
        empty = bytes([128]) * (self.channels * self.size**2)
        levels = np.stack([np.frombuffer(row["pixels"] or empty, dtype=np.uint8) for row in rows])
        images = torch.from_numpy(levels.copy()).reshape(-1, self.channels, self.size, self.size).float()
        labels = torch.tensor([row["label"] for row in rows])
        arguments = {"sample": images / 127.5 - 1, "timestep": torch.zeros(len(rows), dtype=torch.long)}
        if self.classes:
            arguments["class_labels"] = torch.where(labels == NO_CLASS, self.classes, labels)
        mask = torch.ones(len(rows), dtype=torch.bool)
        return Inputs(ids=[row["id"] for row in rows], arguments=arguments, mask=mask)

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """``clean`` [B, channels, size, size], the estimate of the picture."""
        if beyond := [name for name in needs if name != "clean"]:
            raise UserError(f"a denoiser gives 'clean', its estimate of the picture, and not {beyond[0]!r}")
        predicted = self._predict(model, **arguments)
        sample, t = arguments["sample"], arguments["timestep"]
        return Signals(clean=self.path.to(sample.device).clean(predicted, sample, t, self.prediction))

    def _predict(
        self, model: nn.Module, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None
    ) -> Tensor:
        if self.guidance == 1 or class_labels is None:
            return model(sample, timestep, class_labels=class_labels).sample
        none = torch.full_like(class_labels, self.classes)
        labels = torch.cat([class_labels, none])
        with_class, without = model(sample.repeat(2, 1, 1, 1), timestep.repeat(2), class_labels=labels).sample.chunk(2)
        return without + self.guidance * (with_class - without)
