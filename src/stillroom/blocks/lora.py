"""Low-rank adapters in a model for the length of a training, and merged into its weights afterwards (LoRA)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn


class LowRank:
    """Adapters beside a model's linear layers: y = W x + (alpha / rank) B A x, A and B trained, W as it is.

    The model itself is changed, and `merge` gives it back with its own parts alone. Hu et al. 2021; by peft.

    Args:
        model: a transformers model.
        rank: of A and B, at least 1.
        alpha: scale, above 0.
        dropout: of what goes into A, in [0, 1).
        targets: names (or ends of names) of the layers; None is every linear layer but the head.

    Raises:
        ValueError: a value outside its range, or no layer of these names.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        rank: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.0,
        targets: Sequence[str] | None = None,
    ) -> None:
        from peft import LoraConfig, get_peft_model

        check_rank(rank, alpha, dropout)
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]
            lora_dropout=dropout,
            target_modules="all-linear" if targets is None else list(targets),
        )
        self._wrapped: Any = get_peft_model(model, config)  # type: ignore[arg-type]

    def merge(self) -> None:
        """Add B A to the weights, take the adapters out, and let all weights be trained again."""
        self._wrapped.merge_and_unload().requires_grad_(True)


def check_rank(rank: int, alpha: float, dropout: float) -> None:
    """Refuse values outside their range.

    Raises:
        ValueError: as it says.
    """
    if rank < 1 or alpha <= 0 or not 0 <= dropout < 1:
        raise ValueError(f"rank is at least 1, alpha above 0, dropout in [0, 1); they are {rank}, {alpha}, {dropout}")
