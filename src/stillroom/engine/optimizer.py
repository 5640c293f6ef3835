"""The optimiser over everything that is trained: who is decayed, and whose rate is its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from stillroom.engine.settings import Train
from stillroom.errors import UserError


def build_optimizer(
    module: nn.Module, settings: Train, rates: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD over what requires gradient; biases, norms and other vectors are not decayed.

    Args:
        module: whose parameters they are.
        settings: the recipe's ``train``.
        rates: prefix of the names of parameters -> a learning rate of their own, which stays.
    """
    rates = rates or {}
    named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    if not named:
        raise UserError(
            "nothing is trainable: neither the student nor the method has a parameter that requires gradient"
        )
    own = {name: rate for name, _ in named for prefix, rate in rates.items() if name.startswith(prefix)}
    rest = [p for name, p in named if name not in own]
    plain = {"base_lr": settings.learning_rate, "constant": False}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.dim() >= 2], "weight_decay": settings.weight_decay, **plain},
        {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0, **plain},
    ]
    for rate in dict.fromkeys(own.values()):
        members = [p for name, p in named if own.get(name) == rate]
        groups.append({"params": members, "weight_decay": 0.0, "base_lr": rate, "constant": True})
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.betas[0])
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps)
