"""More classes for a classifier that has learnt some: new rows below the old ones, which stay as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def classifier_of(model: Any) -> nn.Linear:
    """The last linear layer of a model, which gives its classes.

    Raises:
        ValueError: there is none of as many outputs as the configuration has labels.
    """
    found = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not found or found[-1].out_features != model.config.num_labels:
        raise ValueError(f"{type(model).__name__} ends in no linear layer of {model.config.num_labels} classes")
    return found[-1]


@torch.no_grad()
def add_classes(model: Any, count: int) -> None:
    """Give a model ``count`` more classes, in place; their rows are drawn like those of a new model.

    Raises:
        ValueError: ``count`` is below 1, or the model has no classifier.
    """
    if count < 1:
        raise ValueError(f"count, the number of new classes, must be at least 1; it is {count}")
    head = classifier_of(model)
    new = torch.randn(count, head.in_features).to(head.weight) * getattr(model.config, "initializer_range", 0.02)
    head.weight = nn.Parameter(torch.cat([head.weight, new]))
    if head.bias is not None:
        head.bias = nn.Parameter(torch.cat([head.bias, head.bias.new_zeros(count)]))
    head.out_features += count
    model.config.num_labels = head.out_features  # which names the labels anew
