"""An encoder that nobody tuned for sentences, on messages in English and German: the ground of repairs of its space.

A BERT of four layers learnt the messages of programs in four languages by masked language modelling, each message for
itself, and its vectors are the means of its last states. It is held beside all-MiniLM-L6-v2, which was tuned for
sentences. Both embed messages that the BERT has not seen, drawn by the seed; of each message its translation is looked
for among all, by cosine and in both directions. Repairs see the vectors that are measured, as in the paper, each
language for itself, and not which belong together.
"""

from __future__ import annotations

import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.files import load
from stillroom.evaluate import isotropy
from stillroom.evaluate.retrieval import dense_retrieval
from stillroom.methods.embeddings.isotropy import Isotropy
from stillroom.testbeds.base import UNWATCHED, Bench, entry, trained_once

LANGUAGES = ("en", "de", "fr", "es")
TEXTS = 40_000  # that the encoder learns from
PAIRS = {False: 1000, True: 200}  # by whether it is a smoke run
LENGTHS = (15, 120)  # characters of a message
WINDOW = 48  # tokens
ENCODER = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
STEPS = 900
TUNED = "sentence-transformers/all-MiniLM-L6-v2"

# Name -> settings of the repair, of the encoder that was not tuned and of the one that was; None leaves it as it is.
OURS: dict[str, dict[str, Any] | None] = {
    "isotropy": {},
    "untouched": None,
    "clusters": {"repair": "clusters"},
    "drop": {"repair": "drop"},
}
THEIRS: dict[str, dict[str, Any] | None] = {
    "teacher": None,
    "tuned-whitening": {},
    "tuned-clusters": {"repair": "clusters"},
    "tuned-drop": {"repair": "drop"},
}


def _told(text: str) -> bool:
    return LENGTHS[0] <= len(text) <= LENGTHS[1]


@cache
def messages(smoke: bool) -> str:
    """A file of messages of the training split, {text}, each in one language or another."""
    few = 100 if smoke else TEXTS // len(LANGUAGES)
    table = load("parallel", view="monolingual", split="train", languages=list(LANGUAGES[1:]))[:]
    own: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    for text, language in zip(table["text"], table["language"], strict=True):
        if _told(text):
            own[language].append(text)
    places = {language: np.random.default_rng(0).permutation(len(texts))[:few] for language, texts in own.items()}
    lines = [json.dumps({"text": own[name][place]}) + "\n" for name in LANGUAGES for place in places[name].tolist()]

    def build(folder: Path) -> None:
        folder.mkdir()
        (folder / "rows.jsonl").write_text("".join(lines))

    return str(build_once("testbeds/messages", fingerprint(lines), build) / "rows.jsonl")


def encoder(smoke: bool = False) -> str:
    """The folder of the BERT."""
    scratch = {"architecture": "bert", "config": ENCODER | {"max_position_embeddings": 64}, "vocabulary": 6000}
    recipe = {
        "task": "masked-lm",
        "student": {"new": scratch, "max_length": WINDOW},
        "data": {"train": messages(smoke)},
        "method": "mlm",
        "train": {
            "steps": 2 if smoke else STEPS,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "group_by_length": True,
            **UNWATCHED,
        },
    }
    return trained_once("untuned-encoder", recipe)


@cache
def _translations() -> list[tuple[str, str]]:
    """Messages of the test in English and German; no text comes twice."""
    table = load("parallel", view="pairs", split="test", languages=["de"])[:]
    both = {
        english: german
        for english, german, kind in zip(table["anchor"], table["positive"], table["kind"], strict=True)
        if kind == "message" and _told(english) and _told(german)
    }
    return sorted({german: (english, german) for english, german in both.items()}.values())


def vectors(model: str, texts: list[str]) -> np.ndarray:
    """[texts, D] of an encoder's folder or name, by the mean of its last states."""
    from stillroom.views.load import open_model

    found: Any = open_model(model, "embeddings").model
    found.max_seq_length = WINDOW
    return np.asarray(found.encode(texts, batch_size=64, show_progress_bar=False), dtype=np.float64)


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """Both encoders, untouched and after each repair."""
    everything = _translations()
    chosen = np.random.default_rng(seed).permutation(len(everything))[: PAIRS[smoke]]
    pairs = [everything[place] for place in chosen.tolist()]
    entries = []
    for model, names in ((encoder(smoke), OURS), (TUNED, THEIRS)):
        both = [vectors(model, [pair[side] for pair in pairs]) for side in (0, 1)]
        for name, settings in names.items():
            if smoke and settings == {}:
                settings = {"repair": "clusters"}  # a smoke run has too few rows to whiten
            began = time.perf_counter()
            sides = both if settings is None else [Isotropy(**settings).fit_transform(side) for side in both]
            entries.append(_found(name, sides, time.perf_counter() - began))
    return entries


def translations_found(english: np.ndarray, german: np.ndarray) -> float:
    """The share of texts whose nearest text of the other language, by cosine, is their translation; both directions."""
    left, right = (normalize(torch.tensor(side), dim=-1) for side in (english, german))
    own = [{place: 1} for place in range(len(left))]
    return sum(dense_retrieval(*sides, own, 1)["recall@1"] for sides in ((left, right), (right, left))) / 2


def _found(name: str, sides: list[np.ndarray], seconds: float) -> dict[str, Any]:
    english, german = sides
    found = isotropy.anisotropy(english, german)
    metrics = {
        "accuracy": translations_found(english, german),
        "anisotropy": found.value,
        "largest_contribution": found.top(1)[0][1],
        "outliers": float(len(isotropy.outlier_dimensions(english, german))),
        "partition_isotropy": isotropy.partition_isotropy(np.concatenate(sides)),
    }
    role = {"isotropy": "student", "teacher": "teacher"}.get(name, "baseline")
    return entry(name, role, 0, metrics, seconds)


EVEN = Bench(
    claim="Whitened, an encoder that was only pre-trained finds more translations.",
    metric="accuracy",
    higher_is_better=True,
    versus="untouched",
    measure=measure,
)
