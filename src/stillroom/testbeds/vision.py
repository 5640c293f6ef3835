"""`vision`: handwritten digits on a field, turned and blurred; a wide ResNet teaches one of a few thousand weights.

What is learnt is a metric: pictures of one digit are to lie near each other. Models are trained on six digits and
measured on the four others, which nobody has seen: how often does a picture's nearest neighbour show the same digit?
Every picture of the data set `digits` stands on the field in several ways for training, in one for the test. Student
and baselines have one start for each seed, made from nothing, the same batches and the same steps. Vectors are
compared as they are, by Euclidean distance, in training and in the test. The last weights are measured: no checkpoint
is chosen.

Methods that are not about vectors have grounds of their own, whose benches are here too.
"""

from __future__ import annotations

import json
import math
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.files import load
from stillroom.measuring import Suite
from stillroom.measuring.held_out import batches_of
from stillroom.testbeds import context, detection, objects, segmentation
from stillroom.testbeds.base import UNWATCHED, Bench, trained_once
from stillroom.views.load import Opened

SEEN, UNSEEN = (4, 5, 6, 7, 8, 9), (0, 1, 2, 3)
COPIES = 8  # ways in which a picture stands on the field, in training
FIELD = 12  # pixels; a digit has 8
TURN, SHIFT, GROWTH, NOISE = 45.0, 0.3, 0.2, 0.1  # degrees; of half the field; of the size; of the brightness
VIEW = {"size": 32, "channels": 1}

TEACHER = {"embedding_size": 64, "hidden_sizes": [64, 256], "depths": [1, 1]}
STUDENT = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
SHAPE = {"num_channels": 1, "layer_type": "basic"}


# --- rows and models --------------------------------------------------------------------------------------------------


@cache
def pictures(part: str, smoke: bool) -> str:
    """A file of digits on fields, {image, label}: those seen, for training and validation; for the test the others."""
    digits, splits, copies = {
        "train": (SEEN, ("train",), COPIES),
        "validation": (SEEN, ("validation",), 1),
        "test": (UNSEEN, ("train", "validation", "test"), 1),
    }[part]
    few = 10 if smoke else None  # of each digit

    def build(folder: Path) -> None:
        folder.mkdir()
        found = [row for split in splits for row in load("digits", split=split)]
        kept = [row for digit in digits for row in [row for row in found if row["label"] == digit][:few]]
        images = torch.tensor([row["image"] for row in kept]).repeat(copies, 1, 1)
        rows = zip(scattered(images).mul(100).round().div(100).tolist(), kept * copies, strict=True)
        lines = [json.dumps({"image": image, "label": row["label"]}) + "\n" for image, row in rows]
        (folder / "rows.jsonl").write_text("".join(lines))

    mark = fingerprint(digits, splits, copies, few, FIELD, TURN, SHIFT, GROWTH, NOISE)
    return str(build_once(f"testbeds/digits-{part}", mark, build) / "rows.jsonl")


def scattered(images: Tensor) -> Tensor:
    """Each of [N, 8, 8] somewhere on a field of [N, FIELD, FIELD], turned, grown or shrunk, with noise; in [0, 1]."""
    draw = torch.Generator().manual_seed(0)

    def within(reach: float, *size: int) -> Tensor:
        return reach * (2 * torch.rand(len(images), *size, generator=draw) - 1)

    angle, scale, shift = math.radians(TURN) * within(1.0), FIELD / 10 * (1 + within(GROWTH)), within(SHIFT, 2, 1)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], 1)
    places = F.affine_grid(torch.cat([turn, shift], -1), [len(images), 1, FIELD, FIELD], align_corners=False)
    fields = F.grid_sample(images.unsqueeze(1), places, align_corners=False).squeeze(1)
    return (fields + NOISE * torch.randn(fields.shape, generator=draw)).clamp(0, 1)


def _data(smoke: bool) -> dict[str, Any]:
    return {part: pictures(part, smoke) for part in ("train", "validation")}


def _train(steps: int, smoke: bool, *, learning_rate: float) -> dict[str, Any]:
    return {
        "steps": 2 if smoke else steps,
        "batch_size": 30,
        "per_class": 5,
        "learning_rate": learning_rate,
        "optimizer": "adam",
        "weight_decay": 0.0,
        **UNWATCHED,
    }


def _new(config: dict[str, Any]) -> dict[str, Any]:
    return {"new": {"architecture": "resnet", "config": config | SHAPE}, "options": VIEW}


def teacher(smoke: bool = False) -> str:
    """The teacher's folder."""
    recipe = {"student": _new(TEACHER), "train": _train(400, smoke, learning_rate=2e-3)}
    return trained_once("vision-teacher", recipe | {"task": "image-encoder", "data": _data(smoke), "method": "triplet"})


# --- measurements -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def neighbours(opened: Opened, *, smoke: bool) -> dict[str, float]:
    """``recall@1``: the share of pictures of unseen digits whose nearest other picture shows the same digit."""
    vectors, labels = [], []
    for batch in batches_of(opened, load(pictures("test", smoke)), size=128):
        vectors.append(opened.view.emit(opened.model, batch.student, ("embedding",)).embedding)
        labels.append(batch.labels)
    found, digits = torch.cat([v for v in vectors if v is not None]), torch.cat([n for n in labels if n is not None])
    nearest = torch.cdist(found, found).fill_diagonal_(math.inf).argmin(-1)
    return {"recall@1": float((digits[nearest] == digits).float().mean())}


SUITES: dict[str, Suite] = {
    "neighbours": partial(neighbours, smoke=False),
    "few-neighbours": partial(neighbours, smoke=True),
}


# --- benches ----------------------------------------------------------------------------------------------------------


def _recipe(smoke: bool, *, method: dict[str, Any], against: list[Any], steps: int, rate: float) -> dict[str, Any]:
    return {
        "task": "image-encoder",
        "teacher": {"model": teacher(smoke), "cache": True},
        "student": _new(STUDENT),
        "data": _data(smoke),
        "method": method,
        "against": against,
        "train": _train(steps, smoke, learning_rate=rate),
        "evaluate": ["few-neighbours" if smoke else "neighbours"],
    }


BENCHES: dict[str, Bench] = {
    **context.BENCHES,
    **detection.BENCHES,
    **objects.BENCHES,
    **segmentation.BENCHES,
    "rkd": Bench(
        claim="By the teacher's distances and angles alone, a student finds more of unseen digits than by labels.",
        metric="recall@1",
        higher_is_better=True,
        versus="triplet",
        recipe=partial(
            _recipe,
            method={"name": "rkd"},
            against=[
                "triplet",
                {"name": "rkd", "label": "rkd-distance", "angle": 0},
                {"name": "rkd", "label": "rkd-angle", "distance": 0},
                {"name": "rkd", "label": "dark-rank", "distance": 0, "angle": 0, "dark_rank": 1},
                "untrained",
            ],
            steps=1200,
            rate=3e-3,
        ),
        suites=SUITES,
    ),
}
