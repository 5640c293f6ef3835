"""Static encoders: a text's vector is the mean of its tokens' vectors, which no context changes.

Such a pipeline of sentence-transformers begins with a ``StaticEmbedding``. Its texts are read without special tokens,
and come to the model one after another, without padding: ``input_ids`` [N] of all texts of a batch and ``offsets``
[texts], where each begins. A text without any token has the vector 0.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from stillroom.blocks.weighted_bag import folded
from stillroom.errors import UserError, need
from stillroom.signals import Signals, record
from stillroom.views.base import Inputs, Row, digest, tokenizer_hash
from stillroom.views.sentence import SentenceEncoder, text_id


class StaticEncoder(SentenceEncoder):
    """Rows for a `SentenceTransformer` whose first module is a ``StaticEmbedding``.

    Args:
        tokenizer: its tokenizer, of transformers.
        max_length: tokens kept of a text; the rest is cut on the right and counted. None keeps all, as
            sentence-transformers does: a long text costs little here.
    """

    max_length: int | None  # type: ignore[assignment]

    def __init__(self, tokenizer: Any, *, max_length: int | None = None) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length

    @classmethod
    def read(cls, folder: Path, **options: Any) -> Self:
        """The view, from the tokenizer alone."""
        from transformers import PreTrainedTokenizerFast

        table = table_folder(folder)
        assert table is not None
        return cls(PreTrainedTokenizerFast(tokenizer_file=str(table / "tokenizer.json")), **options)

    @classmethod
    def open(cls, folder: Path, dtype: torch.dtype, attention: str | None, **options: Any) -> tuple[nn.Module, Self]:
        """The pipeline, from safetensors only, and its view."""
        library = need("sentence_transformers", "embeddings")
        table = table_folder(folder)
        if table is None or not (table / "model.safetensors").is_file():
            raise UserError(f"{folder} has no token vectors in safetensors, which alone are read; save the model anew")
        model = library.SentenceTransformer(str(folder), device="cpu", model_kwargs={"use_safetensors": True})
        return model.to(dtype), cls.read(folder, **options)

    @property
    def fingerprint(self) -> str:
        """A hash of tokenizer and length."""
        return digest("static", tokenizer_hash(self.tokenizer), self.max_length)

    def encode(self, row: Row) -> dict[str, Any]:
        """A row as ``texts``, a list of token lists (text; or anchor, positive, negatives), each with its id."""
        texts = self.texts(row)
        tokens = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        longest = max(len(ids) for ids in tokens)
        kept = [ids[: self.max_length] for ids in tokens]
        return {
            "id": text_id(texts[0]),
            "ids": [text_id(text) for text in texts],
            "texts": kept,
            "length": max(len(ids) for ids in kept),
            "dropped": "",
            "shortened": self.max_length is not None and longest > self.max_length,
        }

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """All texts of all rows, one after another; which belong together is told as by a `SentenceEncoder`."""
        ids, tokens, columns = self.gathered(rows)
        begins = [0, *accumulate(len(text) for text in tokens)][: len(tokens)]
        return Inputs(
            ids=ids,
            arguments={
                "input_ids": torch.tensor(list(chain.from_iterable(tokens)), dtype=torch.long),
                "offsets": torch.tensor(begins, dtype=torch.long),
            },
            mask=torch.ones(len(ids), dtype=torch.bool),
            columns=columns,
        )

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """One vector a text [texts, D], as the model's user gets it; taps by the pipeline's own module names."""
        with record(model, tuple(need.removeprefix("tap:") for need in needs if need.startswith("tap:"))) as taps:
            output = model(dict(arguments))
        return Signals(embedding=output["sentence_embedding"], taps=taps)

    def settle(self, model: nn.Module) -> None:
        """Fold the weights of tokens, which only training needs, into their vectors."""
        pipeline: Any = model
        pipeline[0].embedding = folded(pipeline[0].embedding)

    def save(self, model: nn.Module, folder: Path) -> None:
        """The whole pipeline, as `SentenceTransformer(folder)` reads it, with a plain mean over tokens."""
        plain = copy.deepcopy(model)
        self.settle(plain)
        super().save(plain, folder)


def table_folder(folder: Path) -> Path | None:
    """Where a static pipeline of sentence-transformers keeps its token vectors; None for any other model.

    Args:
        folder: of the model.
    """
    file = folder / "modules.json"
    first = json.loads(file.read_text("utf-8"))[0] if file.is_file() else {"type": ""}
    return folder / first["path"] if first["type"].endswith(".StaticEmbedding") else None
