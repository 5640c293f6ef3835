"""HPD: homomorphic projective distillation.

**Paper**: Zhao, Yu, Wu and Li 2022, "Compressing Sentence Representation for Semantic Retrieval via Homomorphic
Projective Distillation" (Findings of ACL 2022, arXiv 2203.07687).

**Idea**: Reduce a large teacher's sentence vectors to a few dimensions by PCA, and train a small transformer with a
projection layer to regress the reduced vectors; the index and the encoder shrink together.

**Objective**: with C [d_out, d_T] the first principal components of the teacher's vectors on the first training
sentences,

    y(x) = C T(x),   loss = mean over sentences and dimensions of (S(x) - y(x))^2,

where S is mean pooling, then tanh(A h + b) with A [d_out, d_S].

**Kept and changed**: The mean of the teacher's vectors is not subtracted, as in the authors' code. The components'
signs are fixed (the largest entry of each is positive), so that two runs learn the same target. The projection layer
is part of the student and is exported with it (a sentence-transformers ``Dense`` module). tanh bounds the output to
(-1, 1), which unit-norm teachers stay within; a teacher whose reduced vectors leave it is warned about. The paper adds
word-substituted and back-translated sentences to its training data; that is a matter of the rows that are given.

**Use it when**: vectors are stored by the million and searched, so that their width is what costs; the teacher's
vectors have unit norm. The student's cosine then stands for the teacher's, at an eighth of the memory for 1,024 to 128.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from stillroom.blocks.projectors import principal_components
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.features import mse
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View

__all__ = ["HPD"]


class HPD(Objective):
    """Regress the teacher's vectors, reduced by PCA, with a projection layer on the student.

    Args:
        dimensions: of the reduced vectors, d_out; at most the teacher's width.
        fit_on: sentences that the components are computed from, before training begins; at least ``dimensions``.
        projection: ``pca``, or ``random`` for orthonormal directions drawn by chance, to see what the components add.

    Raises:
        ValueError: a number below 1, fewer sentences than dimensions, or another projection.
    """

    needs = Needs(student=("embedding",), teacher=("embedding",))
    units: ClassVar[dict[str, Unit]] = {"mse": "row"}
    changes_student: ClassVar[bool] = True

    components: Tensor

    def __init__(
        self, *, dimensions: int = 128, fit_on: int = 40_000, projection: Literal["pca", "random"] = "pca"
    ) -> None:
        super().__init__()
        if dimensions < 1 or fit_on < dimensions:
            raise ValueError(f"1 <= dimensions <= fit_on must hold; they are {dimensions} and {fit_on}")
        if projection not in ("pca", "random"):
            raise ValueError(f"projection must be pca or random; it is {projection!r}")
        self.dimensions, self.fit_on, self.projection = dimensions, fit_on, projection

    @classmethod
    def example(cls) -> HPD:
        """For very small models and data."""
        return cls(dimensions=4, fit_on=16)

    def setup(self, student: Any, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Put the projection layer on the student, in place of a final normalisation."""
        assert sample.emitted is not None and sample.emitted.embedding is not None
        width = sample.emitted.embedding.shape[-1]
        if self.dimensions > width:
            raise UserError(f"the teacher's vectors have {width} dimensions and can't be reduced to {self.dimensions}")
        modules = import_module("sentence_transformers.sentence_transformer.modules")
        while isinstance(student[-1], modules.Normalize):
            del student[-1]
        own = student.get_embedding_dimension()
        dense = modules.Dense(own, self.dimensions, activation_function=nn.Tanh())
        student.append(dense.to(next(student.parameters())))
        self.register_buffer("components", nn.init.orthogonal_(torch.empty(self.dimensions, width)))

    def look(self, labelled: Iterator[tuple[Batch, Signals]]) -> None:
        """Fit the components on the first sentences, and see that tanh can reach the targets."""
        seen: list[Tensor] = []
        while sum(map(len, seen)) < self.fit_on and (found := next(labelled, None)) is not None:
            batch, signals = found
            assert signals.embedding is not None
            seen.append(signals.embedding[batch.mask].detach().cpu())
        vectors = torch.cat(seen)[: self.fit_on]
        if len(vectors) < self.dimensions:
            raise UserError(f"{len(vectors)} sentences are too few for {self.dimensions} components; give more rows")
        if self.projection == "pca":
            self.components.copy_(principal_components(vectors, self.dimensions))
        beyond = float(((vectors @ self.components.cpu().T.to(vectors)).abs() > 1).float().mean())
        if beyond > 0.001:
            warnings.warn(
                f"{beyond:.1%} of the reduced vectors lie beyond what tanh can reach; hpd is for teachers of unit norm",
                stacklevel=2,
            )

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``mse``, over sentences."""
        assert student.embedding is not None and teacher is not None and teacher.embedding is not None
        target = teacher.embedding.detach() @ self.components.T.to(teacher.embedding)
        return {"mse": mse(student.embedding, target, batch.mask)}
