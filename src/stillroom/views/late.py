"""Late-interaction models: a vector for every token of query and document, as in ColBERT.

A model is a `MultiVectorEncoder` of sentence-transformers: a transformer, a linear map, unit length. Queries are filled
up with mask tokens, whose vectors count; a document's punctuation does not. Rows are those of retrieval. Where the
transformer has adapters for languages (X-MOD), a row's ``language`` says which one reads it.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from stillroom.errors import need
from stillroom.objectives.interaction import maxsim
from stillroom.signals import Signals
from stillroom.views.base import Inputs, Row, digest, pad, row_key, tokenizer_hash
from stillroom.views.encoder import language_place
from stillroom.views.ranking import candidate_mask, placed, texts_of
from stillroom.views.sentence import SentenceEncoder

QUERY, DOCUMENT = "[Q]", "[D]"
WIDTH = 128  # of the vectors
QUERY_LENGTH, DOCUMENT_LENGTH = 32, 256


class LateInteraction(SentenceEncoder):
    """Rows for a `MultiVectorEncoder`; a score is the sum of each query vector's best match.

    Args:
        tokenizer: its tokenizer, with a mask token.
        max_length: tokens kept of a document, prefix and special tokens included.
        query_length: tokens of every query, filled up with mask tokens.
        language: of rows that do not say theirs.
        languages: that the model has adapters for; empty for a model without.
    """

    formats: ClassVar[tuple[str, ...]] = ("pair", "triple")

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_length: int = DOCUMENT_LENGTH,
        query_length: int = QUERY_LENGTH,
        language: str | None = None,
        languages: Sequence[str] = (),
    ) -> None:
        super().__init__(tokenizer, max_length=max_length)
        self.query_length, self.languages = query_length, tuple(languages)
        self.language = language or (self.languages[0] if self.languages else None)
        self.skipped = [number for mark in string.punctuation if (number := self._number(mark)) is not None]

    def _number(self, token: str) -> int | None:
        number = self.tokenizer.convert_tokens_to_ids(token)
        return None if number == self.tokenizer.unk_token_id else number

    @classmethod
    def read(cls, folder: Path, **options: Any) -> Self:
        """The view, from tokenizer and configuration alone."""
        from transformers import AutoTokenizer

        config = json.loads((folder / "config.json").read_text())
        told = {"language": config.get("default_language"), "languages": config.get("languages", ())}
        return cls(AutoTokenizer.from_pretrained(folder), **(told | options))

    @classmethod
    def open(cls, folder: Path, dtype: torch.dtype, attention: str | None, **options: Any) -> tuple[nn.Module, Self]:
        """The pipeline, from safetensors only, and its view."""
        library = need("sentence_transformers", "embeddings")
        extra: dict[str, Any] = {"attn_implementation": attention} if attention else {}
        settings = {"dtype": dtype, "use_safetensors": True, **extra}
        model = library.MultiVectorEncoder(str(folder), device="cpu", model_kwargs=settings)
        return model, cls.read(folder, **options)

    @property
    def fingerprint(self) -> str:
        """A hash of tokenizer, lengths and languages."""
        lengths = self.max_length, self.query_length
        return digest("late", tokenizer_hash(self.tokenizer), *lengths, self.language, *self.languages)

    def encode(self, row: Row) -> dict[str, Any]:
        """A row as ``query`` and ``candidates``, token lists, and the place of its ``language`` among the model's.

        Raises:
            UserError: the model has no adapter for the row's language.
        """
        query, candidates = texts_of(row)
        tokens = self.tokens([f"{DOCUMENT} {text}" for text in candidates], self.max_length)
        (asked,) = self.tokens([f"{QUERY} {query}"], self.query_length)
        lengths = [len(ids) for ids in tokens]
        return {
            "id": row_key(row),
            "query": asked,
            "candidates": tokens,
            "language": language_place(self.languages, row.get("language") or self.language) if self.languages else 0,
            "length": sum(lengths) + self.query_length,
            "dropped": "",
            "shortened": max(lengths) == self.max_length,
        }

    def tokens(self, texts: list[str], length: int) -> list[list[int]]:
        """Token lists, cut."""
        return self.tokenizer(texts, truncation=True, max_length=length)["input_ids"]

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """Queries [B, Q], all candidates one after another [n, T], which vectors count, and which are whose."""
        queries = self.queries([row["query"] for row in rows])
        documents = self.documents([ids for row in rows for ids in row["candidates"]])
        candidates = candidate_mask([len(row["candidates"]) for row in rows])
        arguments = {f"query_{name}": value for name, value in queries.items()} | documents
        if self.languages:
            places = torch.tensor([row["language"] for row in rows])
            arguments |= {"query_lang_ids": places, "lang_ids": places[candidates.nonzero()[:, 0]]}
        return Inputs(
            ids=[row["id"] for row in rows],
            arguments=arguments | {"candidates": candidates},
            mask=torch.ones(len(rows), dtype=torch.bool),
            columns={"candidates": candidates},
        )

    def queries(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Filled up with mask tokens, which are attended to and whose vectors count."""
        mask = self.tokenizer.mask_token_id
        full = [[*row, *[mask] * (self.query_length - len(row))] for row in rows]
        ids, real = pad(full, self.tokenizer.pad_token_id or 0)
        return {"input_ids": ids, "attention_mask": real.long(), "scored": real}

    def documents(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Padded; punctuation is read, and its vectors don't count."""
        ids, real = pad(rows, self.tokenizer.pad_token_id or 0)
        scored = real & ~torch.isin(ids, torch.tensor(self.skipped, dtype=torch.long))
        return {"input_ids": ids, "attention_mask": real.long(), "scored": scored}

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """Scores [B, N]; crossed [B, B, N]."""
        queries = vectors(model, {n.removeprefix("query_"): v for n, v in arguments.items() if n.startswith("query_")})
        documents = vectors(model, {n: v for n, v in arguments.items() if not n.startswith("query_")})
        asked, given, candidates = arguments["query_scored"], arguments["scored"], arguments["candidates"]
        owner = candidates.nonzero()[:, 0]
        scores = placed(maxsim(queries[owner], documents, asked[owner], given), candidates)
        if "crossed" not in needs:
            return Signals(scores=scores)
        every = maxsim(queries[:, None], documents[None], asked[:, None], given[None])
        return Signals(scores=scores, crossed=placed(every, candidates))


def vectors(model: nn.Module, arguments: Mapping[str, Tensor]) -> Tensor:
    """[n, T, D], of unit length."""
    taken = {name: arguments[name] for name in ("input_ids", "attention_mask", "lang_ids") if name in arguments}
    return model(taken)["token_embeddings"]


def as_pipeline(
    folder: Path, *, width: int = WIDTH, query_length: int = QUERY_LENGTH, length: int = DOCUMENT_LENGTH
) -> Any:
    """A `MultiVectorEncoder` on the transformer in this folder, with a new map to ``width``.

    Its tokenizer gets the tokens that queries and documents begin with, and the transformer room for them.
    """
    from transformers import AutoModel, AutoTokenizer

    library = need("sentence_transformers", "embeddings")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.add_tokens([QUERY, DOCUMENT], special_tokens=True):
        body = AutoModel.from_pretrained(folder)
        if len(tokenizer) > body.config.vocab_size:
            body.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        body.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    parts = import_module("sentence_transformers.base.modules")
    dense = import_module("sentence_transformers.base.modules.dense").Dense
    masks = import_module("sentence_transformers.multi_vector_encoder.modules").MultiVectorMask
    expansion = {"strategy": "fixed", "length": query_length, "attend": True}
    transformer = parts.Transformer(
        str(folder), query_length=query_length, document_length=length, query_expansion=expansion
    )
    project = dense(
        transformer.get_embedding_dimension(),
        width,
        bias=False,
        activation_function=nn.Identity(),
        module_input_name="token_embeddings",
    )
    return library.MultiVectorEncoder(
        modules=[
            transformer,
            project,
            parts.Normalize(module_input_name="token_embeddings"),
            masks(skiplist_words=list(string.punctuation)),
        ],
        device="cpu",
        prompts={"query": f"{QUERY} ", "document": f"{DOCUMENT} "},
    )
