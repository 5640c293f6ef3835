"""Scenes of emoji whose every pixel has a class: the ground of segmentation.

A SegFormer of some 500,000 weights is trained for long and teaches one of a sixth of that, which starts from nothing
and sees the same scenes for a fifth of the time. All splits show the same six emoji, each of which is a class beside
the background, but no combination of emoji and background is in two splits. The last weights are measured, on scenes of
the test.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.files import load
from stillroom.measuring import Suite
from stillroom.measuring.held_out import held_out
from stillroom.testbeds.base import UNWATCHED, Bench, trained_once
from stillroom.views.load import Opened

SIZE, CLASSES = 48, 6
SCENES = {False: {"train": 600, "validation": 50, "test": 150}, True: {"train": 16, "validation": 4, "test": 4}}
LOOK: dict[str, Any] = {"shared": True, "kinds": CLASSES, "size": SIZE, "objects": [1, 2]}
SHAPE = {
    "num_labels": CLASSES + 1,
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 2, 4],
    "sr_ratios": [4, 2, 1, 1],
    "mlp_ratios": [2, 2, 2, 2],
    "classifier_dropout_prob": 0.0,
    "drop_path_rate": 0.0,
}
TEACHER = {"hidden_sizes": [32, 64, 96, 128], "decoder_hidden_size": 64}
STUDENT = {"hidden_sizes": [16, 24, 32, 48], "decoder_hidden_size": 32}


@cache
def scenes(part: str, smoke: bool) -> str:
    """A file of {image, mask}."""
    count = SCENES[smoke][part]

    def build(folder: Path) -> None:
        folder.mkdir()
        rows = load("emoji", view="scenes", split=part, limit=count, **LOOK)
        rows = rows.select_columns(["image", "semantics"]).rename_column("semantics", "mask")
        rows.to_parquet(folder / "rows.parquet")

    return str(build_once(f"testbeds/scenes-{part}", fingerprint(count, LOOK), build) / "rows.parquet")


def _data(smoke: bool) -> dict[str, Any]:
    return {part: scenes(part, smoke) for part in ("train", "validation")}


def _train(steps: int, smoke: bool, *, batch: int, learning_rate: float) -> dict[str, Any]:
    return {
        "steps": 2 if smoke else steps,
        "batch_size": batch,
        "learning_rate": learning_rate,
        "schedule": "linear",
        "warmup": 0.05,
        "weight_decay": 0.01,
        **UNWATCHED,
    }


def _new(config: dict[str, Any]) -> dict[str, Any]:
    return {"new": {"architecture": "segformer", "config": SHAPE | config}, "options": {"size": SIZE}}


def teacher(smoke: bool = False) -> str:
    """The teacher's folder."""
    train = _train(900, smoke, batch=16, learning_rate=2e-3)
    recipe = {"task": "segmentation", "student": _new(TEACHER), "train": train, "data": _data(smoke), "method": "sft"}
    return trained_once("segmentation-teacher", recipe)


def pixels(opened: Opened, *, smoke: bool) -> dict[str, float]:
    """``mean_iou`` and ``pixel_accuracy`` on the scenes of the test."""
    return {f"test_{name}": value for name, value in held_out(opened, None, load(scenes("test", smoke))).items()}


SUITES: dict[str, Suite] = {"pixels": partial(pixels, smoke=False), "few-pixels": partial(pixels, smoke=True)}


def _recipe(smoke: bool) -> dict[str, Any]:
    return {
        "task": "segmentation",
        "teacher": {"model": teacher(smoke), "options": {"size": SIZE}},
        "student": _new(STUDENT),
        "data": _data(smoke),
        "method": {"name": "transkd", "feature": "hcl"},
        "against": [
            "sft",
            {"name": "forward_kl", "sft": 1.0},
            {"name": "transkd", "label": "csf-only", "feature": "hcl", "embedding_weights": [0, 0, 0, 0]},
        ],
        "train": _train(400, smoke, batch=8, learning_rate=3e-3),
        "evaluate": ["few-pixels" if smoke else "pixels"],
    }


BENCHES: dict[str, Bench] = {
    "transkd": Bench(
        claim="By the teacher's maps and patch embeddings a student from nothing gains mean IoU over labels alone.",
        metric="test_mean_iou",
        higher_is_better=True,
        versus="sft",
        recipe=_recipe,
        suites=SUITES,
    ),
}
