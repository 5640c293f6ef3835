"""Sentence encoders: a sentence-transformers pipeline from text to one vector.

A row holds one text, a pair, or a triple; in a batch every text stands alone, with an id of its own, so that a cached
vector is found whatever row it came with. ``columns["pairs"]`` says which texts belong together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from stillroom.errors import need
from stillroom.signals import Signals, record
from stillroom.views.base import Inputs, Row, View, digest, pad, tokenizer_hash


class SentenceEncoder(View):
    """Rows for a `SentenceTransformer`.

    Args:
        tokenizer: its tokenizer.
        max_length: tokens kept of a text, its special tokens included; the rest is cut on the right and counted.
    """

    formats: ClassVar[tuple[str, ...]] = ("text", "pair", "triple")

    def __init__(self, tokenizer: Any, *, max_length: int = 128) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length

    @classmethod
    def read(cls, folder: Path, **options: Any) -> Self:
        """The view, from the tokenizer alone."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(folder), **options)

    @classmethod
    def open(cls, folder: Path, dtype: torch.dtype, attention: str | None, **options: Any) -> tuple[nn.Module, Self]:
        """The pipeline, from safetensors only, and its view."""
        library = need("sentence_transformers", "embeddings")
        extra: dict[str, Any] = {"attn_implementation": attention} if attention else {}
        settings = {"dtype": dtype, "use_safetensors": True, **extra}
        model = library.SentenceTransformer(str(folder), device="cpu", model_kwargs=settings)
        return model, cls(model.tokenizer, **options)

    @property
    def fingerprint(self) -> str:
        """A hash of tokenizer and length."""
        return digest("sentences", tokenizer_hash(self.tokenizer), self.max_length)

    @staticmethod
    def texts(row: Row) -> list[str]:
        """The texts of a row: its one; or anchor, positive, negatives."""
        texts = [row["text"]] if row.get("text") is not None else [row["anchor"], row["positive"]]
        negatives = row.get("negative") or []
        return texts + ([negatives] if isinstance(negatives, str) else list(negatives))

    def encode(self, row: Row) -> dict[str, Any]:
        """A row as ``texts``, a list of token lists (text; or anchor, positive, negatives), each with its id."""
        texts = self.texts(row)
        tokens = self.tokenizer(texts, truncation=True, max_length=self.max_length)["input_ids"]
        lengths = [len(ids) for ids in tokens]
        return {
            "id": text_id(texts[0]),
            "ids": [text_id(text) for text in texts],
            "texts": tokens,
            "length": max(lengths),
            "dropped": "",
            "shortened": max(lengths) == self.max_length,
        }

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """All texts of all rows as [texts, T]; ``columns["pairs"]`` [P, 2] are the places of anchors and positives.

        ``columns["negatives"]`` [n] are the places of hard negatives, of all rows together.
        """
        ids, tokens, columns = self.gathered(rows)
        padded, real = pad(tokens, self.tokenizer.pad_token_id or 0)
        return Inputs(
            ids=ids,
            arguments={"input_ids": padded, "attention_mask": real.long()},
            mask=torch.ones(len(ids), dtype=torch.bool),
            columns=columns,
        )

    @staticmethod
    def gathered(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[int]], dict[str, Any]]:
        """The ids and the token lists of all texts of encoded rows, and the columns that say which belong together."""
        ids: list[str] = []
        tokens: list[list[int]] = []
        pairs: list[list[int]] = []
        negatives: list[int] = []
        for row in rows:
            first = len(ids)
            ids += row["ids"]
            tokens += row["texts"]
            if len(row["ids"]) > 1:
                pairs.append([first, first + 1])
            negatives += range(first + 2, len(ids))
        columns = {
            "pairs": torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
            "negatives": torch.tensor(negatives, dtype=torch.long),
        }
        return ids, tokens, columns

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """One vector a text [texts, D], as the model's user gets it; taps by the pipeline's own module names."""
        with record(model, tuple(need.removeprefix("tap:") for need in needs if need.startswith("tap:"))) as taps:
            output = model(dict(arguments))
        return Signals(embedding=output["sentence_embedding"], taps=taps, mask=arguments["attention_mask"].bool())

    def save(self, model: nn.Module, folder: Path) -> None:
        """The whole pipeline, as `SentenceTransformer(folder)` reads it."""
        from stillroom.export.transformers import save_clean

        save_clean(model, folder, None)


def text_id(text: str) -> str:
    """A stable name for a text: the same text has the same vector, whatever row it stands in."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
