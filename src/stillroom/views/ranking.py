"""Queries and candidates: scored apart by a bi-encoder, or together by a cross-encoder.

A row is a query with its candidates, the relevant one first. Scores are [B, N]; a row with fewer candidates than the
others has false places in ``columns["candidates"]`` [B, N], whose scores are 0 and mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stillroom.signals import Signals
from stillroom.views.base import Inputs, Row, TransformersView, digest, pad, row_key, run, tokenizer_hash
from stillroom.views.sentence import SentenceEncoder


def texts_of(row: Row) -> tuple[str, list[str]]:
    """A row's query, and its candidates with the relevant one first."""
    negatives = row.get("negative") or []
    return row["anchor"], [row["positive"], *([negatives] if isinstance(negatives, str) else negatives)]


def candidate_mask(sizes: Sequence[int]) -> Tensor:
    """[B, N] bool, true for as many candidates as each row has."""
    return torch.arange(max(sizes)) < torch.tensor(sizes).unsqueeze(1)


def placed(scores: Tensor, candidates: Tensor) -> Tensor:
    """Scores [..., n] of all candidates, one after another, at their places [..., B, N]; 0 where there is none."""
    return scores.new_zeros(*scores.shape[:-1], *candidates.shape).masked_scatter(candidates, scores)


class BiEncoder(SentenceEncoder):
    """Rows for a `SentenceTransformer` that embeds queries and candidates apart; a score is their inner product.

    Whether vectors are normalised, so that scores are cosines, is the pipeline's own affair.

    Args:
        tokenizer: its tokenizer.
        max_length: tokens kept of a candidate.
        query_length: tokens kept of a query.
    """

    formats: ClassVar[tuple[str, ...]] = ("pair", "triple")

    def __init__(self, tokenizer: Any, *, max_length: int = 128, query_length: int = 32) -> None:
        super().__init__(tokenizer, max_length=max_length)
        self.query_length = query_length

    @property
    def fingerprint(self) -> str:
        """A hash of tokenizer and lengths."""
        return digest("bi-encoder", tokenizer_hash(self.tokenizer), self.max_length, self.query_length)

    def encode(self, row: Row) -> dict[str, Any]:
        """A row as ``query`` and ``candidates``, token lists."""
        query, candidates = texts_of(row)
        tokens = self.tokenizer(candidates, truncation=True, max_length=self.max_length)["input_ids"]
        asked = self.tokenizer(query, truncation=True, max_length=self.query_length)["input_ids"]
        lengths = [len(ids) for ids in tokens]
        return {
            "id": row_key(row),
            "query": asked,
            "candidates": tokens,
            "length": sum(lengths) + len(asked),
            "dropped": "",
            "shortened": max(lengths) == self.max_length,
        }

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """Queries [B, Tq], all candidates one after another [n, Td], and which are whose."""
        pad_id = self.tokenizer.pad_token_id or 0
        queries, asked = pad([row["query"] for row in rows], pad_id)
        documents, real = pad([ids for row in rows for ids in row["candidates"]], pad_id)
        candidates = candidate_mask([len(row["candidates"]) for row in rows])
        return Inputs(
            ids=[row["id"] for row in rows],
            arguments={
                "query_input_ids": queries,
                "query_attention_mask": asked.long(),
                "input_ids": documents,
                "attention_mask": real.long(),
                "candidates": candidates,
            },
            mask=torch.ones(len(rows), dtype=torch.bool),
            columns={"candidates": candidates},
        )

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """Scores [B, N]; crossed [B, B, N]."""
        asked = {"input_ids": arguments["query_input_ids"], "attention_mask": arguments["query_attention_mask"]}
        given = {"input_ids": arguments["input_ids"], "attention_mask": arguments["attention_mask"]}
        queries = model(asked)["sentence_embedding"]
        documents = model(given)["sentence_embedding"]
        candidates = arguments["candidates"]
        owner = candidates.nonzero()[:, 0]
        scores = (queries[owner] * documents).sum(-1)
        crossed = placed(queries @ documents.T, candidates) if "crossed" in needs else None
        return Signals(scores=placed(scores, candidates), crossed=crossed)


class CrossEncoder(TransformersView):
    """Rows for an encoder that reads query and candidate together and gives one logit.

    Args:
        tokenizer: a fast transformers tokenizer.
        max_length: tokens kept of query and candidate together; the candidate is cut.
    """

    auto: ClassVar = "AutoModelForSequenceClassification"
    formats: ClassVar = ("pair", "triple")

    def __init__(self, tokenizer: Any, *, max_length: int = 160) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length

    @property
    def fingerprint(self) -> str:
        """A hash of tokenizer and length."""
        return digest("cross-encoder", tokenizer_hash(self.tokenizer), self.max_length)

    def encode(self, row: Row) -> dict[str, Any]:
        """A row as token lists of query and candidate, with the segment of each token."""
        query, candidates = texts_of(row)
        found = self.tokenizer(
            [query] * len(candidates),
            candidates,
            truncation="only_second",
            max_length=self.max_length,
            return_token_type_ids=True,
        )
        lengths = [len(ids) for ids in found["input_ids"]]
        return {
            "id": row_key(row),
            "candidates": found["input_ids"],
            "segments": found["token_type_ids"],
            "length": sum(lengths),
            "dropped": "",
            "shortened": max(lengths) == self.max_length,
        }

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """All pairs one after another [n, T], and which are whose."""
        ids, real = pad([ids for row in rows for ids in row["candidates"]], self.tokenizer.pad_token_id or 0)
        segments, _ = pad([ids for row in rows for ids in row["segments"]])
        candidates = candidate_mask([len(row["candidates"]) for row in rows])
        arguments = {"input_ids": ids, "attention_mask": real.long(), "candidates": candidates}
        if "token_type_ids" in self.tokenizer.model_input_names:
            arguments["token_type_ids"] = segments
        return Inputs(
            ids=[row["id"] for row in rows],
            arguments=arguments,
            mask=torch.ones(len(rows), dtype=torch.bool),
            columns={"candidates": candidates},
        )

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """Scores [B, N]: raw logits."""
        candidates = arguments["candidates"]
        output, signals = run(model, {name: value for name, value in arguments.items() if name != "candidates"}, needs)
        scores = output.logits[:, 0]
        signals.scores = scores.new_zeros(candidates.shape).masked_scatter(candidates, scores)
        return signals
