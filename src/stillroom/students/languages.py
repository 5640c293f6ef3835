"""Language adapters of X-MOD models: which parameters they are, and one more for a new language."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from stillroom.errors import UserError, nearest


def adapters(model: nn.Module) -> dict[str, nn.ModuleDict]:
    """The adapters of each layer, {language: adapter}, by the name of where they are."""
    return {
        name: module
        for name, module in model.named_modules()
        if name.rpartition(".")[2] == "adapter_modules" and isinstance(module, nn.ModuleDict)
    }


def modular(model: nn.Module) -> list[nn.Parameter]:
    """What stays as it is when such a model learns a task in one language: embeddings, adapters and their norms.

    Raises:
        UserError: the model has no adapters.
    """
    found = [
        parameter
        for name, parameter in model.named_parameters()
        if ".adapter_modules." in name or ".adapter_layer_norm." in name or "embeddings." in name
    ]
    if not adapters(model):
        raise UserError(
            "the model has no adapters for languages; take an X-MOD, or leave nothing frozen (frozen=false)"
        )
    return found


@torch.no_grad()
def add_language(model: Any, language: str, *, like: str) -> None:
    """Give a model an adapter for one more language, in place; it starts as a copy of another's.

    It is then trained by masked language modelling with all else left as it is (``mlm`` with ``only``).

    Args:
        model: an X-MOD model of transformers.
        language: its code.
        like: the language whose adapter it starts as.

    Raises:
        UserError: there is one already, or none for ``like``.
    """
    languages = list(getattr(model.config, "languages", ()))
    if language in languages:
        raise UserError(f"the model has an adapter for {language!r} already")
    if like not in languages:
        raise UserError(f"the model has no adapter for {like!r}{nearest(like, languages)} to start from")
    for each in adapters(model).values():
        fresh = type(each[like])(model.config).to(next(each[like].parameters()))
        fresh.load_state_dict(each[like].state_dict())
        each[language] = fresh
    model.config.languages = [*languages, language]
