"""TransKD: a small segmentation transformer learns its teacher's feature maps and patch embeddings, stage by stage.

**Paper**: Liu, Yang, Roitberg, Zhang, Peng, Liu, Wang and Stiefelhagen 2022, "TransKD: Transformer Knowledge
Distillation for Efficient Semantic Segmentation" (arXiv 2202.13393), code at github.com/RuipingL/TransKD.

**Idea**: A hierarchical transformer holds knowledge at two places of each stage: in what it makes of the image (the
stage's map) and in how it cuts the image into patches (the embedding in front of the stage's blocks). The first is
learnt through a top-down selective fusion of the student's stages, the second through a plain widening.

**Objective**: stages i = 1..4, student maps F_i [B, c_i, h_i, w_i] and embeddings E_i [B, N_i, c_i], the teacher's
F_i^T and E_i^T with C_i channels and the same places.

Cross selective fusion (CSF), from the deepest stage up: x_i = BN(conv1 F_i), of ``mid_width``; r_4 = x_4; above it,
with y = r_{i+1} brought to the size of x_i (nearest), z = ReLU(BN(conv1 GAP(x_i + y))), and per channel
(a_x, a_y) = softmax over the two of (A_x z, A_y z),

    r_i = a_x x_i + a_y y,   O_i = BN(conv3 r_i), of C_i channels.

Patch embedding alignment (PEA): P_i E_i, P_i linear to C_i.

    loss = CE of pixels + w_f sum_i L_f(O_i, F_i^T) + sum_i w_i MSE(P_i E_i, E_i^T),   w = 0.1, 0.1, 0.5, 1

L_f is ``cwd``, KL over the places of each channel at temperature T, times T^2, averaged over channels; or ``hcl``, the
mean squared error at several sizes (`stillroom.objectives.maps`). Two variants change the embedding:

- ``gl`` mixes the last one first: a global self-attention E' and a local gated convolution along the tokens,
  w_a E' + w_c conv(E_4) sigmoid(conv'(E_4)).
- ``ea`` adds a second patch embedder of the teacher's width per stage, which reads the image or the student's map
  before: w_i PEA_i + w_{i+4} EA_i, with learnt weights.

**Kept and changed**: the default L_f is the paper's channel-wise KL; the authors' training code uses ``hcl``. In the
code the two weights of ``gl`` are memory that nobody set; they start at 0.5. For a batch of one image the code keeps a
second squeeze convolution without batch norm; here batch norm then uses its running statistics. Rows without a
labelled pixel are left out of all parts. Everything but the student is dropped at the end. As its batch norms see the
whole batch, so does the loss.

**Use it when**: both models are SegFormers, or other hierarchical transformers with as many stages and the same
strides, and the student can't be pre-trained: the paper gains 12 points of mean IoU there. Both models' inner signals
are asked for, so the teacher must run here. Where both have been pre-trained, plain distillation of the pixels' logits
is simpler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.features import mse_rows
from stillroom.objectives.maps import channel_kl, pyramid_mse
from stillroom.objectives.sequence import cross_entropy
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View

__all__ = ["TransKD", "SelectiveFusion"]  # noqa: RUF022 - the method comes first

EMBEDDING = "segformer.stages.{}.patch_embeddings"  # where a SegFormer of transformers cuts its image into patches


class TransKD(Objective):
    """Pixels' labels, the teacher's maps through a selective fusion, and its patch embeddings.

    Args:
        variant: ``base``; ``gl``, with a global-local mixer before the last embedding; ``ea``, with an embedding
            assistant in every stage.
        feature: how maps are compared: ``cwd``, ``hcl``, or ``none`` for embeddings alone.
        feature_weight: w_f, >= 0.
        temperature: T of ``cwd``, > 0.
        embedding_weights: w_i of the stages, each >= 0; as many as the models have stages. All 0: maps alone.
        mid_width: channels of the fusion, > 0.
        heads: of the attention of ``gl``; must divide the width of the student's last stage.
        residual: of ``gl``: add the mix to the embedding instead of taking its place.

    Raises:
        ValueError: a value outside its range, or nothing to learn from the teacher.
    """

    kind: ClassVar[str] = "segmentation"
    units: ClassVar[dict[str, Unit]] = {"ce": "token", "feature": "row", "embedding": "row"}
    across_rows: ClassVar[bool] = True

    def __init__(
        self,
        *,
        variant: Literal["base", "gl", "ea"] = "base",
        feature: Literal["cwd", "hcl", "none"] = "cwd",
        feature_weight: float = 1.0,
        temperature: float = 1.0,
        embedding_weights: Sequence[float] = (0.1, 0.1, 0.5, 1.0),
        mid_width: int = 64,
        heads: int = 8,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if variant not in ("base", "gl", "ea") or feature not in ("cwd", "hcl", "none"):
            raise ValueError(f"variant is base, gl or ea and feature cwd, hcl or none, not {variant!r} and {feature!r}")
        if feature_weight < 0 or not embedding_weights or min(embedding_weights) < 0:
            raise ValueError(f"weights must be >= 0; they are {feature_weight} and {tuple(embedding_weights)}")
        if temperature <= 0 or mid_width < 1 or heads < 1:
            raise ValueError("temperature, mid_width and heads must be above 0")
        self.variant, self.temperature = variant, temperature
        self.feature = feature if feature_weight else "none"
        self.embedding_weights = tuple(embedding_weights)
        if self.feature == "none" and not any(self.embedding_weights):
            raise ValueError("nothing is learnt from the teacher; give feature_weight or an embedding weight above 0")
        self.mid_width, self.heads, self.residual = mid_width, heads, residual
        self.weights = {"feature": feature_weight}
        stages = range(len(self.embedding_weights))
        asked = ("hidden:all", *(f"tap:{EMBEDDING.format(stage)}" for stage in stages))
        self.needs = Needs(student=("logits", *asked), teacher=asked)

    @classmethod
    def example(cls) -> TransKD:
        """One in which every weight has something to learn: ``cwd`` is blind to what is added to a whole channel."""
        return cls(feature="hcl")

    @property
    def aligned(self) -> list[int]:
        """The stages whose embeddings are learnt, from 0."""
        return [stage for stage, weight in enumerate(self.embedding_weights) if weight]

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Make the fusion and the widenings, by the shapes of both models' signals.

        Raises:
            UserError: the models have other stages, or other places in them.
        """
        assert sample.emitted is not None
        training = student.training
        with torch.no_grad():
            own = view.emit(student.eval(), sample.student, self.needs.student)
        student.train(training)
        ours, theirs = _maps(own), _maps(sample.emitted)
        self._check(ours, theirs)
        if self.feature != "none":
            widths = [(mine.shape[1], wanted.shape[1]) for mine, wanted in zip(ours, theirs, strict=True)]
            self.fusion = SelectiveFusion(widths, mid_width=self.mid_width)
        pairs = {stage: (ours[stage].shape[1], theirs[stage].shape[1]) for stage in self.aligned}
        self.align = nn.ModuleDict({str(stage): nn.Linear(*widths) for stage, widths in pairs.items()})
        last = len(ours) - 1
        if self.variant == "gl" and last in self.aligned:
            self.mixer = GlobalLocalMixer(ours[last].shape[1], heads=self.heads, residual=self.residual)
        if self.variant == "ea":
            config = student.config
            images = sample.student["pixel_values"].shape[1]
            self.assistants = nn.ModuleDict(
                {
                    str(stage): PatchEmbedder(
                        ours[stage - 1].shape[1] if stage else images,
                        theirs[stage].shape[1],
                        size=config.patch_sizes[stage],  # type: ignore[union-attr, index, arg-type]
                        stride=config.strides[stage],  # type: ignore[union-attr, index, arg-type]
                    )
                    for stage in self.aligned
                }
            )
            self.shares = nn.Parameter(0.1 * torch.arange(1, 2 * len(self.aligned) + 1))

    def _check(self, ours: list[Tensor], theirs: list[Tensor]) -> None:
        stages = len(self.embedding_weights)
        if not len(ours) == len(theirs) == stages:
            raise UserError(
                f"the student has {len(ours)} stages and the teacher {len(theirs)}, and embedding_weights names "
                f"{stages}; all three must agree"
            )
        for number, (mine, wanted) in enumerate(zip(ours, theirs, strict=True), 1):
            if mine.shape[2:] != wanted.shape[2:]:
                sizes = " and ".join("x".join(map(str, each.shape[2:])) for each in (mine, wanted))
                raise UserError(f"the maps of stage {number} are {sizes}; take models with the same strides and input")

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``ce`` over pixels; ``feature`` and ``embedding``, the sums over stages, over images."""
        assert student.logits is not None and teacher is not None and batch.labels is not None
        parts = {"ce": cross_entropy(student.logits, batch.labels, batch.mask)}
        rows = batch.mask.any(-1)
        everything = torch.ones_like(rows[rows])
        ours = [values[rows] for values in _maps(student)]
        theirs = [values[rows].detach() for values in _maps(teacher)]
        if self.feature != "none":
            fused = self.fusion(ours) if len(everything) else [values[:, :1] for values in ours]
            theirs = theirs if len(everything) else fused
            losses = [self._compare(mine, wanted, everything) for mine, wanted in zip(fused, theirs, strict=True)]
            parts["feature"] = Reduced(torch.stack(losses).sum(), rows.sum())
        if self.aligned:
            losses = [
                self.embedding_weights[stage] * self._embedding_error(stage, student, teacher, batch, rows)
                for stage in self.aligned
            ]
            parts["embedding"] = Reduced(torch.stack(losses).sum(), rows.sum())
        return parts

    def _compare(self, ours: Tensor, theirs: Tensor, mask: Tensor) -> Tensor:
        if self.feature == "hcl":
            return pyramid_mse(ours, theirs, mask).sum
        return channel_kl(ours, theirs, mask, temperature=self.temperature).sum

    def _embedding_error(self, stage: int, student: Signals, teacher: Signals, batch: Batch, rows: Tensor) -> Tensor:
        """The mean squared error of one stage's embedding, summed over images."""
        name = EMBEDDING.format(stage)
        ours, theirs = student.taps[name][rows], teacher.taps[name][rows].detach()
        if not len(ours):
            return ours.sum()
        mixed = stage == len(self.embedding_weights) - 1 and self.variant == "gl"
        found = self.align[str(stage)](self.mixer(ours) if mixed else ours)
        if self.variant == "ea":
            place = self.aligned.index(stage)
            source = _maps(student)[stage - 1] if stage else batch.student["pixel_values"]
            helped = self.assistants[str(stage)](source[rows])
            found = self.shares[place] * found + self.shares[place + len(self.aligned)] * helped
        return mse_rows(found, theirs).mean(-1).sum()


