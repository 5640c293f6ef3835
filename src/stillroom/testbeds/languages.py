"""Questions and texts about countries in four languages: the part of the ground `retrieval` with one model for many.

A backbone with an adapter for each language, or with one for all, learns the four languages by masked language
modelling on texts of the training countries. Then it learns to find the text that answers a question, in English alone.
It is tried in all four, on countries whose questions and texts nobody has seen.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillroom.data.cache import build_once, fingerprint
from stillroom.evaluate.retrieval import score_retrieval
from stillroom.measuring import Suite
from stillroom.objectives.interaction import maxsim
from stillroom.recipe import check
from stillroom.run import execute
from stillroom.testbeds.base import UNWATCHED, trained_once
from stillroom.testbeds.described import rows_file
from stillroom.views.late import QUERY_LENGTH, LateInteraction, as_pipeline, vectors
from stillroom.views.load import Opened

LANGUAGES = ("en", "de", "fr", "es")
WINDOW = 48  # tokens of a text
SHAPE = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
STEPS = {"backbone": 500, "retrieval": 200}
ASKED = 150  # questions of each language


@cache
def _texts(view: str, split: str, language: str) -> list[dict[str, Any]]:
    from stillroom.data import load

    return load("facts", view=view, split=split, language=language).to_list()


@cache
def written(shared: bool, smoke: bool) -> str:
    """A file of texts in all languages: {text, language}; where one adapter serves all, its name is ``all``."""
    rows = []
    for language in LANGUAGES:
        found = [row["text"] for row in _texts("passages", "train", language)]
        found += [row["anchor"] for row in _texts("pairs", "train", language)]
        order = np.random.default_rng(0).permutation(len(found))[: 40 if smoke else 1200]
        rows += [{"text": found[place], "language": "all" if shared else language} for place in order.tolist()]
    return rows_file(f"languages-{'shared' if shared else 'own'}", rows)


@cache
def questions(shared: bool, smoke: bool) -> str:
    """A file of English questions, the text that answers each, and the text of another country."""
    pairs, draw = _texts("pairs", "train", "en"), np.random.default_rng(0)
    rows = []
    for place in draw.permutation(len(pairs))[: 40 if smoke else 2000].tolist():
        row = pairs[place]
        other = pairs[int(draw.integers(len(pairs)))]
        if other["country"] != row["country"]:
            found = {"anchor": row["anchor"], "positive": row["positive"], "negative": other["positive"]}
            rows.append(found | {"language": "all" if shared else "en"})
    return rows_file(f"questions-{'shared' if shared else 'own'}", rows)


def _train(steps: int, smoke: bool, seed: int, rate: float) -> dict[str, Any]:
    fixed = {"group_by_length": True, **UNWATCHED}
    return {"steps": 2 if smoke else steps, "batch_size": 16, "learning_rate": rate, "seed": seed, **fixed}


def backbone(shared: bool, smoke: bool) -> str:
    """The folder of a late-interaction model that knows the languages and nothing of retrieval."""
    names = ["all"] if shared else list(LANGUAGES)
    config = SHAPE | {"languages": names, "default_language": names[0], "max_position_embeddings": 64}
    trained = trained_once(
        f"languages-{'shared' if shared else 'modular'}",
        {
            "task": "masked-lm",
            "student": {
                "new": {"architecture": "xmod", "config": config, "vocabulary": 4000},
                "max_length": WINDOW,
                "options": {"languages": names},
            },
            "data": written(shared, smoke),
            "method": "mlm",
            "train": _train(STEPS["backbone"], smoke, 0, 1e-3),
        },
    )

    def build(folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        with tempfile.TemporaryDirectory() as place:
            AutoModel.from_pretrained(trained).save_pretrained(place)
            AutoTokenizer.from_pretrained(trained).save_pretrained(place)
            torch.manual_seed(0)
            as_pipeline(Path(place), length=WINDOW).save_pretrained(str(folder), create_model_card=False)

    return str(build_once("testbeds/languages-late", fingerprint(trained), build))


@torch.no_grad()
def found(opened: Opened, *, smoke: bool) -> dict[str, float]:
    """``mrr_en``, ... in each language, and ``mrr_others``, the mean of those that nobody was fine-tuned in."""
    means = {}
    for language in LANGUAGES:
        pairs = _texts("pairs", "test", language)
        texts = list(dict.fromkeys(row["positive"] for row in pairs))
        order = np.random.default_rng(1).permutation(len(pairs))[: 8 if smoke else ASKED].tolist()
        asked = [pairs[place] for place in order]
        scores = _scores(opened, [row["anchor"] for row in asked], texts, language)
        right = [{texts.index(row["positive"]): 1} for row in asked]
        means[f"mrr_{language}"] = score_retrieval(scores, right, 10)["mrr@10"]
    others = [value for name, value in means.items() if name != "mrr_en"]
    return means | {"mrr_others": sum(others) / len(others)}


def _scores(opened: Opened, queries: list[str], texts: list[str], language: str) -> Tensor:
    """[queries, texts]."""
    view = opened.view
    assert isinstance(view, LateInteraction)
    name = language if language in view.languages else "all"
    place = view.languages.index(name)
    asked = view.queries(view.tokens([f"[Q] {text}" for text in queries], QUERY_LENGTH))
    given = view.documents(view.tokens([f"[D] {text}" for text in texts], view.max_length))
    both = []
    for side in (asked, given):
        both.append(vectors(opened.model, side | {"lang_ids": torch.full((len(side["input_ids"]),), place)}))
    return torch.cat(
        [
            maxsim(
                both[0][start : start + 16, None],
                both[1][None],
                asked["scored"][start : start + 16, None],
                given["scored"][None],
            )
            for start in range(0, len(queries), 16)
        ]
    )


SUITES: dict[bool, dict[str, Suite]] = {smoke: {"found": partial(found, smoke=smoke)} for smoke in (False, True)}


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """The modular model with its adapters frozen and trained, and one whose adapter is for all; each before, too."""
    folder = Path(tempfile.mkdtemp(prefix="stillroom-"))
    systems: list[dict[str, Any]] = []
    try:
        for shared, methods in (
            (False, [{"name": "colbert-xm"}, {"name": "colbert-xm", "label": "adapters-trained", "frozen": False}]),
            (True, [{"name": "colbert-xm", "label": "one-adapter", "frozen": False}]),
        ):
            recipe = {
                "name": "shared" if shared else "modular",
                "output": str(folder),
                "task": "late-interaction",
                "student": {"model": backbone(shared, smoke), "max_length": WINDOW},
                "data": questions(shared, smoke),
                "method": methods[0],
                "against": [*methods[1:], "untrained"],
                "train": _train(STEPS["retrieval"], smoke, seed, 5e-4),
                "evaluate": ["found"],
            }
            entries = execute(check(recipe), suites=SUITES[smoke], timed=False).evaluation["systems"]
            systems += [_named(entry, shared) for entry in entries]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return systems


def _named(entry: dict[str, Any], shared: bool) -> dict[str, Any]:
    if not shared:
        return entry
    name = "one-adapter-untrained" if entry["role"] == "start" else entry["name"]
    return entry | {"name": name, "role": "start" if entry["role"] == "start" else "baseline"}
