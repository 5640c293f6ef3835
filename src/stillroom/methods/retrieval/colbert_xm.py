"""ColBERT-XM: late interaction on a modular backbone, zero-shot in languages that it was never fine-tuned on.

**Paper**: Louis, Saxena, van Dijck and Spanakis 2024, "ColBERT-XM: A Modular Multi-Vector Representation Model for
Zero-Shot Multilingual Information Retrieval" (COLING 2025, arXiv 2402.15059); code ant-louis/xm-retrievers.

**Idea**: A transformer whose every layer ends in a small adapter for the language of its input (X-MOD) is fine-tuned
for retrieval on English alone, adapters and embeddings untouched. To search in another language, take its adapter.

**Objective**: with unit vectors q_i of a query [Q, 128] and d_j of a document [T, 128],

    s(q, d) = sum over i of max over j of q_i . d_j,

over all of a query's places (it is filled up to 32 with mask tokens) and a document's without punctuation. For B rows
of a query, its relevant document d+ and others d-,

    version 1.5:  mean of  CE(s(q, [d+, d-]), d+)  +  CE(s(q, [d+, all documents of the other rows]), d+);
    version 1:    the first alone;    version 2:  KL(softmax of a teacher's scores || softmax of s) over long lists.

Raw scores, no temperature. A row's own other documents stand in the first softmax, and are left out of the second.

**Kept and changed**: The language of a row stands in its column ``language`` (else the view's), where the authors'
code detects it from the first document of a batch; so languages may be mixed in a batch. A language without an adapter
is refused. Embeddings, adapters and adapter norms are frozen, as in the paper; so tokens added for a task would not
learn (the prefixes [Q] and [D] keep their first vectors). Any X-MOD may be the backbone, and any other encoder with
``frozen=false``. A new language is an adapter (`stillroom.students.languages.add_language`) trained by ``mlm`` with
``only="adapter_modules.xx"``. The exported model is a `MultiVectorEncoder` of sentence-transformers, for which
``model[0].auto_model.set_default_language`` chooses the adapter; search is exact, without the 2-bit index of PLAID.
Published: AdamW 5e-6, eps 1e-6, batch 128, 200,000 steps of which 20,000 warm up, linear decay, one other document.

**Use it when**: there are labels in one language and users in many; a multilingual X-MOD exists for them. With labels
in every language a shared model is as good.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from stillroom.method import Objective, Step
from stillroom.objectives.contrastive import softmax_contrast
from stillroom.objectives.ranking import listwise_kl
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.students.languages import modular
from stillroom.views.base import View

__all__ = ["ColBERTXM"]


class ColBERTXM(Objective):
    """Contrast by late interaction, with everything that belongs to a language left as it is.

    Args:
        version: of ColBERT's training: 1, 1.5 or 2; 2 needs a teacher that scores.
        frozen: whether embeddings and language adapters stay as they are.

    Raises:
        ValueError: there is no such version.
    """

    units: ClassVar[dict[str, Unit]] = {"list": "row", "batch": "row", "distil": "row"}
    kind: ClassVar[str] = "late-interaction"
    across_rows: bool  # type: ignore[misc]  # of version 1.5 only

    def __init__(self, *, version: float = 1.5, frozen: bool = True) -> None:
        super().__init__()
        if version not in (1, 1.5, 2):
            raise ValueError(f"version must be 1, 1.5 or 2; it is {version}")
        self.version, self.frozen = version, frozen
        self.across_rows = version == 1.5
        asked = ("scores", "crossed") if version == 1.5 else ("scores",)
        self.needs = Needs(student=asked, teacher=("scores",) if version == 2 else ())
        self._still: list[nn.Parameter] = []

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Freeze what belongs to languages."""
        if self.frozen:
            self._still = modular(student)
            for parameter in self._still:
                parameter.requires_grad_(False)

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``list`` and ``batch``, or ``distil``; over rows."""
        assert student.scores is not None
        real = batch.columns["candidates"] & batch.mask.unsqueeze(1)
        if self.version == 2:
            assert teacher is not None and teacher.scores is not None
            return {"distil": listwise_kl(student.scores, teacher.scores.detach(), real)}
        relevant = torch.zeros_like(real)
        relevant[:, 0] = real[:, 0]
        found = {"list": softmax_contrast(student.scores, relevant, batch.mask, allowed=real)}
        if self.version == 1.5:
            assert student.crossed is not None
            own = torch.eye(len(batch), dtype=torch.bool, device=real.device).unsqueeze(-1)
            found["batch"] = softmax_contrast(
                student.crossed.flatten(1),
                (own & relevant).flatten(1),
                batch.mask,
                allowed=(~own & real).flatten(1),
            )
        return found

    def finish(self, student: nn.Module) -> None:
        """Leave nothing frozen in the student that is handed over."""
        for parameter in self._still:
            parameter.requires_grad_(True)
