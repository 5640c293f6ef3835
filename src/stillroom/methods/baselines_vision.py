"""Plain training of encoders that are searched by distance."""

from __future__ import annotations

from typing import ClassVar

from stillroom.method import Objective, Step
from stillroom.objectives.metric import triplet
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit


class Triplets(Objective):
    """Metric learning by labels: rows of one class nearer to each other than to rows of another. No teacher.

    The batches need several rows of a class: set ``train.per_class``.

    Args:
        margin: how much nearer, in the distances of the vectors as they are, > 0.
    """

    kind: ClassVar[str] = "image-encoder"
    needs = Needs(student=("embedding",))
    reads: tuple[str, ...] = ("labelled-image", "labelled-text")
    units: ClassVar[dict[str, Unit]] = {"triplet": "own"}
    across_rows: ClassVar[bool] = True

    def __init__(self, *, margin: float = 1.0) -> None:
        super().__init__()
        if margin <= 0:
            raise ValueError(f"margin must be > 0; it is {margin}")
        self.margin = margin

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``triplet``, over the triplets that break their margin."""
        assert student.embedding is not None and batch.labels is not None
        return {"triplet": triplet(student.embedding, batch.labels, batch.mask, margin=self.margin)}
