"""CLIP-KD: which of a CLIP teacher's traits teach a small CLIP best.

**Paper**: Yang, An, Huang, Bi, Yu, Yang, Diao and Xu 2024, "CLIP-KD: An Empirical Study of CLIP Model Distillation"
(CVPR 2024, arXiv 2307.12732; github.com/winycg/CLIP-KD).

**Idea**: Six ways to distil a frozen CLIP stand side by side under one roof. Plain squared error between embeddings is
the strongest alone; contrast with the teacher's embeddings and a match of its similarities add to it, gradients and
fused features hardly.

**Objective**: for B pairs, v, s [B, d_s] are the student's pictures and texts, V, S [B, d_t] the teacher's of length 1,
n scales rows to length 1, l and l_t are the two models' scales, W, W' linear maps with bias where the widths differ
(v^ = n(v W), s^ = n(s W')). InfoNCE(A, C, l) is the mean over both directions of the cross-entropy of l A C^T.

    task     = InfoNCE(n(v), n(s), l)
    fd       = mean (v^ - V)^2 + mean (s^ - S)^2, over all elements
    icl      = mean of CE(c v^ S^T) and CE(c s^ V^T): the student's anchors among the teacher's embeddings
    crd      = mean over directions of KL(softmax(l_t V S^T) || softmax(l n(v) n(s)^T))
    cross_kd = the same KL with c v^ S^T and c s^ V^T as the student's logits
    gd       = sum of the mean squared differences of four gradients, d/dp and d/dk of CE(p k^T / tau) for
               (p, k) = (v^, s^) and (s^, v^), in closed form: (P - I) k / (tau B) and (P - I)^T p / (tau B)
    afd      = InfoNCE(n([v^; V] U), n([s^; S] U'), c') of fused embeddings
    mfd      = fd, with three quarters of the picture's patches hidden from the student

    loss = task + 2000 fd + icl + crd, as the paper recommends; the weights of the others are 0.

**Kept and changed**: The paper's mathematics is the default, ``parity="code"`` the authors' code where the two differ.
The scales c and c' are learnt, as exponentials of at most 100; in the code they are plain numbers that start at
ln(1/0.07) = 2.66. The gradients take tau = 1 / l; the code takes tau = l. The code computes the masked picture's
embedding and then overwrites it by the whole picture's, so its mfd is fd; here the student sees the rest of the picture
alone, in all parts of the loss. U and U' map 2 d_t to d_t; the code's widths fit d_s = d_t only, where they are the
same. W and W' serve all parts but task and crd, which compare the student's own embeddings. As in the code, a mean over
elements divides by the width too, and 2000 was found for 512: a narrower space weakens fd.

**Use it when**: a CLIP is to become smaller and search or zero-shot classification must survive. Embeddings are all it
asks of the teacher, so they are computed once and kept. The parts compare the pairs of a batch: the paper's batches
have 1,024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.blocks.masking import hide_patches
from stillroom.blocks.projectors import projector
from stillroom.blocks.scale import LearnedScale, hold_back
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.contrastive import (
    contrast_divergence,
    info_nce,
    info_nce_gradients,
    mean_of_both,
    two_sided_info_nce,
)
from stillroom.objectives.features import mse
from stillroom.objectives.rows import select
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View
from stillroom.views.image_text import patches_of

__all__ = ["ClipKD"]

PARTS = ("task", "fd", "icl", "crd", "cross_kd", "gd", "afd", "mfd")
PROJECTED = ("fd", "mfd", "icl", "cross_kd", "gd", "afd")
SIDES = ("image", "text")
WAYS = (SIDES, SIDES[::-1])  # anchors and targets


class RawScale(nn.Module):
    """The authors' scale: a plain number that starts at ln(1 / 0.07), never exponentiated or held."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self) -> Tensor:
        """The number now."""
        return self.value


@dataclass(frozen=True)
class Seen:
    """The rows of a batch that count, as the parts see them.

    own: side -> the student's embeddings [B, d_s]. ours: the same in the teacher's width and of length 1, v^ and s^.
    taught: the teacher's [B, d_t], of length 1. scale, taught_scale: l and l_t. rows: [B], all true.
    """

    own: Mapping[str, Tensor]
    ours: Mapping[str, Tensor]
    taught: Mapping[str, Tensor]
    scale: Tensor
    taught_scale: Tensor
    rows: Tensor


