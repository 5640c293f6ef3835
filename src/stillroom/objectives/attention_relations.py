"""Relations among a layer's queries, keys or values, compared between models of different width and head count.

Source: MiniLMv2 (Wang et al., 2021). With R_ab = softmax(a b^T / sqrt(d_r)) over relation heads of width
d_r, the loss of a pair (a, b) in {Q, K, V} is the mean over heads and real rows of KL(R_ab teacher || R_ab student).

Shapes: ``B`` sequences, ``T`` tokens, ``H`` the student's width, ``H'`` the teacher's, ``A`` relation heads, ``N`` real
tokens in the batch.
"""

from __future__ import annotations

import math

from torch import Tensor

from stillroom.objectives.divergence import Divergence, forward_kl
from stillroom.objectives.rows import need_shape, products, select, spread
from stillroom.objectives.sequence import sequence_mean
from stillroom.signals import Reduced

Pair = tuple[Tensor, Tensor]


def attention_relation(
    student: Pair, teacher: Pair, mask: Tensor, *, heads: int, divergence: Divergence = forward_kl
) -> Reduced:
    """How far the student's relation among its tokens is from the teacher's.

    Padding is removed from the columns before the softmax and from the rows after; each sequence is averaged over its
    own real tokens, so that neither padding nor its neighbours' lengths change its value.

    Args:
        student: the two sides of the relation, [B, T, H] each: ``(queries, queries)`` for Q-Q, ``(queries, keys)`` for
            the scores of the attention itself. Outputs of the projections, before they are split into heads.
        teacher: the same of the teacher, [B, T, H'].
        mask: [B, T], real tokens.
        heads: relation heads, a divisor of both widths; it need not be the head count of either model.
        divergence: how two rows of a relation are compared.

    Returns:
        The sum over sequences of their means, and the number of sequences with any real token.

    Raises:
        ValueError: ``heads`` does not divide a width, or the shapes disagree.
    """
    rows = divergence(_relation_rows(student, mask, heads), _relation_rows(teacher, mask, heads))
    return sequence_mean(spread(rows.mean(-1), mask), mask)


def relation_scores(first: Tensor, second: Tensor, *, heads: int) -> Tensor:
    """Scaled inner products within relation heads, [B, T, H] twice -> [B, A, T, T].

    Raises:
        ValueError: ``heads`` does not divide the width.
    """
    width = first.shape[-1]
    if heads < 1 or width % heads:
        raise ValueError(
            f"{heads} relation heads do not divide a width of {width}; take a common divisor of both models'"
        )
    first, second = (side.unflatten(-1, (heads, width // heads)).transpose(1, 2) for side in (first, second))
    return products(first, second) / math.sqrt(width // heads)


def _relation_rows(pair: Pair, mask: Tensor, heads: int) -> Tensor:
    """The log-probabilities of each real token's relation to all real tokens of its sequence, [N, A, T]."""
    need_shape(mask, pair[0].shape[:-1])
    mask = mask.bool()
    first, second = (side.masked_fill(~mask.unsqueeze(-1), 0.0) for side in pair)
    scores = relation_scores(first, second, heads=heads).masked_fill(~mask[:, None, None, :], -math.inf)
    return select(scores.transpose(1, 2), mask).log_softmax(-1)
