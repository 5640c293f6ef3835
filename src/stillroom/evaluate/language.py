"""How well a language model predicts the text it is tested on: perplexity, bits per byte, next-token accuracy.

Perplexity is per token, and what a token is depends on the vocabulary: a model that needs twice the tokens for the
same text may have the lower perplexity and still be the worse model. Bits per byte divides the same negative
log-likelihood by something that no tokenizer can change, the UTF-8 bytes of the trained text:

    bits per byte = nats / ln 2 / bytes

It is how many bits a byte of that text would cost if the model were used to compress it. So teacher and student, or
students with different vocabularies, can be compared by it as long as they saw the same text. Special tokens are
predicted, and cost nats, but have no bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from stillroom.evaluate.running import Running
from stillroom.signals import Batch, Reduced

TOKENS_AT_ONCE = 1024  # masked places whose float32 logits exist together: 0.6 GB at a vocabulary of 150,000

CountBytes = Callable[[Batch], int]


@torch.no_grad()
def evaluate_language(
    batches: Iterable[Batch], logits: Callable[[Batch], Tensor], *, count_bytes: CountBytes | None = None
) -> dict[str, float]:
    """Measure a language model on batches; how the rows were split into batches changes nothing.

    Args:
        batches: with ``labels`` and ``mask`` aligned with the logits (see `stillroom.signals.Batch`).
        logits: the model: a batch to [B, T, V], in any precision.
        count_bytes: the UTF-8 bytes of a batch's trained text, such as `trained_bytes` makes of a tokenizer. Without it
            there is no ``bits_per_byte``.

    Returns:
        ``nats_per_token``, ``perplexity`` (from 1; infinite beyond the range of a float), ``next_token_accuracy`` (in
        [0, 1]), ``tokens``; and ``bits_per_byte`` and ``bytes``.

    Raises:
        ValueError: no token is in the mask, or the trained text has no bytes.
    """
    running, size = Running(), 0
    for batch in batches:
        running.add(token_losses(logits(batch), _labels(batch), batch.mask))
        size += count_bytes(batch) if count_bytes else 0
    means = running.means()
    nats = means["nats"]
    measured = {
        "nats_per_token": nats,
        "perplexity": math.exp(nats) if nats < math.log(torch.finfo(torch.float64).max) else math.inf,
        "next_token_accuracy": means["accuracy"],
        "tokens": float(running.count("nats")),
    }
    if count_bytes is None:
        return measured
    if not size:
        raise ValueError("the trained text has no bytes, so there are no bits per byte")
    return measured | {"bits_per_byte": running.sum("nats") / math.log(2) / size, "bytes": float(size)}


def token_losses(logits: Tensor, labels: Tensor, mask: Tensor) -> dict[str, Reduced]:
    """Negative log-likelihood in ``nats``, and ``accuracy`` of the favourite token, over the masked places.

    Only the masked places are turned into log-probabilities, in float32, whatever precision comes in.

    Args:
        logits: [B, T, V].
        labels: [B, T], the token that each place predicts; anything outside the mask.
        mask: [B, T] bool.
    """
    if not logits.shape[:-1] == labels.shape == mask.shape:
        raise ValueError(
            f"logits [B, T, V], labels and mask [B, T] don't fit: {tuple(logits.shape)}, {tuple(labels.shape)}, "
            f"{tuple(mask.shape)}"
        )
    places = mask.bool()
    nats = torch.zeros((), dtype=torch.float64)
    hits = torch.zeros((), dtype=torch.int64)
    for part, right in zip(logits[places].split(TOKENS_AT_ONCE), labels[places].split(TOKENS_AT_ONCE), strict=True):
        nats -= part.float().log_softmax(-1).gather(-1, right.unsqueeze(-1)).sum().cpu()
        hits += (part.argmax(-1) == right).sum().cpu()
    count = places.sum().cpu()
    return {"nats": Reduced(nats, count), "accuracy": Reduced(hits, count)}


def trained_bytes(tokenizer: Any) -> CountBytes:
    """Count the UTF-8 bytes of the trained text of a batch by decoding it.

    A run of trained tokens is decoded together with the tokens before it, and the bytes of those are taken off again:
    alone, the run would lose the space in front of its first word with some tokenizers. Special tokens count no byte.

    Args:
        tokenizer: a transformers tokenizer, the one that made the batch's ``input_ids`` and ``labels``.
    """

    def size(ids: list[int]) -> int:
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return len(text.encode())

    def count(batch: Batch) -> int:
        total = 0
        for ids, labels, mask in zip(batch.student["input_ids"], _labels(batch), batch.mask, strict=True):
            for start, stop in _runs(mask.bool().tolist()):
                before = ids[: start + 1].tolist()
                total += size(before + labels[start:stop].tolist()) - size(before)
        return total

    return count


def _labels(batch: Batch) -> Tensor:
    if batch.labels is None:
        raise ValueError("the batch has no labels, so there is nothing to predict")
    return batch.labels


def _runs(mask: list[bool]) -> Iterator[tuple[int, int]]:
    """(start, stop) of every stretch of True."""
    edges = [
        place
        for place in range(len(mask) + 1)
        if (place < len(mask) and mask[place]) != (place > 0 and mask[place - 1])
    ]
    return zip(edges[::2], edges[1::2], strict=True)
