"""OADP: a detector learns from CLIP what objects, blocks and whole images are called, and so finds what has no labels.

**Paper**: Wang, Liu, Du, Ding, Liao, Wang, Xu and Zhang 2023, "Object-Aware Distillation Pyramid for Open-Vocabulary
Object Detection" (CVPR 2023, arXiv 2303.05892), code at github.com/LutingWang/OADP.

**Idea**: CLIP knows objects that a detector has no labels for, but crops of proposals spoil what it sees: they are
distorted, or show the surroundings. So cut out squares of a size that fits the object, and read from the object's own
patches only. And distil not objects alone, but overlapping blocks and the whole image, which show what no proposal
covers.

**Objective**: two stages. `ObjectKnowledge` runs CLIP once over the proposals, blocks and images
(`stillroom.blocks.object_knowledge`). Then, with a detector's region features r_o, block features r_b and image feature
r_g, brought to CLIP's width D by heads h, CLIP's vectors c, text embeddings t of the classes, everything of length 1,

    loss = detection + 256 L1(h_o r_o, c_o) + 128 L1(h_b r_b, c_b) + 8 MSE(G_b, G_c) + 0.5 |h_g r_g - c_g|^2
           + 16 asymmetric(blocks) + 4 asymmetric(image)

L1 and MSE average over the width and over regions; G are the matrices of all inner products of the batch's blocks.
Every classifier is h r . t / temperature: for detection with a learnt background and novel classes at -inf, over
proposals (cross-entropy; boxes by L1); for blocks and images one yes or no a base class, a block having every class
whose boxes it meets. Weights of distillation rise over 200 steps, those of the asymmetric losses over 1000 and 2000.

In use, blocks and image have no part, and novel classes come back. With p_det the detector's distribution and p_obj
that of the object head,

    score = p_det^w p_obj^(1 - w),   w = 2/3 for base, 1/3 for novel classes;   background = 1 - sum of scores.

**Kept and changed**: proposals come from outside (any proposal network, or jittered boxes): there is none here, nor a
suppression of overlapping detections. All proposals given are trained on; they count as background below an IoU of 0.5.
The asymmetric losses average over base classes. The squared distance of images is a mean over images. Temperatures of
the classifiers are one setting. A patch at CLIP's doubled grid belongs to an object where its middle does.

**Use it when**: a detector must name more than its boxes are labelled for, and an image-text model knows these names.
It costs one pass of that model over every proposal. The names of novel classes must not take part in training; here
they can't, as their logits are -inf until the model is in eval mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.blocks.object_knowledge import ObjectEncoder, block_boxes
from stillroom.blocks.regions import FeaturePyramid, RegionPooling, intersection, iou, moved, need_inside, steps_between
from stillroom.blocks.self_distillation import warm_up
from stillroom.method import Pipeline
from stillroom.objectives.asymmetric import asymmetric
from stillroom.objectives.features import smooth_l1
from stillroom.objectives.relations import gram_relation
from stillroom.objectives.sequence import cross_entropy
from stillroom.signals import Reduced
from stillroom.synthesis.account import Account, accounted
from stillroom.synthesis.rejects import Rejects

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["OADP", "ObjectKnowledge", "Image", "Found"]  # noqa: RUF022 - the method comes first

OVERLAP = 0.5  # of a proposal with an object, from which it shows the object
LEAST_SIDE = 4.0  # pixels; smaller proposals are dropped


@dataclass
class Image:
    """All that is known of one training image. Boxes are [x0, y0, x1, y1] in its pixels.

    proposals: [p, 4]. boxes: [g, 4], of objects of base classes. labels: [g]. object_boxes, objects: [m, 4] and [m, D],
    CLIP's embeddings of proposals. block_boxes, blocks: the same of blocks. whole: [D], of the image.
    """

    proposals: Tensor
    boxes: Tensor
    labels: Tensor
    object_boxes: Tensor
    objects: Tensor
    block_boxes: Tensor
    blocks: Tensor
    whole: Tensor


@dataclass
class Found:
    """What is detected in one image: scores [p, C + 1] of the proposals, background last; and their moved boxes."""

    scores: Tensor
    boxes: Tensor


class OADP(nn.Module):
    """A detector's second stage, with the pyramid of distillation in training.

    Args:
        backbone: gives maps of falling size, as ``hidden_states`` of a transformers backbone does.
        text: embeddings of all class names [C, D], base and novel.
        base: [C] bool, the classes that have labels.
        levels: how many of the backbone's maps are used, the last ones.
        width: channels of the pyramid, and of the heads' hidden layer times four.
        pooled: cells on each side of a region.
        finest: pixels of a box (the root of its area) up to twice which the finest map is read.
        temperature: that classifiers' cosines are divided by, > 0.
        object_weight: of the objects' L1, >= 0; 0 leaves the objects' head unused.
        block_weight: of the blocks' L1, >= 0.
        relation_weight: of the blocks' relations, >= 0.
        global_weight: of the image's squared distance, >= 0.
        block_labels: of the blocks' asymmetric loss, >= 0.
        global_labels: of the image's asymmetric loss, >= 0.
        warmup: steps in which the weights of distillation rise.
        label_warmup: steps in which the two asymmetric losses' weights rise, blocks' and image's.
        base_share: w of base classes, in [0, 1].
        novel_share: w of novel classes, in [0, 1].

    Raises:
        ValueError: a value outside its range, or a mask of another length than the text.
    """

    text: Tensor
    base: Tensor
    shares: Tensor

    def __init__(
        self,
        *,
        backbone: nn.Module,
        text: Tensor,
        base: Tensor,
        levels: int = 4,
        width: int = 256,
        pooled: int = 7,
        finest: float = 56.0,
        temperature: float = 0.01,
        object_weight: float = 256.0,
        block_weight: float = 128.0,
        relation_weight: float = 8.0,
        global_weight: float = 0.5,
        block_labels: float = 16.0,
        global_labels: float = 4.0,
        warmup: int = 200,
        label_warmup: tuple[int, int] = (1000, 2000),
        base_share: float = 2 / 3,
        novel_share: float = 1 / 3,
    ) -> None:
        super().__init__()
        weights = {"object": object_weight, "block": block_weight, "relation": relation_weight}
        weights |= {"global": global_weight, "block_labels": block_labels, "global_labels": global_labels}
        if min(weights.values()) < 0 or temperature <= 0 or not 0 <= base_share <= 1 or not 0 <= novel_share <= 1:
            raise ValueError("weights must be >= 0, the temperature > 0 and shares in [0, 1]")
        if base.shape != text.shape[:1] or not base.any():
            raise ValueError(f"base must tell of each of the {len(text)} classes whether it has labels, and some must")
        self.backbone, self.levels, self.temperature = backbone, levels, temperature
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.warmups = dict.fromkeys(weights, warmup)
        self.warmups["block_labels"], self.warmups["global_labels"] = label_warmup
        self.register_buffer("text", F.normalize(text.detach().float(), dim=-1))
        self.register_buffer("base", base.bool())
        shares = torch.where(base.bool(), base_share, novel_share)
        self.register_buffer("shares", shares if object_weight else torch.ones_like(shares))
        channels = [features.shape[1] for features in self._maps(self._blank())]
        deepest = channels[-1]
        self.pyramid = FeaturePyramid(channels, width)
        self.pool = RegionPooling(size=pooled, finest=finest)
        size = text.shape[1]
        self.detect = _RegionHead(width * pooled**2, 4 * width, size)
        self.steps = nn.Linear(4 * width, 4)
        self.background = nn.Parameter(F.normalize(torch.randn(size), dim=0))
        self.object = _RegionHead(width * pooled**2, 4 * width, size) if object_weight else None
        self.block = _RegionHead(width * pooled**2, 4 * width, size)
        self.whole = nn.Linear(deepest, size)

    def _blank(self) -> Tensor:
        place = next(self.backbone.parameters())
        return torch.zeros(1, 3, 64, 64, device=place.device, dtype=place.dtype)

    def _maps(self, images: Tensor) -> list[Tensor]:
        output: Any = self.backbone(images, output_hidden_states=True)
        return list(output.hidden_states[-self.levels :])

    # --- training -----------------------------------------------------------------------------------------------------

    def forward(self, images: Tensor, known: Sequence[Image]) -> dict[str, Reduced]:
        """The loss, part by part, each as (sum, count).

        Args:
            images: [B, 3, height, width], as the backbone reads them.
            known: of each image.

        Raises:
            ValueError: a box is empty or outside its image.
        """
        for each in known:
            for boxes in (each.proposals, each.boxes, each.object_boxes, each.block_boxes):
                need_inside(boxes, images.shape[3], images.shape[2])
        maps = self._maps(images)
        levels, strides = self.pyramid(maps), [images.shape[3] / features.shape[3] for features in maps]
        parts = self._detection(levels, strides, known)
        if "object" in self.weights and self.object is not None:
            ours = self.object(self._pooled(levels, strides, [each.object_boxes for each in known]))[0]
            parts["object"] = _l1(ours, torch.cat([each.objects for each in known]))
        parts |= self._blocks(levels, strides, known)
        if {"global", "global_labels"} & set(self.weights):
            parts |= self._global(maps[-1], known)
        return parts

    def loss(self, parts: dict[str, Reduced], step: int) -> Tensor:
        """The weighted sum of the parts' means at an optimiser step, counted from 0."""
        return torch.stack([self.weight(name, step) * part.mean for name, part in parts.items()]).sum()

    def weight(self, name: str, step: int) -> float:
        """The weight of a part at a step."""
        rise = self.warmups.get(name, 0)
        return self.weights.get(name, 1.0) * (warm_up(0.0, 1.0, 1.0)(min(step / rise, 1.0)) if rise else 1.0)

    def _pooled(self, levels: list[Tensor], strides: list[float], boxes: Sequence[Tensor]) -> Tensor:
        image = torch.cat([torch.full((len(own),), number) for number, own in enumerate(boxes)])
        return self.pool(levels, strides, torch.cat(list(boxes)), image.to(levels[0].device))

    def _logits(self, vectors: Tensor) -> Tensor:
        """Classes, background last; in training novel ones at -inf."""
        table = torch.cat([self.text, F.normalize(self.background, dim=0)[None]])
        logits = vectors @ table.T / self.temperature
        if not self.training:
            return logits
        return logits.masked_fill(torch.cat([~self.base, self.base.new_zeros(1)]), -torch.inf)

    def _detection(self, levels: list[Tensor], strides: list[float], known: Sequence[Image]) -> dict[str, Reduced]:
        labels, wanted, hit = [], [], []
        for each in known:
            overlap = iou(each.proposals, each.boxes)
            best, place = overlap.max(-1) if len(each.boxes) else (overlap.new_zeros(len(overlap)), None)
            own = best >= OVERLAP
            target = each.proposals.clone()
            label = torch.full((len(own),), len(self.text), device=own.device)
            if place is not None:
                target[own], label[own] = each.boxes[place[own]], each.labels[place[own]]
            labels.append(label)
            wanted.append(steps_between(each.proposals, target))
            hit.append(own)
        vectors, hidden = self.detect(self._pooled(levels, strides, [each.proposals for each in known]))
        everything = torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)
        found, shows = _l1(self.steps(hidden), torch.cat(wanted), torch.cat(hit)), len(vectors)
        return {
            "class": cross_entropy(self._logits(vectors), torch.cat(labels), everything),
            "box": Reduced(4 * found.sum, found.count.new_tensor(shows)),  # summed over the four, over all proposals
        }

    def _blocks(self, levels: list[Tensor], strides: list[float], known: Sequence[Image]) -> dict[str, Reduced]:
        if not {"block", "relation", "block_labels"} & set(self.weights):
            return {}
        ours = self.block(self._pooled(levels, strides, [each.block_boxes for each in known]))[0]
        theirs = torch.cat([each.blocks for each in known])
        everything = torch.ones(len(ours), dtype=torch.bool, device=ours.device)
        parts = {}
        if "block" in self.weights:
            parts["block"] = _l1(ours, theirs)
        if "relation" in self.weights:
            parts["relation"] = gram_relation(ours, theirs, everything)
        if "block_labels" in self.weights:
            there = torch.cat([self._met(each.block_boxes, each) for each in known])
            parts["block_labels"] = asymmetric(self._base_logits(ours), there[:, self.base], everything)
        return parts

    def _global(self, deepest: Tensor, known: Sequence[Image]) -> dict[str, Reduced]:
        ours = F.normalize(self.whole(deepest.mean((2, 3))), dim=-1)
        theirs = torch.stack([each.whole for each in known])
        everything = torch.ones(len(ours), dtype=torch.bool, device=ours.device)
        parts = {}
        if "global" in self.weights:
            parts["global"] = Reduced((ours - theirs).square().sum(), everything.sum())
        if "global_labels" in self.weights:
            there = torch.stack([self._met(None, each)[0] for each in known])
            parts["global_labels"] = asymmetric(self._base_logits(ours), there[:, self.base], everything)
        return parts

    def _base_logits(self, vectors: Tensor) -> Tensor:
        return vectors @ self.text[self.base].T / self.temperature

    def _met(self, blocks: Tensor | None, image: Image) -> Tensor:
        """Which classes' boxes each block meets, or the image holds: [n or 1, C]."""
        names = F.one_hot(image.labels, len(self.text)).bool()
        if blocks is None:
            return names.any(0, keepdim=True)
        return ((intersection(blocks, image.boxes) > 0)[:, :, None] & names).any(1)

    # --- use ----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, images: Tensor, proposals: Sequence[Tensor]) -> list[Found]:
        """Scores of all classes, base and novel, and boxes, of the proposals of each image.

        Args:
            images: [B, 3, height, width].
            proposals: [p, 4] of each.

        Raises:
            ValueError: the model is in training mode, or a box is empty or outside its image.
        """
        if self.training:
            raise ValueError("novel classes are left out in training mode; call eval() first")
        for boxes in proposals:
            need_inside(boxes, images.shape[3], images.shape[2])
        maps = self._maps(images)
        levels, strides = self.pyramid(maps), [images.shape[3] / features.shape[3] for features in maps]
        pooled = self._pooled(levels, strides, proposals)
        vectors, hidden = self.detect(pooled)
        scores = self._logits(vectors).softmax(-1)[:, :-1]
        if self.object is not None:
            named = (self.object(pooled)[0] @ self.text.T / self.temperature).softmax(-1)
            scores = scores**self.shares * named ** (1 - self.shares)
        background = (1 - scores.sum(-1, keepdim=True)).clamp(min=0)
        boxes = moved(torch.cat(list(proposals)), self.steps(hidden))
        sizes = [len(each) for each in proposals]
        both = zip(torch.cat([scores, background], -1).split(sizes), boxes.split(sizes), strict=True)
        return [Found(*each) for each in both]


