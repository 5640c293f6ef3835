"""A static student of all-MiniLM-L6-v2 against what model2vec distils from it, beside the student of two layers.

Each model is made once, in a process of its own, and kept in the cache; every turn then loads it with the library that
serves it, without stillroom, times it and scores it on the test splits. The settings of examples/static.yaml were
chosen on validation splits (docs/lab-log.md).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from versus import HERE, Bar, Figure, main, seconds

EXAMPLES = HERE.parent / "examples"
TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
SUMMARY = "summary.json"  # beside a model: what making it cost, and its size
BATCH = 1024  # texts at once, model2vec's own default

Encode = Callable[[list[str]], np.ndarray]


def distilled(name: str) -> Path:
    """The model that a recipe of the examples makes."""
    from stillroom.data.cache import build_once, fingerprint

    recipe = EXAMPLES / f"{name}.yaml"

    def build(folder: Path) -> None:
        folder.mkdir()
        plain = [f"output={folder}", "name=run", "against=[]", "evaluate=[]"]
        settings = [part for setting in plain for part in ("--set", setting)]
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "stillroom", "distill", str(recipe), *settings], check=True)
        systems = json.loads((folder / "run" / "evaluation.json").read_text())["systems"]
        student = next(one for one in systems if one["role"] == "student")
        _say(folder, student["parameters"], time.monotonic() - began)

    return build_once(f"perf/{name}", fingerprint(recipe.read_text(), _installed()), build)


def model2vec_distilled() -> Path:
    """What model2vec makes of the same teacher, with its defaults."""
    from stillroom.data.cache import build_once, fingerprint
    from stillroom.views.locate import locate

    def build(folder: Path) -> None:
        from model2vec.distill import distill

        folder.mkdir()
        began = time.monotonic()
        model = distill(str(locate(TEACHER)), pca_dims=256)
        took = time.monotonic() - began
        model.save_pretrained(str(folder / "model"))
        _say(folder, model.embedding.size, took)

    return build_once("perf/model2vec", fingerprint(TEACHER, _installed()), build)


def _say(folder: Path, parameters: int, took: float) -> None:
    (folder / SUMMARY).write_text(json.dumps({"parameters": parameters, "seconds_to_make": took}))


def _installed() -> dict[str, str]:
    from stillroom.data.packages import versions

    return versions()


def served(folder: Path, encode: Encode) -> dict[str, float]:
    """The measures of a model that turns texts into vectors."""
    from stillroom.data import judgements, pydocs, wordnet
    from stillroom.evaluate.similarity import document_similarity, pair_similarity

    functions = pydocs.retrieval("test", count=500, seed=1)
    words = wordnet.retrieval("test", count=500, seed=1)
    people = {
        "WordSim-353": pair_similarity(*_both(judgements.wordsim353(), encode)),
        "SimLex-999": pair_similarity(*_both(judgements.simlex999(), encode)),
    }
    documents, judged = judgements.lee()
    people["Lee"] = document_similarity(encode(documents), judged)
    texts = functions.queries + words.queries
    return {
        **json.loads((folder / SUMMARY).read_text()),
        "sentences per second": len(texts) / seconds(lambda: encode(texts)),
        "nDCG@10, docstring to function": _found(functions, encode),
        "nDCG@10, definition to word": _found(words, encode),
        "mean Spearman with people": sum(people.values()) / len(people),
        **people,
    }


def _both(pairs, encode: Encode) -> tuple[np.ndarray, np.ndarray, list[float]]:
    return encode(list(pairs["first"])), encode(list(pairs["second"])), list(pairs["score"])


def _found(task, encode: Encode) -> float:
    import torch

    from stillroom.evaluate.retrieval import dense_retrieval

    sides = [torch.from_numpy(encode(texts)).float() for texts in (task.queries, task.documents)]
    unit = [torch.nn.functional.normalize(vectors, dim=-1) for vectors in sides]
    return dense_retrieval(*unit, task.relevance, 10)["ndcg@10"]


def by_sentence_transformers(name: str) -> dict[str, float]:
    """A student of stillroom's, as its users load it."""
    folder = distilled(name)
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder / "run" / "model"), device="cpu")
    return served(folder, lambda texts: model.encode(texts, batch_size=BATCH, show_progress_bar=False))


def by_model2vec() -> dict[str, float]:
    """The peer, as its users load it."""
    folder = model2vec_distilled()
    from model2vec import StaticModel

    model = StaticModel.from_pretrained(str(folder / "model"))
    return served(folder, lambda texts: model.encode(texts, batch_size=BATCH))


FIGURE = Figure(
    name="static_student",
    work="all-MiniLM-L6-v2 as a bag of token vectors of 256 dimensions",
    sides={
        "stillroom": lambda: by_sentence_transformers("static"),
        "model2vec 0.10": by_model2vec,
        "two layers (examples/minilm.yaml)": lambda: by_sentence_transformers("minilm"),
    },
    bars=(
        Bar("parameters", 1.0),
        Bar("sentences per second", 1.0, lower=False),
        Bar("nDCG@10, docstring to function", 0.03, lower=False, difference=True),
        Bar("nDCG@10, definition to word", 0.03, lower=False, difference=True),
        Bar("mean Spearman with people", 0.03, lower=False, difference=True),
    ),
    packages=("torch", "transformers", "sentence-transformers", "model2vec"),
)

if __name__ == "__main__":
    main(FIGURE)
