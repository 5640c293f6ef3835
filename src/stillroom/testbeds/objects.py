"""Pictures of emoji, without their names: the ground of methods that learn from images alone.

A small vision transformer, made from nothing, is trained on pictures of one emoji each, whose labels it never sees;
then its vectors are put to the test. A picture of the test is given the emoji of its nearest training pictures, by the
cosine of the last layer's cls tokens; and a patch that shows a piece of an emoji, that of the nearest such patch in
another picture. All splits show the same twenty emoji, in other places, sizes and turns, on grounds of eight colours.
Colours tell much here, so crops keep theirs. Everybody starts from the same weights and sees the same batches; the last
weights are measured.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillroom.data.files import load
from stillroom.errors import need
from stillroom.measuring import Suite
from stillroom.measuring.held_out import batches_of
from stillroom.testbeds.base import UNWATCHED, Bench
from stillroom.views.load import Opened

SIZE, PATCH, KINDS = 24, 6, 20
PICTURES = {False: {"train": 1600, "validation": 200, "test": 400}, True: {"train": 40, "validation": 8, "test": 16}}
LOOK = {"size": SIZE, "kinds": KINDS, "background": "flat"}
NEIGHBOURS = 10
COVERED = 0.5  # of a patch that shows an emoji
LAST = "layernorm"
MODEL = {
    "image_size": SIZE,
    "patch_size": PATCH,
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
HEAD = {"prototypes": 256, "hidden": 256, "bottleneck": 64}


def _source(part: str, smoke: bool) -> dict[str, Any]:
    return {"source": "emoji", "view": "objects", "split": part, "limit": PICTURES[smoke][part], "options": LOOK}


def _rows(part: str, smoke: bool) -> Any:
    return load("emoji", view="objects", split=part, limit=PICTURES[smoke][part], **LOOK)  # type: ignore[arg-type]


@torch.no_grad()
def tokens(opened: Opened, part: str, smoke: bool) -> tuple[Tensor, Tensor]:
    """What the last layer says of the pictures of a part, [N, 1 + patches, H], of length 1; and their labels [N]."""
    found, labels = [], []
    for batch in batches_of(opened, _rows(part, smoke), size=100):
        found.append(opened.view.emit(opened.model, batch.student, (f"tap:{LAST}",)).taps[LAST])
        labels.append(batch.labels)
    return F.normalize(torch.cat(found), dim=-1), torch.cat([each for each in labels if each is not None])


def neighbours(opened: Opened, *, smoke: bool) -> dict[str, float]:
    """``knn_accuracy`` of whole pictures, and ``patch_purity``."""
    nearest = need("sklearn.neighbors", "lexical").KNeighborsClassifier
    known, names = tokens(opened, "train", smoke)
    asked, truth = tokens(opened, "test", smoke)
    count = min(NEIGHBOURS, len(known))
    fitted = nearest(count, metric="cosine", weights="distance").fit(known[:, 0].numpy(), names.numpy())
    accuracy = float(fitted.score(asked[:, 0].numpy(), truth.numpy()))
    return {"knn_accuracy": accuracy, "patch_purity": patch_purity(asked[:, 1:], truth, shown(smoke))}


def shown(smoke: bool) -> Tensor:
    """Which patches of the test's pictures show an emoji, [N, patches]."""
    masks = torch.from_numpy(np.stack([np.asarray(row["mask"]) > 0 for row in _rows("test", smoke)])).float()
    return F.avg_pool2d(masks[:, None], PATCH).flatten(1) >= COVERED


def patch_purity(patches: Tensor, labels: Tensor, there: Tensor) -> float:
    """How often the nearest patch in another picture shows the same emoji.

    Args:
        patches: [N, P, H], of length 1.
        labels: [N].
        there: [N, P], the patches that count.
    """
    picture = torch.arange(len(patches))[:, None].expand(there.shape)[there]
    vectors = patches[there]
    right = 0
    for place in picture.unique():
        own = picture == place
        likeness = (vectors[own] @ vectors.T).masked_fill(own, -2.0)
        right += int((labels[picture[likeness.argmax(-1)]] == labels[place]).sum())
    return right / max(len(vectors), 1)


SUITES: dict[str, Suite] = {
    "neighbours": partial(neighbours, smoke=False),
    "few-neighbours": partial(neighbours, smoke=True),
}


def _recipe(smoke: bool) -> dict[str, Any]:
    ibot = {"name": "ibot", "augment": "crops", "scale": [0.4, 1.0], "momentum": 0.98, **HEAD}
    return {
        "task": "image-encoder",
        "student": {"new": {"architecture": "vit", "config": MODEL}, "options": {"size": SIZE}},
        "data": {part: _source(part, smoke) for part in ("train", "validation")},
        "method": ibot,
        "against": [
            {**ibot, "label": "dino", "patch": 0},
            {**ibot, "label": "patches-only", "cls": 0},
            "untrained",
        ],
        "train": {
            "steps": 2 if smoke else 200,
            "batch_size": 16 if smoke else 64,
            "learning_rate": 1e-3,
            "weight_decay": 0.04,
            "warmup": 0.1,
            "clip": 3.0,
            **UNWATCHED,
        },
        "evaluate": ["few-neighbours" if smoke else "neighbours"],
    }


BENCHES: dict[str, Bench] = {
    "ibot": Bench(
        claim="Naming hidden patches beside whole crops gives vectors whose neighbours show the same emoji more often "
        "than crops alone.",
        metric="knn_accuracy",
        higher_is_better=True,
        versus="dino",
        recipe=_recipe,
        suites=SUITES,
    ),
}