class _RegionHead(nn.Module):
    """Two hidden layers, and a vector of length 1 at CLIP's width."""

    def __init__(self, features: int, hidden: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.out = nn.Linear(hidden, width)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """[n, C, size, size] -> the vector [n, width] and what it was made of [n, hidden]."""
        hidden = self.layers(regions)
        return F.normalize(self.out(hidden), dim=-1), hidden


def _l1(ours: Tensor, theirs: Tensor, mask: Tensor | None = None) -> Reduced:
    """The mean absolute difference over the width, summed over rows."""
    everything = torch.ones(len(ours), dtype=torch.bool, device=ours.device)
    return smooth_l1(ours, theirs, everything if mask is None else mask, beta=0.0)


class ObjectKnowledge(Pipeline):
    """The first stage: what CLIP says of every image's proposals, blocks and whole.

    Rows need ``image`` and ``proposals`` (boxes in pixels); they get ``object_boxes``, ``objects``, ``block_boxes``,
    ``blocks`` and ``whole``. Proposals under 4 x 4 pixels are dropped, and counted as ``noted`` in the account; a row
    that has no other is dropped with its reason.

    Args:
        encoder: CLIP, and how objects are cut out.
        window: of a block, in pixels.
        stride: between blocks, at most, in pixels.
        rejects: file for dropped rows.
    """

    def __init__(
        self, encoder: ObjectEncoder, *, window: int = 224, stride: int = 112, rejects: str | Path | None = None
    ) -> None:
        self.encoder, self.window, self.stride, self.rejects = encoder, window, stride, rejects
        self.account = Account()

    def run(self, dataset: Dataset) -> Dataset:
        """The rows with CLIP's embeddings.

        Raises:
            ValueError: a proposal is empty or outside its image; the message names the row.
        """
        import datasets

        kept = []
        with accounted("object-knowledge") as account, Rejects(self.rejects, "object-knowledge") as aside:
            for place, row in enumerate(dataset):
                account.rows += 1
                proposals = torch.as_tensor(row["proposals"], dtype=torch.float32).reshape(-1, 4)
                large = (proposals[:, 2:] - proposals[:, :2] >= LEAST_SIDE).all(-1)
                account.noted["proposal under 4 pixels"] += int((~large).sum())
                if not large.any():
                    account.rejected["no proposal of 4 pixels"] += 1
                    aside.add(row, "no proposal of 4 pixels")
                    continue
                try:
                    kept.append(row | self._known(row["image"], proposals[large]))
                except ValueError as error:
                    error.add_note(f"at row {place} (id {row.get('id')!r})")
                    raise
            account.kept = len(kept)
        self.account = account
        features = dataset.features.copy()
        plain = datasets.List(datasets.List(datasets.Value("float32")))
        features |= dict.fromkeys(("object_boxes", "objects", "block_boxes", "blocks"), plain)
        features["whole"] = datasets.List(datasets.Value("float32"))
        return datasets.Dataset.from_list(kept, features=datasets.Features(features))

    def _known(self, picture: Any, proposals: Tensor) -> dict[str, Any]:
        from stillroom.views.image import decode

        image = decode(picture)
        blocks = block_boxes(image.shape[2], image.shape[1], window=self.window, stride=self.stride)
        return {
            "object_boxes": proposals.tolist(),
            "objects": self.encoder.objects(image, proposals).tolist(),
            "block_boxes": blocks.tolist(),
            "blocks": self.encoder.blocks(image, blocks).tolist(),
            "whole": self.encoder.whole(image).tolist(),
        }