class SelectiveFusion(nn.Module):
    """CSF: the student's maps, each mixed with what the deeper stages say, at the teacher's widths.

    Args:
        widths: (student's, teacher's) channels of each stage, shallowest first.
        mid_width: channels in between.
    """

    def __init__(self, widths: Sequence[tuple[int, int]], *, mid_width: int = 64) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(_convolution(own, mid_width, 1) for own, _ in widths)
        self.widen = nn.ModuleList(_convolution(mid_width, wanted, 3) for _, wanted in widths)
        squeezed = max(mid_width // 16, 32)
        deepest = len(widths) - 1
        self.squeeze = nn.ModuleList(
            nn.Sequential(nn.Conv2d(mid_width, squeezed, 1, bias=False), Norm(squeezed), nn.ReLU())
            for _ in range(deepest)
        )
        self.choose = nn.ModuleList(nn.Conv2d(squeezed, 2 * mid_width, 1) for _ in range(deepest))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[B, c_i, h_i, w_i] of each stage -> [B, C_i, h_i, w_i]."""
        out: list[Tensor] = []
        deeper: Tensor | None = None
        for stage in reversed(range(len(maps))):
            fused = self.reduce[stage](maps[stage])
            if deeper is not None:
                deeper = F.interpolate(deeper, fused.shape[2:], mode="nearest")
                pooled = self.squeeze[stage]((fused + deeper).mean((2, 3), keepdim=True))
                own, other = self.choose[stage](pooled).unflatten(1, (2, -1)).softmax(1).unbind(1)
                fused = own * fused + other * deeper
            out.append(self.widen[stage](fused))
            deeper = fused
        return out[::-1]


class Norm(nn.BatchNorm2d):
    """Batch norm that falls back on its running statistics where a channel has a single value."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w], normalised."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


class GlobalLocalMixer(nn.Module):
    """Tokens mixed by attention over all of them, and by a gated convolution over their neighbours.

    Args:
        width: of a token.
        heads: of the attention; must divide the width.
        residual: add the mix to what came in.
    """

    def __init__(self, width: int, *, heads: int = 8, residual: bool = False) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"{heads} heads don't divide the width {width} of the student's last stage; set heads")
        self.heads, self.residual = heads, residual
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.value, self.gate = (nn.Conv1d(width, width, 3, padding=1) for _ in range(2))
        self.shares = nn.Parameter(torch.tensor([0.5, 0.5]))

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, width] -> the same."""
        parts = self.queries_keys_values(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = self.out(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))
        channels = tokens.transpose(1, 2)
        local = (self.value(channels) * self.gate(channels).sigmoid()).transpose(1, 2)
        mixed = self.shares[0] * attended + self.shares[1] * local
        return tokens + mixed if self.residual else mixed


class PatchEmbedder(nn.Module):
    """An overlapping patch embedding: convolution, tokens, layer norm.

    Args:
        channels: of the map.
        width: of a token.
        size: of a patch.
        stride: between patches.
    """

    def __init__(self, channels: int, width: int, *, size: int, stride: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, size, stride, padding=size // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] -> [B, N, width]."""
        return self.norm(self.project(x).flatten(2).transpose(1, 2))


def _convolution(channels: int, width: int, size: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, size, padding=size // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, Norm(width))


def _maps(signals: Signals) -> list[Tensor]:
    """The maps of all stages, shallowest first."""
    return [signals.hidden[number] for number in sorted(signals.hidden)]
