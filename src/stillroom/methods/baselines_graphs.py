"""Plain training and plain distillation of models of nodes and of links."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import nn

from stillroom.blocks.projectors import projector
from stillroom.blocks.random_walks import with_pairs
from stillroom.method import Objective, Step
from stillroom.objectives.features import cosine_distance
from stillroom.objectives.links import link_bce
from stillroom.objectives.logits import divergence_from
from stillroom.objectives.rows import in_float32, select
from stillroom.objectives.sequence import cross_entropy, row_means
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View
from stillroom.views.graph import GraphView


class NodeDistillation(Objective):
    """GLNN (Zhang et al. 2022): a teacher's class probabilities on all nodes, the labels on those that have one.

    Args:
        labels: weight of the labels' cross-entropy, in [0, 1]; the teacher's has the rest. 1 is training without a
            teacher's word.
        temperature: softens both distributions, > 0; the divergence is multiplied by its square.
    """

    kind: ClassVar[str] = "node"
    needs = Needs(student=("logits",), teacher=("logits",))
    units: ClassVar[dict[str, Unit]] = {"labels": "own", "soft_labels": "row"}

    def __init__(self, *, labels: float = 0.0, temperature: float = 1.0) -> None:
        super().__init__()
        if not 0 <= labels <= 1 or temperature <= 0:
            raise ValueError(f"labels is a share in [0, 1] and temperature > 0; they are {labels} and {temperature}")
        self.temperature = temperature
        self.weights = {"labels": labels, "soft_labels": 1 - labels}

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``labels``, over nodes that have one, and ``soft_labels``, over all."""
        assert student.logits is not None and teacher is not None and batch.labels is not None
        known = batch.mask & (batch.labels >= 0)
        soft = divergence_from(student.logits, teacher, batch.mask, temperature=self.temperature, scale_by_t2=True)
        return {"labels": cross_entropy(student.logits, batch.labels, known), "soft_labels": soft}


class NodeLabels(Objective):
    """Plain training: the labels' cross-entropy, over the nodes that have one. No teacher."""

    kind: ClassVar[str] = "node"
    needs = Needs(student=("logits",))
    units: ClassVar[dict[str, Unit]] = {"labels": "own"}

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``labels``, over nodes that have one."""
        assert student.logits is not None and batch.labels is not None
        return {"labels": cross_entropy(student.logits, batch.labels, batch.mask & (batch.labels >= 0))}


class LinkLabels(Objective):
    """Plain training of link predictors: each link, and a pair that none joins, drawn anew each step. No teacher."""

    kind: ClassVar[str] = "link"
    needs = Needs(student=("scores",))
    units: ClassVar[dict[str, Unit]] = {"links": "row"}

    def prepare(self, batch: Batch, step: Step, student: nn.Module, view: View) -> Batch:
        """Draw the pairs without a link, unless the rows bring them."""
        assert isinstance(view, GraphView)
        return with_pairs(batch, view.graph)

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``links``, over rows."""
        assert student.scores is not None
        return {"links": link_bce(student.scores, batch.columns["links"], _there(batch))}


class LinkMatch(Objective):
    """A teacher's link predictions or node vectors, copied one by one beside the links themselves.

    Args:
        what: ``probabilities`` of the batch's pairs, by squared error; or ``vectors`` of nodes drawn evenly, by 1 -
            cosine (through a linear map where the widths differ).
        links: weight of the links' own cross-entropy, >= 0.
    """

    kind: ClassVar[str] = "link"
    units: ClassVar[dict[str, Unit]] = {"match": "row", "links": "row"}
    live_teacher: bool = True

    def __init__(self, *, what: Literal["probabilities", "vectors"] = "probabilities", links: float = 1.0) -> None:
        super().__init__()
        if links < 0:
            raise ValueError(f"links must be >= 0; it is {links}")
        self.what = what
        asked = ("embedding",) if what == "vectors" else ("scores",)
        self.needs = Needs(student=("scores", *(asked if what == "vectors" else ())), teacher=asked)
        self.weights = {"match": 1.0, "links": links}

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """A map for vectors of different widths."""
        if self.what == "vectors":
            assert sample.emitted is not None and sample.emitted.embedding is not None
            with torch.no_grad():
                ours = view.emit(student, sample.student, ("embedding",)).embedding
            assert ours is not None
            self.map = projector(ours.shape[-1], sample.emitted.embedding.shape[-1])

    def prepare(self, batch: Batch, step: Step, student: nn.Module, view: View) -> Batch:
        """Draw the pairs without a link, unless the rows bring them; and for vectors, nodes."""
        assert isinstance(view, GraphView)
        anchors = torch.randint(len(view.graph), (len(batch),)) if self.what == "vectors" else None
        return with_pairs(batch, view.graph, anchors)

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``match`` and ``links``, over rows."""
        assert student.scores is not None and teacher is not None
        there, links = _there(batch), batch.columns["links"]
        supervised = link_bce(student.scores, links, there)
        if self.what == "vectors":
            assert student.embedding is not None and teacher.embedding is not None
            ours, theirs = select(student.embedding, batch.mask), select(teacher.embedding, batch.mask)
            match = cosine_distance(self.map(ours), theirs, batch.mask[batch.mask])
            return {"match": match, "links": supervised}
        assert teacher.scores is not None
        judged = there & (links >= 0)
        ours, theirs = (in_float32(one).masked_fill(~judged, 0.0).sigmoid() for one in (student.scores, teacher.scores))
        match = Reduced(row_means((ours - theirs).square(), judged).sum(), batch.mask.sum())
        return {"match": match, "links": supervised}


def _there(batch: Batch) -> torch.Tensor:
    return batch.columns["candidates"] & batch.mask.unsqueeze(1)
