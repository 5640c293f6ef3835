"""iBOT: a vision transformer learns to name hidden patches as its own moving average names them.

**Paper**: Zhou, Wei, Wang, Shen, Xie, Yuille and Kong 2022, "iBOT: Image BERT Pre-Training with Online Tokenizer"
(ICLR 2022, arXiv 2111.07832), code at github.com/bytedance/ibot.

**Idea**: Masked modelling of images needs a tokenizer. Take the teacher of self-distillation, the student's own moving
average, and let it name patches as well as whole crops: the student, who does not see some patches, must say what the
teacher calls them; and of each crop, what the teacher calls another one of the image.

**Objective**: two global crops u of an image, maybe further small ones; some patches of the student's global crops
replaced by a learnt vector before the positions are added. A head gives K logits for a crop (from its cls token) and
for each patch. With teacher logits z, centre c and temperatures T_t, T_s,

    P_t = softmax((z_t - c) / T_t),   P_s = softmax(z_s / T_s)
    L_cls   = mean over teacher's global crops q and student's crops v != q of  -P_t(q) . log P_s(v)
    L_patch = mean over global crops of the mean over hidden patches i of       -P_t,i . log P_s,i
    loss    = L_cls + L_patch

Both models share their head between crops and patches. The teacher is the average of the student, momentum 0.996 to 1
along a cosine; c is the average, momentum 0.9, of the teacher's raw logits over a step's rows, one for crops and one
for patches. T_s is 0.1; T_t for crops 0.04, for patches 0.04 to 0.07. With ``patch=0`` it is DINO (Caron et al., 2021).

**Kept and changed**: as in the authors' code, an image's crop is left whole with chance one half, and otherwise
0.3 +- 0.2 of its patches are hidden, in BEiT's blocks; an image without hidden patches counts as 0 in L_patch; what is
kept in the end is the teacher. Crops are made on tensors in the training loop, colours by matrices instead of an image
library. The vector of hidden patches is the model's own mask token, and is taken off in the end. Warm-ups are shares of
the training. The centre moves once an optimiser step. Not here: a weight decay that rises (0.04 to 0.4), which the loop
does not do.

**Use it when**: there are many images and no labels, and the model is a ViT; its patches are wanted as well as its
whole images. Crops must keep what matters: where a fifth of the image can be another object, raise ``scale``. With few
images or little time, K of some hundreds and a smaller head do.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from stillroom.blocks.crops import random_crops, recolour
from stillroom.blocks.ema import EMA, cosine_momentum
from stillroom.blocks.patch_masks import patch_mask
from stillroom.blocks.self_distillation import Centre, Directions, PrototypeHead, prototype_cross_entropy, warm_up
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit
from stillroom.views.base import View
from stillroom.views.image import MEAN, STD

__all__ = ["IBOT"]

LAST = "layernorm"  # what a ViT of transformers gives out: cls token and patches
COLD = 0.04  # where the patches' temperature begins
GLOBAL_COLOURS = ({"blur": 1.0, "solarise": 0.0}, {"blur": 0.1, "solarise": 0.2})  # of the two global crops


class IBOT(Objective):
    """Self-distillation of crops and of hidden patches.

    Args:
        cls: weight of L_cls, >= 0; 0 leaves patches alone.
        patch: weight of L_patch, >= 0; 0 is DINO.
        prototypes: K, at least 2.
        hidden: width inside the head.
        bottleneck: width of its last layer but one.
        shared_head: whether the student's patches have the last layer of its crops, as the teacher's always have.
        student_temperature: T_s, > 0.
        teacher_temperature: T_t of crops, > 0.
        patch_temperature: T_t of patches, > 0, after the warm-up from 0.04.
        warmup: share of the training in which it gets there, in [0, 1].
        freeze: share of the training, from its start, in which the head's last layer stays as it is, in [0, 1].
        momentum: of the teacher at the start, in [0, 1]; at the end it is 1.
        centre_momentum: of the centres, in [0, 1].
        mask_ratio: share of a crop's patches that is hidden where any are, in [0, 1].
        mask_spread: the share is drawn from the ratio minus this to the ratio plus this.
        whole: the chance that no patch of a crop is hidden, in [0, 1].
        mask_shape: ``block`` or ``random``.
        scale: shares of the image's area that a global crop takes, from and to.
        local_crops: how many small crops the student sees beside.
        local_scale: shares of the area that these take.
        local_size: their size in pixels, a multiple of a patch; half of the image's if None.
        augment: ``full``, crops in other colours; ``crops``, without the colours, where these tell what is shown;
            ``none``, the whole image for each crop.
        keep: who is the student in the end: the ``teacher``, as in the paper, or the ``student``.

    Raises:
        ValueError: a value outside its range.
    """

    kind: ClassVar[str] = "image-encoder"
    needs = Needs(student=(f"tap:{LAST}",))
    units: ClassVar[dict[str, Unit]] = {"cls": "row", "patch": "row"}

    def __init__(
        self,
        *,
        cls: float = 1.0,
        patch: float = 1.0,
        prototypes: int = 8192,
        hidden: int = 2048,
        bottleneck: int = 256,
        shared_head: bool = True,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        patch_temperature: float = 0.07,
        warmup: float = 0.3,
        freeze: float = 0.01,
        momentum: float = 0.996,
        centre_momentum: float = 0.9,
        mask_ratio: float = 0.3,
        mask_spread: float = 0.2,
        whole: float = 0.5,
        mask_shape: Literal["block", "random"] = "block",
        scale: tuple[float, float] = (0.14, 1.0),
        local_crops: int = 0,
        local_scale: tuple[float, float] = (0.05, 0.4),
        local_size: int | None = None,
        augment: Literal["full", "crops", "none"] = "full",
        keep: Literal["teacher", "student"] = "teacher",
    ) -> None:
        super().__init__()
        if min(cls, patch) < 0 or not cls + patch:
            raise ValueError(f"cls and patch are weights >= 0, and not both 0; they are {cls} and {patch}")
        if min(student_temperature, teacher_temperature, patch_temperature) <= 0:
            raise ValueError("temperatures must be > 0")
        shares = {"warmup": warmup, "freeze": freeze, "momentum": momentum, "whole": whole}
        shares |= {
            "mask_ratio - mask_spread": mask_ratio - mask_spread,
            "mask_ratio + mask_spread": mask_ratio + mask_spread,
        }
        for name, share in shares.items():
            if not -1e-9 <= share <= 1 + 1e-9:
                raise ValueError(f"{name} must lie in [0, 1]; it is {share:g}")
        if prototypes < 2 or local_crops < 0 or mask_spread < 0:
            raise ValueError("prototypes must be at least 2, local_crops and mask_spread at least 0")
        for name, (low, high) in {"scale": scale, "local_scale": local_scale}.items():
            if not 0 < low <= high <= 1:
                raise ValueError(f"{name} gives shares of an image in (0, 1], the smaller first; it is {(low, high)}")
        self.weights = {name: weight for name, weight in (("cls", cls), ("patch", patch)) if weight}
        self.head_shape = {"prototypes": prototypes, "hidden": hidden, "bottleneck": bottleneck}
        self.shared_head = shared_head
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature
        self.patch_temperature = warm_up(COLD, patch_temperature, warmup)
        self.freeze, self.momentum, self.centre_momentum = freeze, momentum, centre_momentum
        self.mask_ratio, self.mask_spread, self.whole, self.mask_shape = mask_ratio, mask_spread, whole, mask_shape
        self.scale, self.local_crops, self.local_scale, self.local_size = scale, local_crops, local_scale, local_size
        self.augment, self.keep = augment, keep

    @classmethod
    def example(cls) -> IBOT:
        """For very small models, with nothing drawn: every crop is the image."""
        return cls(prototypes=16, hidden=16, bottleneck=8, whole=1.0, augment="none")

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Make the heads, the teachers and the centres, and give the student a mask token.

        Raises:
            UserError: the student hides no patches, or small crops are no whole number of patches.
        """
        parts: Any = student
        if not hasattr(getattr(student, "embeddings", None), "mask_token"):
            raise UserError(f"{type(student).__name__} hides no patches; take a ViT (architecture: vit)")
        config = parts.config
        self.grid = (config.image_size // config.patch_size,) * 2
        self.size = config.image_size
        pixels = sample.student["pixel_values"]
        if tuple(pixels.shape[-2:]) != (self.size, self.size):
            raise UserError(
                f"the model was made for images of {self.size} pixels and the view gives {pixels.shape[-1]}; set both "
                "(student.new.config.image_size, student.options.size) to the same"
            )
        half = self.size // 2 // config.patch_size * config.patch_size
        self.small = self.local_size or max(half, config.patch_size)
        if self.local_crops and self.small % config.patch_size:
            raise UserError(
                f"small crops of {self.small} pixels are no whole number of {config.patch_size}-pixel patches"
            )
        token = torch.zeros(1, 1, config.hidden_size, dtype=pixels.dtype, device=pixels.device)
        self.own_token = parts.embeddings.mask_token is not None
        if not self.own_token:
            parts.embeddings.mask_token = nn.Parameter(token)
        self.head = PrototypeHead(config.hidden_size, **self.head_shape)
        self.patch_directions = (
            None if self.shared_head else Directions(self.head_shape["bottleneck"], self.head_shape["prototypes"])
        )
        schedule = cosine_momentum(self.momentum, 1.0)
        self.teacher, self.teacher_head = EMA(student, schedule), EMA(self.head, schedule)
        self.centres = nn.ModuleDict(
            {name: Centre(self.head_shape["prototypes"], momentum=self.centre_momentum) for name in ("cls", "patch")}
        )
        self._followed, self._view = (student,), view  # in a tuple, so that the student is no part of the method

    # --- crops --------------------------------------------------------------------------------------------------------

    def prepare(self, batch: Batch, step: Step, student: nn.Module, view: View) -> Batch:
        """Two global crops of each image, all the first ones first, with hidden patches; small ones as another pass."""
        images = batch.student["pixel_values"] * STD + MEAN
        crops = [self._crop(images, self.size, self.scale, colours) for colours in GLOBAL_COLOURS]
        masks = torch.stack([self._mask() for _ in range(2 * len(batch))]).to(images.device)
        hidden = {"pixel_values": torch.cat(crops), "bool_masked_pos": masks}
        others = []
        if self.local_crops:
            colours = {"blur": 0.5, "solarise": 0.0}
            small = [self._crop(images, self.small, self.local_scale, colours) for _ in range(self.local_crops)]
            others = [{"pixel_values": torch.cat(small), "interpolate_pos_encoding": True}]
        return replace(batch, student=hidden, others=others)

    def _crop(self, images: Tensor, size: int, scale: tuple[float, float], colours: dict[str, float]) -> Tensor:
        if self.augment == "none":
            found = nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
        else:
            found = random_crops(images, size, scale=scale)
        if self.augment == "full":
            found = recolour(found, **colours)
        return (found - MEAN) / STD

    def _mask(self) -> Tensor:
        """The hidden patches of one crop, [N]."""
        share = 0.0
        if random.random() >= self.whole:
            share = random.uniform(self.mask_ratio - self.mask_spread, self.mask_ratio + self.mask_spread)
        count = int(max(share, 0) * self.grid[0] * self.grid[1])
        return patch_mask(*self.grid, count, self.mask_shape).flatten()

    # --- losses -------------------------------------------------------------------------------------------------------

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``cls`` and ``patch``, over images. Rows that were not prepared are one crop, which is held against itself.

        Raises:
            ValueError: the hidden patches are not those of the model's grid.
        """
        rows, frozen = batch.mask, step.progress < self.freeze
        ours = _crops(student, rows)
        hidden = batch.student.get("bool_masked_pos")
        if hidden is not None and hidden.shape[-1] != ours.shape[2] - 1:
            raise ValueError(f"a mask of {hidden.shape[-1]} patches does not fit a model with {ours.shape[2] - 1}")
        with torch.no_grad():
            clean = {name: value for name, value in batch.student.items() if name != "bool_masked_pos"}
            theirs = _crops(self._view.emit(self.teacher.copy, clean, self.needs.student), rows)
        parts = {}
        if "cls" in self.weights:
            small = [_crops(other, rows)[:, :, 0] for other in student.others]
            parts["cls"] = Reduced(self._cls(torch.cat([ours[:, :, 0], *small]), theirs[:, :, 0], frozen), rows.sum())
        if "patch" in self.weights:
            where = torch.zeros(ours.shape[:3], dtype=torch.bool, device=rows.device)[:, :, 1:]
            if hidden is not None:
                where = hidden.unflatten(0, (-1, len(batch)))[:, rows]
            temperature = self.patch_temperature(step.progress)
            parts["patch"] = Reduced(self._patch(ours, theirs, where, temperature, frozen), rows.sum())
        return parts

    def _cls(self, ours: Tensor, theirs: Tensor, frozen: bool) -> Tensor:
        """[V, n, H] of the student's crops, [2, n, H] of the teacher's: the sum over images."""
        logits, wanted = self.head(ours, frozen=frozen), self.teacher_head(theirs)
        self._centre("cls").add(wanted.flatten(0, 1))
        pairs = [(q, v) for q in range(len(wanted)) for v in range(len(logits)) if v != q or len(logits) == 1]
        losses = [self._compare(logits[v], wanted[q], self._centre("cls"), self.teacher_temperature) for q, v in pairs]
        return torch.stack(losses).mean(0).sum()

    def _patch(self, ours: Tensor, theirs: Tensor, where: Tensor, temperature: float, frozen: bool) -> Tensor:
        """[2, n, 1 + N, H] of both, and what was hidden [2, n, N]: the sum over images."""
        head: Any = self.teacher_head.copy
        with torch.no_grad():
            named = head.embed(theirs[:, :, 1:])
            # A mean of logits is the logits of the mean bottleneck: no tensor of patches x K is needed for it.
            self._centre("patch").add(head.directions(named.mean(2)).flatten(0, 1))
            wanted = head.directions(named[where])
        last = self.head.directions if self.patch_directions is None else self.patch_directions
        logits = last(self.head.embed(ours[:, :, 1:][where]), frozen=frozen)
        losses = self._compare(logits, wanted, self._centre("patch"), temperature)
        counts = where.sum(-1, keepdim=True).clamp(min=1)
        return (losses / counts.expand_as(where)[where]).sum() / len(ours)

    def _centre(self, name: str) -> Centre:
        found = self.centres[name]
        assert isinstance(found, Centre)
        return found

    def _compare(self, ours: Tensor, theirs: Tensor, centre: Centre, temperature: float) -> Tensor:
        return prototype_cross_entropy(
            ours,
            theirs,
            centre.value,
            student_temperature=self.student_temperature,
            teacher_temperature=temperature,
        )

    # --- the teacher --------------------------------------------------------------------------------------------------

    def after_step(self, step: Step, losses: dict[str, float]) -> None:
        """Move the centres, and the teacher towards the student."""
        for name in self.centres:
            self._centre(name).update()
        self.teacher.update(self._followed[0], step.progress)
        self.teacher_head.update(self.head, step.progress)

    def finish(self, student: nn.Module) -> None:
        """Put the teacher's weights into the student, and take the mask token off it."""
        parts: Any = student
        if self.keep == "teacher":
            student.load_state_dict(self.teacher.copy.state_dict())
        if not self.own_token:
            parts.embeddings.mask_token = None


def _crops(signals: Signals, rows: Tensor) -> Tensor:
    """Cls token and patches of each crop of each real row, [V, n, 1 + N, H]."""
    return signals.taps[LAST].unflatten(0, (-1, len(rows)))[:, rows]
