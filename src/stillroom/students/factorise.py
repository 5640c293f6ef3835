r"""Factorise the embeddings of a BERT: the ELECTRA architecture with weights fitted in closed form.

In a small encoder most parameters are embeddings. ELECTRA is BERT with embeddings of a width of their own, E, and one
projection from E to the hidden width H, and transformers loads it as it stands; so a BERT whose table is too large
becomes an ELECTRA whose table is V x E instead of V x H.

The fit. BERT gives the layers :math:`y = g \odot n(w + p + t) + \beta`, with w, p, t the rows for word, position and
token type, n the normalisation of a LayerNorm to mean 0 and variance 1 and g, :math:`\beta` its weight and bias. With
:math:`\sigma_w` the standard deviation of a word's row at an average position,

.. math:: y \approx Y_w + \beta + g \odot (p - \bar p) / \bar\sigma, \qquad Y_w = g \odot n(w + \bar p + t_0).

ELECTRA gives :math:`P (\gamma\, n(w' + p' + t')) + b`. The best :math:`Y_w \approx \mu + B a_w` of rank E - 1 in the
mean square over *running text* is the principal components of Y with every word weighted by how often it occurs;
positions and types are projected on the same B. The coordinates are turned so that they sum to 0 (this costs one of
the E dimensions), so the new LayerNorm has no mean to take away. Its division by the length, where BERT has none, is
the one part that is not linear: :math:`\gamma` is the typical length, and what is left over is for the training to
mend.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertModel, ElectraConfig, ElectraModel

# What BertConfig and ElectraConfig share in name and meaning.
_SHARED = [
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
]


def factorise(bert: BertModel, size: int, counts: Tensor) -> ElectraModel:
    """The same encoder with embeddings of width ``size``; the layers are copied, the embeddings fitted.

    Args:
        bert: an encoder without a head; it stays as it is. Its pooler is left out, as ELECTRA has none.
        size: the new width E, from 2 to the hidden width less one.
        counts: [V] how often each id occurs in the text that the student is for, as `count_tokens` tells. An id that
            never does counts as half an occurrence, so that every word is somewhere; so do rows of a padded table.

    Raises:
        ValueError: not a BERT, or ``size`` or ``counts`` do not fit it.
    """
    _check(bert, size, counts)
    config = ElectraConfig(**{name: getattr(bert.config, name) for name in _SHARED}, embedding_size=size)
    electra: Any = ElectraModel(config)
    electra.to(bert.device, bert.dtype)
    electra.encoder.load_state_dict(bert.encoder.state_dict())
    with torch.no_grad():
        for parameter, value in _fit(bert, electra, counts):
            parameter.copy_(value)
    return electra.train(bert.training)


def _fit(bert: BertModel, electra: ElectraModel, counts: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Every parameter up to the first layer with its value, worked out in float64 as the module's text says."""
    old, new = bert.embeddings, electra.embeddings
    size = electra.config.embedding_size
    word, position, kind = (
        table.weight.double() for table in (old.word_embeddings, old.position_embeddings, old.token_type_embeddings)
    )
    gain, bias = old.LayerNorm.weight.double(), old.LayerNorm.bias.double()
    weights = functional.pad(counts, (0, len(word) - len(counts))).to(word).clamp(min=0.5)
    weights = (weights / weights.sum()).unsqueeze(1)

    typical_position = position.mean(0)
    centred = _centre(word + typical_position + kind[0])
    spread = (centred.square().mean(1, keepdim=True) + old.LayerNorm.eps).sqrt()
    target = gain * centred / spread
    mean = (weights * target).sum(0)

    basis = _principal(target - mean, weights, size - 1)
    project = basis @ _sum_free(size).to(basis).T  # [H, E]
    coordinates = (target - mean) @ project
    length = (weights * coordinates.square()).sum().div(size).sqrt()
    scale = gain / (weights * spread).sum()
    return [
        (new.word_embeddings.weight, coordinates),
        (new.position_embeddings.weight, (scale * _centre(position - typical_position)) @ project),
        (new.token_type_embeddings.weight, (scale * _centre(kind - kind[0])) @ project),
        (new.LayerNorm.weight, length.expand(size)),
        (new.LayerNorm.bias, torch.zeros_like(new.LayerNorm.bias)),
        (electra.embeddings_project.weight, project),
        (electra.embeddings_project.bias, bias + mean),
    ]


def _centre(rows: Tensor) -> Tensor:
    return rows - rows.mean(-1, keepdim=True)


def _principal(rows: Tensor, weights: Tensor, rank: int) -> Tensor:
    """[H, rank]: orthonormal directions of the greatest weighted variance of ``rows`` [V, H], weights [V, 1]."""
    _, directions = torch.linalg.eigh(rows.T @ (weights * rows))  # eigenvalues ascend
    return directions[:, -rank:]


def _sum_free(size: int) -> Tensor:
    """[E, E - 1]: an orthonormal basis of the vectors of length E whose entries sum to 0."""
    spanning = torch.eye(size, dtype=torch.float64)
    spanning[:, 0] = 1.0
    return torch.linalg.qr(spanning).Q[:, 1:]


def _check(bert: BertModel, size: int, counts: Tensor) -> None:
    if not isinstance(bert, BertModel) or bert.config.is_decoder:
        raise ValueError(f"only a BERT encoder (BertModel) can be factorised, not a {type(bert).__name__}")
    width = bert.config.hidden_size
    if not 2 <= size < width:
        raise ValueError(f"the embedding size must lie between 2 and {width - 1}, one less than the width; got {size}")
    if counts.ndim != 1 or len(counts) > bert.config.vocab_size:
        rows = bert.config.vocab_size
        raise ValueError(f"the model has embeddings for {rows} ids, and counts are given for {list(counts.shape)}")
