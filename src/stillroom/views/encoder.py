"""Text encoders of the BERT kind: bare, with a masked-language head, or with a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stillroom.signals import Signals
from stillroom.views.base import Inputs, Row, TransformersView, digest, pad, row_key, run, tokenizer_hash


class TextEncoder(TransformersView):
    """Rows for an encoder of texts; a row counts as one, and token masks are in the signals.

    Args:
        tokenizer: a fast transformers tokenizer.
        max_length: tokens kept of a text, its special tokens included; the rest is cut on the right and counted.
    """

    auto: ClassVar = "AutoModel"
    formats: ClassVar = ("text", "labelled-text")

    def __init__(self, tokenizer: Any, *, max_length: int = 128) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length

    @property
    def fingerprint(self) -> str:
        """A hash of tokenizer and length."""
        return digest("texts", tokenizer_hash(self.tokenizer), self.max_length)

    def encode(self, row: Row) -> dict[str, Any]:
        """A row as ``input_ids`` and, if it has one, its ``label``."""
        ids = self.tokenizer(row["text"], truncation=True, max_length=self.max_length)["input_ids"]
        full = len(ids) == self.max_length
        encoded = {"id": row_key(row), "dropped": "", "shortened": full, "input_ids": ids, "length": len(ids)}
        return encoded | ({"label": row["label"]} if row.get("label") is not None else {})

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """[B, T] tensors, and a mask [B] of rows."""
        ids, real = pad([row["input_ids"] for row in rows], self.tokenizer.pad_token_id or 0)
        labelled = bool(rows) and "label" in rows[0]
        return Inputs(
            ids=[row["id"] for row in rows],
            arguments={"input_ids": ids, "attention_mask": real.long()},
            mask=torch.ones(len(rows), dtype=torch.bool),
            labels=torch.tensor([row["label"] for row in rows]) if labelled else None,
        )

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """Logits [B, T, V] or [B, C] where the model has a head; hidden states [B, T, H]; attentions; taps."""
        output, signals = run(model, arguments, needs)
        if "logits" in needs:
            signals.logits = output.logits
        signals.mask = arguments["attention_mask"].bool()
        return signals


class MaskedLM(TextEncoder):
    """An encoder with its masked-language head: logits [B, T, V], each of the token in its own place."""

    auto: ClassVar = "AutoModelForMaskedLM"

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """[B, T] tensors; each token is its own label, and all but the special ones may be trained.

        Which of them are hidden from the model and trained is drawn anew each step (`stillroom.blocks.masking`).
        """
        inputs = super().collate(rows)
        ids, real = inputs.arguments["input_ids"], inputs.arguments["attention_mask"].bool()
        special = torch.isin(ids, torch.tensor(self.tokenizer.all_special_ids))
        return replace(inputs, mask=real & ~special, labels=ids)


class TextClassifier(TextEncoder):
    """An encoder with a classifier: logits [B, C]."""

    auto: ClassVar = "AutoModelForSequenceClassification"
    primary: ClassVar = ("accuracy", True)
