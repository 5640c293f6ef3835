"""Plain training and plain distillation of models with a tower for pictures and one for texts."""

from __future__ import annotations

from typing import Any, ClassVar

from stillroom.blocks.scale import hold_back
from stillroom.method import Objective, Step
from stillroom.objectives.contrastive import contrast_divergence, mean_of_both, two_sided_info_nce
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View


class ClipContrast(Objective):
    """Plain contrastive training, without a teacher: picture and caption find one another in the batch.

    Both directions of InfoNCE on cosines (CLIP, Radford et al. 2021); the model's own scale is learnt, and held between
    1 and 100.
    """

    kind: ClassVar[str] = "image-text"
    needs = Needs(student=("tower:image", "tower:text", "scale"))
    reads: tuple[str, ...] = ("image-text",)
    units: ClassVar[dict[str, Unit]] = {"contrast": "row", "kd": "row"}
    across_rows: ClassVar[bool] = True

    def prepare(self, batch: Batch, step: Step, student: Any, view: View) -> Batch:
        """Hold the scale in its range."""
        hold_back(student.logit_scale, minimum=1.0)
        return batch

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``contrast``, over rows."""
        assert student.scale is not None
        images, texts = student.towers["image"], student.towers["text"]
        return {"contrast": two_sided_info_nce(images, texts, batch.mask, scale=student.scale)}


class SimilarityKL(ClipContrast):
    """The plain form of distillation: of each picture the teacher's distribution over the batch's captions, and back.

    KL(teacher || student) of the softmaxes over the rows of similarities, each model with its own scale, the mean of
    both directions; beside it the contrast of `ClipContrast`.

    Args:
        contrast: weight of the pairs' own contrast, >= 0.
    """

    needs = Needs(
        student=("tower:image", "tower:text", "scale"),
        teacher=("tower:image", "tower:text", "scale"),
    )

    def __init__(self, *, contrast: float = 1.0) -> None:
        super().__init__()
        if contrast < 0:
            raise ValueError(f"contrast, the weight of the pairs' own contrast, must be >= 0; it is {contrast}")
        self.weights = {"kd": 1.0, "contrast": contrast} if contrast else {"kd": 1.0}

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``kd`` over rows, and ``contrast`` where it has a weight."""
        assert student.scale is not None and teacher is not None and teacher.scale is not None
        ours, theirs = student.towers, teacher.towers
        there, back = (
            contrast_divergence(
                ours[a], ours[b], theirs[a], theirs[b], batch.mask, scale=student.scale, teacher_scale=teacher.scale
            )
            for a, b in (("image", "text"), ("text", "image"))
        )
        parts = {"kd": mean_of_both(there, back)}
        return parts | (super().parts(student, teacher, batch, step) if "contrast" in self.weights else {})
