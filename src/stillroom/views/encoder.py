"""Text encoders of the BERT kind: bare, with a masked-language head, or with a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stillroom.errors import UserError, nearest
from stillroom.signals import Signals
from stillroom.views.base import Inputs, Row, TransformersView, digest, pad, row_key, run, tokenizer_hash

COPIES = 256  # of texts with one token hidden, that are read at once


def language_place(languages: Sequence[str], language: str | None) -> int:
    """The place of a language's adapter.

    Raises:
        UserError: there is none.
    """
    if language not in languages:
        raise UserError(
            f"the model has no adapter for the language {language!r}{nearest(str(language), languages)}; it has "
            f"{', '.join(languages)}: train one first, or name another language"
        )
    return languages.index(language)


class TextEncoder(TransformersView):
    """Rows for an encoder of texts; a row counts as one, and token masks are in the signals.

    Args:
        tokenizer: a fast transformers tokenizer.
        max_length: tokens kept of a text, its special tokens included; the rest is cut on the right and counted.
        languages: that the model has adapters for (X-MOD), in order; a row's column ``language`` says which one reads
            it. Empty for other models.
    """

    auto: ClassVar = "AutoModel"
    formats: ClassVar = ("text", "labelled-text")

    def __init__(self, tokenizer: Any, *, max_length: int = 128, languages: Sequence[str] = ()) -> None:
        self.tokenizer, self.max_length, self.languages = tokenizer, max_length, tuple(languages)

    @property
    def fingerprint(self) -> str:
        """A hash of tokenizer and length."""
        return digest("texts", tokenizer_hash(self.tokenizer), self.max_length, *self.languages)

    def encode(self, row: Row) -> dict[str, Any]:
        """A row as ``input_ids`` and, if it has one, its ``label``."""
        ids = self.tokenizer(row["text"], truncation=True, max_length=self.max_length)["input_ids"]
        full = len(ids) == self.max_length
        encoded = {"id": row_key(row), "dropped": "", "shortened": full, "input_ids": ids, "length": len(ids)}
        if self.languages:
            encoded["language"] = language_place(self.languages, row.get("language"))
        return encoded | ({"label": row["label"]} if row.get("label") is not None else {})

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """[B, T] tensors, and a mask [B] of rows."""
        ids, real = pad([row["input_ids"] for row in rows], self.tokenizer.pad_token_id or 0)
        labelled = bool(rows) and "label" in rows[0]
        spoken = {"lang_ids": torch.tensor([row["language"] for row in rows])} if self.languages else {}
        return Inputs(
            ids=[row["id"] for row in rows],
            arguments={"input_ids": ids, "attention_mask": real.long(), **spoken},
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
    """An encoder with its masked-language head: logits [B, T, V], each of the token in its own place.

    Args:
        tokenizer: a fast transformers tokenizer.
        max_length: tokens kept of a text.
        languages: as for a `TextEncoder`.
        each: whether every token is hidden in turn, from a copy of its text, so that logits tell what the model thinks
            of a token that it does not see, from all others (pseudo-log-likelihood, Salazar et al. 2020). A text of n
            tokens is read n times.
    """

    auto: ClassVar = "AutoModelForMaskedLM"

    def __init__(
        self, tokenizer: Any, *, max_length: int = 128, languages: Sequence[str] = (), each: bool = False
    ) -> None:
        super().__init__(tokenizer, max_length=max_length, languages=languages)
        self.each = each

    @property
    def fingerprint(self) -> str:
        """A hash of tokenizer, length, and whether tokens are hidden in turn."""
        plain = super().fingerprint
        return digest(plain, "each") if self.each else plain

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """[B, T] tensors; each token is its own label, and all but the special ones may be trained.

        What else a row's ``label`` says is in ``columns``.

        Which of them are hidden from the model and trained is drawn anew each step (`stillroom.blocks.masking`).
        """
        inputs = super().collate(rows)
        ids = inputs.arguments["input_ids"]
        told = {} if inputs.labels is None else {"label": inputs.labels}
        return replace(inputs, mask=self._ordinary(inputs.arguments), labels=ids, columns=told)

    def _ordinary(self, arguments: dict[str, Tensor]) -> Tensor:
        """[B, T], tokens that are neither padding nor special."""
        special = torch.tensor(self.tokenizer.all_special_ids, device=arguments["input_ids"].device)
        return arguments["attention_mask"].bool() & ~torch.isin(arguments["input_ids"], special)

    def emit(self, model: nn.Module, arguments: dict[str, Tensor], needs: tuple[str, ...]) -> Signals:
        """Logits [B, T, V], hidden states, attentions, taps; where tokens are hidden in turn, logits alone.

        Raises:
            ValueError: more than logits is asked for where tokens are hidden in turn.
        """
        if not self.each:
            return super().emit(model, arguments, needs)
        if beyond := [need for need in needs if need != "logits"]:
            raise ValueError(f"where each token is hidden in turn there are logits alone; {beyond[0]} was asked for")
        asked = self._ordinary(arguments)
        rows, places = asked.nonzero(as_tuple=True)
        found = []
        for some, at in zip(rows.split(COPIES), places.split(COPIES), strict=True):
            copies = arguments["input_ids"][some]
            copies[torch.arange(len(some), device=some.device), at] = self.tokenizer.mask_token_id
            rest = {name: value[some] for name, value in arguments.items() if name != "input_ids"}
            output: Any = model(input_ids=copies, **rest)
            found.append(output.logits[torch.arange(len(some), device=some.device), at])
        logits = found[0].new_zeros(*asked.shape, found[0].shape[-1])
        logits[asked] = torch.cat(found)
        return Signals(logits=logits, mask=arguments["attention_mask"].bool())


class TextClassifier(TextEncoder):
    """An encoder with a classifier: logits [B, C]."""

    auto: ClassVar = "AutoModelForSequenceClassification"
    primary: ClassVar = ("accuracy", True)
