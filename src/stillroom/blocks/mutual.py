"""Two models that teach each other while both learn (deep mutual learning, Zhang et al., 2018)."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from stillroom.objectives import Divergence, divergence_loss, forward_kl
from stillroom.signals import Reduced


def mutual_divergence(
    first: Tensor,
    second: Tensor,
    mask: Tensor,
    *,
    divergence: Divergence = forward_kl,
    temperature: float = 1.0,
    scale_by_t2: bool = False,
) -> tuple[Reduced, Reduced]:
    """Each model's divergence from the other, which stands still: what the first learns, and what the second learns.

    Args:
        first: logits of one model, [B, T, V] or [B, C].
        second: those of the other, of the same shape.
        mask: [B, T] or [B].
        divergence: any row function of `stillroom.objectives.divergence`.
        temperature: divides both models' logits, > 0.
        scale_by_t2: multiply by temperature^2.

    Returns:
        A loss with gradient for the first model only, and one for the second only.
    """
    loss = partial(divergence_loss, divergence=divergence, temperature=temperature, scale_by_t2=scale_by_t2)
    return loss(first, second.detach(), mask), loss(second, first.detach(), mask)
