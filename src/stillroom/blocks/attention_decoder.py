"""A small autoregressive decoder that looks at an encoder's states: a throw-away head for training.

Shapes: ``B`` rows, ``U`` labels, ``F`` frames (or tokens) of the encoder, ``H`` its width, ``V`` vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class AttentionDecoder(nn.Module):
    """A Transformer decoder, pre-norm, with sinusoidal places: label i from those before it and the encoder's states.

    Args:
        vocabulary: V.
        width: H.
        layers: of the decoder.
        heads: of its attention, a divisor of the width.
        forbidden: an id that is never predicted (a blank), or None.

    Raises:
        ValueError: a width that the heads do not divide, or that is odd.
    """

    def __init__(
        self, vocabulary: int, width: int, *, layers: int = 1, heads: int = 4, forbidden: int | None = None
    ) -> None:
        super().__init__()
        if width % heads or width % 2:
            raise ValueError(f"{heads} heads must divide the width, which must be even; it is {width}")
        self.forbidden = forbidden
        self.embedding = nn.Embedding(vocabulary + 1, width)  # the last is where every sequence begins
        one = nn.TransformerDecoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(one, layers, norm=nn.LayerNorm(width))
        self.output = nn.Linear(width, vocabulary)

    def forward(self, labels: Tensor, mask: Tensor, states: Tensor, real: Tensor) -> Tensor:
        """Logits [B, U, V]; of ``forbidden`` minus infinity.

        Args:
            labels: [B, U], the right ones.
            mask: [B, U], labels that are there, which come first.
            states: [B, F, H] of the encoder.
            real: [B, F], states that are there; each row has one.
        """
        begin = self.embedding.num_embeddings - 1
        before = torch.cat([torch.full_like(labels[:, :1], begin), labels[:, :-1].masked_fill(~mask[:, 1:], 0)], 1)
        read = self.embedding(before) + _places(labels.shape[1], states)
        later = torch.ones(labels.shape[1], labels.shape[1], dtype=torch.bool, device=labels.device).triu(1)
        states = states.masked_fill(~real.unsqueeze(-1), 0.0)
        found = self.output(self.decoder(read, states, tgt_mask=later, memory_key_padding_mask=~real))
        if self.forbidden is None:
            return found
        never = torch.arange(found.shape[-1], device=found.device) == self.forbidden
        return found.masked_fill(never, -math.inf)


def _places(count: int, like: Tensor) -> Tensor:
    """[count, H], the sines and cosines of Vaswani et al. 2017."""
    width = like.shape[-1]
    rates = torch.exp(torch.arange(0, width, 2, device=like.device, dtype=like.dtype) * (-math.log(10_000.0) / width))
    angles = torch.arange(count, device=like.device, dtype=like.dtype).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
