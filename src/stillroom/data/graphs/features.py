"""Features of nodes, made of their texts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from stillroom.data.cache import build_once, fingerprint

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
_WORD = re.compile(r"[^\W\d_]+")


def hashed_words(texts: Sequence[str], width: int = 512) -> Tensor:
    """Bags of words, [texts, width]: each word counts in one column, by its hash; 1 + log of the count, to length 1.

    A text without words is a row of 0.
    """
    found = torch.zeros(len(texts), width)
    for place, text in enumerate(texts):
        counts = Counter(xxhash.xxh32_intdigest(word.encode()) % width for word in _WORD.findall(text.lower()))
        for column, count in counts.items():
            found[place, column] = 1 + math.log(count)
    return F.normalize(found, dim=-1)


def sentence_vectors(texts: Sequence[str], encoder: str = ENCODER) -> Tensor:
    """Vectors of length 1 of a sentence encoder, [texts, D]; computed once and kept in the cache."""

    def build(folder: Path) -> None:
        from stillroom.measuring import embed
        from stillroom.views.load import open_model

        folder.mkdir()
        vectors = embed(open_model(encoder, "embeddings"), list(texts))
        save_file({"vectors": vectors}, str(folder / "vectors.safetensors"))

    kept = build_once("graphs/vectors", fingerprint(list(texts), encoder), build)
    return load_file(kept / "vectors.safetensors")["vectors"]
