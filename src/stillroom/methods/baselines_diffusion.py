"""Plain training of denoisers."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import nn

from stillroom.blocks.diffusion import Path, Prediction, drawn
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.features import mse
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View
from stillroom.views.diffusion import Denoiser


class Denoise(Objective):
    """Pictures are noised, and the network learns to say what they were (DDPM, Ho et al., 2020). No teacher.

    Each is noised to a timestep of its own, drawn uniformly. The loss is the squared error of what the schedule says
    the network predicts (noise, picture or velocity), a mean over the numbers of a picture.

    Args:
        drop_class: share of rows whose class is hidden, so that classifier-free guidance is possible; in [0, 1).
    """

    kind: ClassVar[str] = "denoiser"
    needs = Needs(student=("clean",))
    reads: tuple[str, ...] = ("labelled-image",)
    units: ClassVar[dict[str, Unit]] = {"denoise": "row"}
    needs_prepare: ClassVar[bool] = True

    def __init__(self, *, drop_class: float = 0.1) -> None:
        super().__init__()
        if not 0 <= drop_class < 1:
            raise ValueError(f"drop_class is a share in [0, 1); it is {drop_class}")
        self.drop_class = drop_class
        self.path = Path(torch.linspace(0.99, 0.01, 2))
        self.prediction: Prediction = "epsilon"
        self.classes = 0

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Take over the schedule."""
        if not isinstance(view, Denoiser):
            raise UserError("only a denoiser learns to denoise; set task: denoiser")
        self.path, self.prediction, self.classes = view.path, view.prediction, view.classes

    def prepare(self, batch: Batch, step: Step, student: nn.Module, view: View) -> Batch:
        """Noise every picture to a timestep of its own."""
        clean = batch.student["sample"]
        eps, level = drawn(batch.ids, seed=step.seed, step=step.number, shape=[*clean.shape[1:]], like=clean)
        t = (level * len(self.path)).long()
        made = {"sample": self.path.noised(clean, eps, t), "timestep": t}
        if self.classes:
            # The class hangs on the noise's first number, which is as good as a draw of its own.
            hidden = torch.special.ndtr(eps.flatten(1)[:, 0]) < self.drop_class
            made["class_labels"] = torch.where(hidden, self.classes, batch.student["class_labels"])
        return replace(batch, student=batch.student | made, columns=batch.columns | {"clean": clean})

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``denoise``, the mean squared error of each row's prediction."""
        assert student.clean is not None
        root = self.path.weight(batch.student["timestep"], student.clean, self.prediction).sqrt()
        ours, theirs = (root * picture for picture in (student.clean, batch.columns["clean"]))
        return {"denoise": mse(ours.flatten(1), theirs.flatten(1), batch.mask)}
