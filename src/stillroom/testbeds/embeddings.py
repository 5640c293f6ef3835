"""`embeddings`: all-MiniLM-L6-v2 and a BERT of two layers, on what functions do and what they are called.

A row is a sentence that describes a function, and the function's name with its arguments; methods that learn from a
teacher alone see two texts in it, contrastive ones a pair. The teacher's vectors are computed once and kept. The
student is made from nothing for every seed, with a vocabulary of its own, and everybody has the same steps on the same
rows. The last weights are measured, on functions of other modules: nothing looks at the test before it is reported.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from stillroom.blocks.projectors import principal_components
from stillroom.evaluate.agreement import pairwise_agreement
from stillroom.evaluate.retrieval import dense_retrieval
from stillroom.measuring import Suite, embed, word_similarity
from stillroom.testbeds import exits
from stillroom.testbeds.base import UNWATCHED, Bench
from stillroom.testbeds.described import described, rows_file
from stillroom.testbeds.untuned import EVEN
from stillroom.views.load import Opened, open_model

TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
STUDENT = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
ROWS = {"train": 5000, "validation": 60, "test": 500}
WINDOW = 32
NARROW = 64  # dimensions that vectors are reduced to on hpd's bench
FITTED_ON = 1000  # training rows that a reduction is fitted on


# --- measurements -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def likeness(opened: Opened, *, count: int, width: int | None = None) -> dict[str, float]:
    """How far the model finds alike what the teacher does, and whether it finds functions by their descriptions.

    ``teacher_spearman``: correlation of the two models' cosines over pairs of texts. ``nearest@10``: the share of texts
    whose nearest other text, in the teacher's eyes, is among the model's ten nearest. ``mrr@10`` and so on: of the
    function that a sentence describes, among all ``count``.

    Args:
        opened: the model.
        count: functions of the test, with two texts each.
        width: wider vectors are reduced to it by their principal components on training rows; None leaves them.
    """
    ours, theirs = embed(opened, texts("test", count)), teacher_vectors(count)
    if width is not None and ours.shape[1] > width:
        ours = ours @ principal_components(embed(opened, texts("train", FITTED_ON)), width).T
        ours = torch.nn.functional.normalize(ours, dim=-1)
    found = dense_retrieval(ours[:count], ours[count:], [{place: 1} for place in range(count)], 10)
    return compared(ours, theirs) | found


def compared(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """``teacher_spearman`` and ``nearest@10`` of normalised vectors [N, D] and [N, E]."""
    itself = 2 * torch.eye(len(ours))
    nearest = (theirs @ theirs.T - itself).argmax(-1, keepdim=True)
    found = (ours @ ours.T - itself).topk(10).indices == nearest
    everywhere = torch.ones(len(ours), dtype=torch.bool)
    return {
        "teacher_spearman": pairwise_agreement(ours, theirs, everywhere),
        "nearest@10": float(found.any(-1).float().mean()),
    }


def texts(split: str, count: int) -> list[str]:
    """The sentences of some rows, and then their functions."""
    rows = described(split, count)
    return [row["anchor"] for row in rows] + [row["positive"] for row in rows]


@cache
def teacher_vectors(count: int) -> Tensor:
    """[2 count, 384], whole."""
    return embed(open_model(TEACHER, "embeddings", max_length=WINDOW), texts("test", count))


SUITES: dict[str, Suite] = {
    "likeness": partial(likeness, count=ROWS["test"]),
    "narrow-likeness": partial(likeness, count=ROWS["test"], width=NARROW),
    "people": word_similarity,
    "few-likenesses": partial(likeness, count=16),
}


# --- benches ----------------------------------------------------------------------------------------------------------


def _recipe(smoke: bool, *, method: Any, against: list[Any], evaluate: list[str], steps: int = 250) -> dict[str, Any]:
    count = {"train": 64, "validation": 8} if smoke else ROWS
    return {
        "task": "embeddings",
        "teacher": {"model": TEACHER, "cache": True},
        "student": {"new": {"architecture": "bert", "config": STUDENT, "vocabulary": 4000}, "max_length": WINDOW},
        "data": {
            split: rows_file(f"described-{split}", described(split, count[split])) for split in ("train", "validation")
        },
        "method": method,
        "against": against,
        "train": {
            "steps": 2 if smoke else steps,
            "batch_size": 64,
            "learning_rate": 2e-3,
            "group_by_length": True,
            **UNWATCHED,
        },
        "evaluate": ["few-likenesses"] if smoke else evaluate,
    }


BENCHES: dict[str, Bench] = {
    "distilcse": Bench(
        claim="Told apart from a queue of others, the teacher's vectors teach its likenesses better than regression.",
        metric="teacher_spearman",
        higher_is_better=True,
        versus="regression",
        recipe=partial(
            _recipe,
            method={"name": "distilcse", "queue": 4096},
            against=[
                {"name": "embedding_match", "label": "regression", "similarity": 0.0},
                "contrastive",
                "untrained",
            ],
            evaluate=["likeness", "people"],
        ),
        suites=SUITES,
    ),
    "hpd": Bench(
        claim="Taught vectors that are reduced already, a student keeps more of the teacher's likenesses than one that "
        "is taught whole vectors and reduced afterwards.",
        metric="teacher_spearman",
        higher_is_better=True,
        versus="reduced-afterwards",
        recipe=partial(
            _recipe,
            method={"name": "hpd", "dimensions": NARROW},
            against=[
                {"name": "embedding_match", "label": "reduced-afterwards", "similarity": 0.0},
                {"name": "hpd", "label": "reduced-by-chance", "dimensions": NARROW, "projection": "random"},
                "untrained",
            ],
            evaluate=["narrow-likeness"],
        ),
        suites=SUITES,
    ),
    "isotropy": EVEN,
    "modular-early-exit": Bench(
        claim="Left after four of its eight layers, an encoder whose exits were trained at once finds more than one of "
        "four layers that was trained alone.",
        metric="mrr_4",
        higher_is_better=True,
        versus="alone-4",
        measure=exits.measure,
    ),
}
