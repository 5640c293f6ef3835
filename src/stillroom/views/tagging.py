"""Token classifiers: every word of a text has a class.

Rows are words with the numbers of their classes; 0 is usually "nothing". A word's class is told at the first of its
tokens, the others are neither trained nor looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stillroom.signals import Signals
from stillroom.views.base import Inputs, Row, TransformersView, digest, pad, row_key, run, tokenizer_hash


class TokenClassifier(TransformersView):
    """Rows for an encoder with a classifier of tokens: logits [B, T, C].

    Args:
        tokenizer: a fast transformers tokenizer.
        max_length: tokens kept of a text, its special tokens included; words beyond it are lost and counted.
    """

    auto: ClassVar = "AutoModelForTokenClassification"
    formats: ClassVar = ("tagged",)

    def __init__(self, tokenizer: Any, *, max_length: int = 128) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length

    @property
    def fingerprint(self) -> str:
        """A hash of tokenizer and length."""
        return digest("tags", tokenizer_hash(self.tokenizer), self.max_length)

    def encode(self, row: Row) -> dict[str, Any]:
        """A row as ``input_ids``; ``trained``, the first token of each word; and ``tags``, its class there, else 0."""
        found = self.tokenizer(
            list(row["tokens"]), is_split_into_words=True, truncation=True, max_length=self.max_length
        )
        words = found.word_ids()
        first = [word is not None and word not in words[:place] for place, word in enumerate(words)]
        return {
            "id": row_key(row),
            "input_ids": found["input_ids"],
            "trained": first,
            "tags": [row["tags"][word] if told else 0 for word, told in zip(words, first, strict=True)],
            "length": len(words),
            "dropped": "" if any(first) else "has no word",
            "shortened": len(words) == self.max_length,
        }

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """[B, T] tensors; the mask is true at the first token of each word."""
        ids, real = pad([row["input_ids"] for row in rows], self.tokenizer.pad_token_id or 0)
        trained, _ = pad([row["trained"] for row in rows])
        labels, _ = pad([row["tags"] for row in rows])
        return Inputs(
            ids=[row["id"] for row in rows],
            arguments={"input_ids": ids, "attention_mask": real.long()},
            mask=trained.bool(),
            labels=labels,
        )

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """Logits [B, T, C]; hidden states, attentions, taps."""
        output, signals = run(model, arguments, needs)
        if "logits" in needs:
            signals.logits = output.logits
        signals.mask = arguments["attention_mask"].bool()
        return signals

    @torch.no_grad()
    def tag(self, model: nn.Module, texts: Sequence[Sequence[str]], size: int = 64) -> list[list[int]]:
        """The likeliest class of every word that fits; words beyond the length get 0."""
        found: list[list[int]] = []
        for start in range(0, len(texts), size):
            chosen = texts[start : start + size]
            rows = [self.encode({"tokens": words, "tags": [0] * len(words)}) for words in chosen]
            inputs = self.collate(rows)
            device = next(model.parameters()).device
            logits = self.emit(model, {n: v.to(device) for n, v in inputs.arguments.items()}, ("logits",)).logits
            assert logits is not None
            best = logits.argmax(-1).cpu()
            for words, mask, tags in zip(chosen, inputs.mask, best, strict=True):
                told = tags[mask].tolist()
                found.append(told + [0] * (len(words) - len(told)))
        return found
