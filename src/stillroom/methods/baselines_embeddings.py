"""Plain training and plain distillation of sentence encoders."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from stillroom.blocks.projectors import projector
from stillroom.method import Objective, Step
from stillroom.objectives.contrastive import two_sided_info_nce
from stillroom.objectives.features import cosine_distance
from stillroom.objectives.relations import gram_relation, neighbour_relation
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View


class EmbeddingMatch(Objective):
    """Point where the teacher points, and find alike what the teacher finds alike.

    The first part is the distance of each student vector from the teacher's of the same text; the second the mean
    squared difference of the two matrices of cosines of the batch (similarity-preserving KD, Tung and Mori 2019, on
    cosines), which looks at what retrieval looks at.

    ``neighbours`` looks at which texts are *most* alike: the divergence of the two models' distributions over the rest
    of the batch (`stillroom.objectives.neighbour_relation`). It is for a student that can't get all cosines right, such
    as a static one.

    Where rows are pairs, ``contrast`` adds the data's own signal to the teacher's, as the label loss does in
    classification (Hinton et al. 2015, section 2): anchor and positive find one another, as for `Contrastive`.

    Args:
        similarity: weight of the second part, >= 0. It is small by itself, as most cosines are.
        contrast: weight of the pairs' own contrast, >= 0.
        neighbours: weight of the divergence over the batch, >= 0.
        temperature: of contrast and neighbours, > 0.
    """

    kind: ClassVar[str] = "embeddings"
    needs = Needs(student=("embedding",), teacher=("embedding",))
    units: ClassVar[dict[str, Unit]] = {"cosine": "row", "similarity": "batch", "neighbours": "row", "contrast": "pair"}
    across_rows: ClassVar[bool] = True

    def __init__(
        self, *, similarity: float = 6.4, contrast: float = 0.0, neighbours: float = 0.0, temperature: float = 0.05
    ) -> None:
        super().__init__()
        if min(similarity, contrast, neighbours) < 0 or temperature <= 0:
            raise ValueError(
                "similarity, contrast and neighbours, weights, must be >= 0 and temperature > 0; "
                f"they are {similarity}, {contrast}, {neighbours} and {temperature}"
            )
        weights = {"cosine": 1.0, "similarity": similarity, "neighbours": neighbours, "contrast": contrast}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.temperature = temperature

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """A projector where the widths differ; it is not part of the student."""
        with torch.no_grad():
            ours = view.emit(student, sample.student, ("embedding",)).embedding
        assert ours is not None and sample.emitted is not None and sample.emitted.embedding is not None
        self.project = projector(ours.shape[-1], sample.emitted.embedding.shape[-1])

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``cosine`` and ``neighbours`` over texts, ``similarity`` over the batch, ``contrast`` over pairs."""
        assert student.embedding is not None and teacher is not None and teacher.embedding is not None
        ours, theirs = student.embedding, teacher.embedding.detach().to(student.embedding)
        parts = {"cosine": cosine_distance(self.project(ours), theirs, batch.mask)}
        if "similarity" in self.weights:
            parts["similarity"] = gram_relation(ours, theirs, batch.mask)
        if "neighbours" in self.weights:
            parts["neighbours"] = neighbour_relation(ours, theirs, batch.mask, temperature=self.temperature)
        if "contrast" in self.weights:
            parts["contrast"] = pair_contrast(ours, batch, self.temperature)
        return parts


class Contrastive(Objective):
    """Plain contrastive training on pairs, without a teacher: anchor and positive find one another in the batch.

    Both directions of InfoNCE on cosines, as in CLIP (Radford et al. 2021); the other pairs of the batch are the
    negatives.

    Args:
        temperature: divides the cosines, > 0.
    """

    kind: ClassVar[str] = "embeddings"
    needs = Needs(student=("embedding",))
    reads: tuple[str, ...] = ("pair", "triple")
    units: ClassVar[dict[str, Unit]] = {"contrast": "pair"}
    across_rows: ClassVar[bool] = True

    def __init__(self, *, temperature: float = 0.05) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0; it is {temperature}")
        self.temperature = temperature

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``contrast``, over pairs."""
        assert student.embedding is not None
        return {"contrast": pair_contrast(student.embedding, batch, self.temperature)}


def pair_contrast(vectors: Tensor, batch: Batch, temperature: float) -> Reduced:
    """Both directions of InfoNCE between the anchors and positives of a batch, summed over its pairs."""
    pairs = batch.columns["pairs"]
    mask = batch.mask[pairs].all(-1)
    return two_sided_info_nce(vectors[pairs[:, 0]], vectors[pairs[:, 1]], mask, scale=1 / temperature)
