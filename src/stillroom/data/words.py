"""`words`: the whole words in a tokenizer's vocabulary, most frequent first as far as its ids tell.

A sentence encoder that shall also place single words has to see some; a teacher's own vocabulary is a list of the
words that matter to it. Columns of the one view, `words`: id; text, the word. There is one split, ``train``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

VIEWS = {"words": "text"}
SPLITS = ("train",)

# How pieces of vocabularies mark that a word begins (byte-level BPE, SentencePiece), and that one goes on (WordPiece).
BEGINS, GOES_ON = ("Ġ", "▁"), "##"


def load(view: str, split: str, limit: int | None, seed: int, *, tokenizer: str) -> Dataset:
    """The first ``limit`` words, or all; ``seed`` chooses nothing here.

    Args:
        view: ``words``.
        split: ``train``.
        limit: at most so many.
        seed: not used, as the order is that of the vocabulary.
        tokenizer: the folder or hub id of the model whose vocabulary is read.
    """
    import datasets
    from transformers import AutoTokenizer

    from stillroom.views.locate import locate

    found = AutoTokenizer.from_pretrained(locate(tokenizer, weights=False))
    pieces = [piece for piece, _ in sorted(found.get_vocab().items(), key=lambda item: item[1])]
    words = list(dict.fromkeys(_words(pieces)))[:limit]
    return datasets.Dataset.from_dict({"id": [f"word-{word}" for word in words], "text": words})


def _words(pieces: list[str]) -> Iterator[str]:
    """Those pieces that are words of at least two letters; where beginnings are marked, only what is marked."""
    marked = any(piece.startswith(BEGINS) for piece in pieces)
    for piece in pieces:
        bare = piece.removeprefix("Ġ").removeprefix("▁")
        if (piece != bare or not marked) and not piece.startswith(GOES_ON) and len(bare) > 1 and bare.isalpha():
            yield bare