class ClipKD(Objective):
    """Distil a CLIP by embeddings, contrast, similarities, gradients or fused embeddings, in any sum of them.

    Args:
        task: weight of the pairs' own contrast, >= 0, as are all weights.
        fd: of the squared error between embeddings.
        icl: of the contrast of the student's anchors with the teacher's embeddings.
        crd: of the match of similarities.
        cross_kd: of the match of similarities to the teacher's embeddings.
        gd: of the match of the contrast's gradients; the paper's is 1e8.
        afd: of the contrast of fused embeddings; the paper's is 1.
        mfd: of fd with patches hidden from the student, in place of fd; the paper's is 2000.
        mask_ratio: share of a picture's patches that mfd hides, in (0, 1).
        tau: temperature of the gradients of gd, > 0; None takes one over each model's own scale.
        parity: ``paper``, or ``code`` for what the authors' code does where the two differ.

    Raises:
        ValueError: a weight below 0, nothing to learn from, fd and mfd at once, or a value outside its range.
    """

    units: ClassVar[dict[str, Unit]] = dict.fromkeys(PARTS, "row")
    reads = ("image-text",)
    needs = Needs(student=("tower:image", "tower:text", "scale"), teacher=("tower:image", "tower:text", "scale"))
    across_rows: ClassVar[bool] = True

    def __init__(
        self,
        *,
        task: float = 1.0,
        fd: float = 2000.0,
        icl: float = 1.0,
        crd: float = 1.0,
        cross_kd: float = 0.0,
        gd: float = 0.0,
        afd: float = 0.0,
        mfd: float = 0.0,
        mask_ratio: float = 0.75,
        tau: float | None = None,
        parity: Literal["paper", "code"] = "paper",
    ) -> None:
        super().__init__()
        given = dict(zip(PARTS, (task, fd, icl, crd, cross_kd, gd, afd, mfd), strict=True))
        if min(given.values()) < 0 or not any(given.values()):
            raise ValueError(f"the weights must be >= 0 and not all 0; they are {given}")
        if fd and mfd:
            raise ValueError(
                "fd and mfd are one loss on whole and on masked pictures; set the weight of one of them to 0"
            )
        if not 0 < mask_ratio < 1 or (tau is not None and tau <= 0):
            raise ValueError(f"mask_ratio must lie in (0, 1) and tau above 0; they are {mask_ratio} and {tau}")
        if parity not in ("paper", "code"):
            raise ValueError(f"parity must be paper or code; it is {parity!r}")
        self.weights = {name: weight for name, weight in given.items() if weight}
        self.mask_ratio, self.tau, self.parity = mask_ratio, tau, parity

    @property
    def hides(self) -> bool:
        """Whether the student sees parts of pictures."""
        return "mfd" in self.weights and self.parity == "paper"

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Make W and W', U and U', c and c', those that the parts with a weight use.

        Raises:
            UserError: the teacher's scale is not a number, or patches are to be hidden from another network than a
                vision transformer.
        """
        assert sample.emitted is not None and sample.emitted.scale is not None
        if not bool(sample.emitted.scale.isfinite()):
            raise UserError("the teacher's scale is not a finite number; its weights are damaged, take another teacher")
        with torch.no_grad():
            ours = view.emit(student, sample.student, self.needs.student).towers
        width, target = ours["image"].shape[-1], sample.emitted.towers["image"].shape[-1]
        scale = RawScale if self.parity == "code" else LearnedScale
        if any(name in self.weights for name in PROJECTED):
            self.project = nn.ModuleDict({side: projector(width, target) for side in SIDES})
        if "icl" in self.weights or "cross_kd" in self.weights:
            self.cross_scale = scale()
        if "afd" in self.weights:
            self.fuse = nn.ModuleDict({side: nn.Linear(2 * target, target) for side in SIDES})
            self.fused_scale = scale()
        self.patches = patches_of(student) if self.hides else 0

    def prepare(self, batch: Batch, step: Step, student: Any, view: View) -> Batch:
        """Hold the student's scale between 1 and 100; hide patches where mfd asks for it."""
        hold_back(student.logit_scale, minimum=1.0)
        return hide_patches(batch, self.patches, self.mask_ratio) if self.hides else batch

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """The parts that have a weight, over rows.

        Raises:
            UserError: a single row, which has nothing to be told from.
        """
        assert student.scale is not None and teacher is not None and teacher.scale is not None
        own = {side: select(student.towers[side], batch.mask) for side in SIDES}
        taught = {side: select(teacher.towers[side].detach(), batch.mask) for side in SIDES}
        count, project = len(own["image"]), getattr(self, "project", None)
        if count == 1:
            raise UserError("contrast needs two rows in a batch, and one has 1; raise train.batch_size or micro_batch")
        seen = Seen(
            own=own,
            ours={} if project is None else {side: F.normalize(project[side](own[side]), dim=-1) for side in SIDES},
            taught={side: F.normalize(taught[side].to(own[side]), dim=-1) for side in SIDES},
            scale=student.scale,
            taught_scale=teacher.scale.to(student.scale),
            rows=torch.ones(count, dtype=torch.bool, device=batch.mask.device),
        )
        return {name: getattr(self, f"_{name}")(seen) for name in self.weights}

    def _task(self, seen: Seen) -> Reduced:
        return two_sided_info_nce(seen.own["image"], seen.own["text"], seen.rows, scale=seen.scale)

    def _fd(self, seen: Seen) -> Reduced:
        pictures, texts = (mse(seen.ours[side], seen.taught[side], seen.rows) for side in SIDES)
        return Reduced(pictures.sum + texts.sum, pictures.count)

    _mfd = _fd  # the difference was made when the student read its pictures

    def _icl(self, seen: Seen) -> Reduced:
        scale = self.cross_scale()
        there, back = (info_nce(seen.ours[a], seen.taught[b], seen.rows, scale=scale) for a, b in WAYS)
        return mean_of_both(there, back)

    def _crd(self, seen: Seen) -> Reduced:
        return self._similarities(seen, seen.own, seen.own, seen.scale)

    def _cross_kd(self, seen: Seen) -> Reduced:
        return self._similarities(seen, seen.ours, seen.taught, self.cross_scale())

    def _similarities(
        self, seen: Seen, anchors: Mapping[str, Tensor], targets: Mapping[str, Tensor], scale: Tensor
    ) -> Reduced:
        there, back = (
            contrast_divergence(
                anchors[a],
                targets[b],
                seen.taught[a],
                seen.taught[b],
                seen.rows,
                scale=scale,
                teacher_scale=seen.taught_scale,
            )
            for a, b in WAYS
        )
        return mean_of_both(there, back)

    def _gd(self, seen: Seen) -> Reduced:
        errors = [
            mse(mine, wanted, seen.rows).sum
            for a, b in WAYS
            for mine, wanted in zip(
                self._gradients(seen, seen.ours, a, b, seen.scale),
                self._gradients(seen, seen.taught, a, b, seen.taught_scale),
                strict=True,
            )
        ]
        return Reduced(torch.stack(errors).sum(), seen.rows.sum())

    def _gradients(
        self, seen: Seen, side: Mapping[str, Tensor], a: str, b: str, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of one direction's contrast: with respect to its anchors and its targets, [rows, d_t] each."""
        if self.tau is not None:
            sharpness: float | Tensor = 1 / self.tau
        else:
            sharpness = 1 / scale if self.parity == "code" else scale
        return info_nce_gradients(side[a], side[b], scale=sharpness)

    def _afd(self, seen: Seen) -> Reduced:
        pictures, texts = (self.fuse[side](torch.cat([seen.ours[side], seen.taught[side]], -1)) for side in SIDES)
        return two_sided_info_nce(pictures, texts, seen.rows, scale=self.fused_scale())

    def log(self) -> dict[str, float]:
        """The scale of the contrast with the teacher's embeddings."""
        return {"cross_scale": float(self.cross_scale().detach())} if hasattr(self, "cross_scale") else {}
