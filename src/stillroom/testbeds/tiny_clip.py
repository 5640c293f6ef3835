"""The small CLIP of grounds on which pictures and texts meet: a teacher, trained once on scenes, and a student's shape.

Both see pictures of 32 pixels in patches of 8 and read captions of a few dozen tokens; both have a space of 64
dimensions. The student takes the teacher's tokenizer, in which every word of the captions is a token or two.
"""

from __future__ import annotations

from typing import Any

from stillroom.testbeds.base import UNWATCHED, trained_once
from stillroom.testbeds.scenes import SIZE, captioned

SPACE, WINDOW, VOCABULARY = 64, 48, 1200


def shape(width: int, *, pictures: int, texts: int, space: int = SPACE) -> dict[str, Any]:
    """The settings of a CLIP.

    Args:
        width: of both towers.
        pictures: layers of the image tower.
        texts: layers of the text tower.
        space: dimensions that both towers share.
    """
    tower = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": 4}
    return {
        "text_config": tower | {"num_hidden_layers": texts, "max_position_embeddings": WINDOW},
        "vision_config": tower | {"num_hidden_layers": pictures, "image_size": SIZE, "patch_size": 8},
        "projection_dim": space,
    }


TEACHER, STUDENT = shape(96, pictures=3, texts=2), shape(48, pictures=2, texts=1)
TEACHER_STEPS, TEACHER_BATCH = {False: 700, True: 2}, {False: 64, True: 32}


def train(steps: int, batch: int, **others: Any) -> dict[str, Any]:
    """The ``train`` part of recipes on this ground."""
    settings = {"steps": steps, "batch_size": batch, "learning_rate": 1.5e-3, "weight_decay": 0.1}
    return settings | {**UNWATCHED} | others


def teacher(smoke: bool = False) -> str:
    """The teacher's folder."""
    recipe = {
        "task": "image-text",
        "student": {"new": {"architecture": "clip", "config": TEACHER, "vocabulary": VOCABULARY}},
        "data": {split: captioned(split, smoke) for split in ("train", "validation")},
        "method": "clip",
        "train": train(TEACHER_STEPS[smoke], TEACHER_BATCH[smoke]),
    }
    return trained_once("tiny-clip", recipe)


def student(smoke: bool = False) -> dict[str, Any]:
    """A student made from nothing, as a recipe has it."""
    return {"new": {"architecture": "clip", "config": STUDENT, "tokenizer": teacher(smoke)}}
