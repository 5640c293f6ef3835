"""What a model weighs, from its configuration alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import torch

from stillroom.engine.sharding import layers_of
from stillroom.errors import UserError
from stillroom.recipe import Cut, Static
from stillroom.students.open import from_config
from stillroom.students.truncate import find_layers
from stillroom.views.base import LibraryView
from stillroom.views.load import view_class
from stillroom.views.locate import locate

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Size:
    """A model's numbers, from its configuration: 0 for what it does not have.

    ``a_token`` are the parameters that work on a token, where not all of them do; None where they do. ``largest`` is
    the largest tensor of them, ``layer`` a layer's parameters, and ``outside`` those that are in no layer (embeddings,
    the head).
    """

    parameters: int
    layers: int
    width: int
    heads: int
    vocabulary: int
    classes: int
    shared_width: int = 0
    a_token: int | None = None
    largest: int = 0
    layer: int = 0
    outside: int = 0

    @property
    def worked(self) -> int:
        """Parameters that work on a token."""
        return self.parameters if self.a_token is None else self.a_token


def config_of(name: str | None, revision: str | None = None, kind: str = "language") -> Any:
    """The configuration of a saved model, its weights left where they are."""
    from transformers import AutoConfig

    assert name is not None
    if issubclass(view_class(kind), LibraryView):
        return json.loads((locate(name, revision=revision, weights=False) / "config.json").read_text())
    return AutoConfig.from_pretrained(locate(name, revision=revision, weights=False))


def config_size(config: Any, kind: str) -> Size:
    """The numbers of the model that a configuration describes."""
    if issubclass(view := view_class(kind), LibraryView):
        return _library_size(view, config)
    text = config.get_text_config()
    model = without_weights(config, kind)
    whole, layer = _parameters(model), [_parameters(part) for part in layers_of(model)]
    return Size(
        parameters=whole,
        largest=_largest(model),
        layer=max(layer, default=0),
        outside=whole - sum(layer),
        layers=int(getattr(text, "num_hidden_layers", 0) or 0),
        width=int(getattr(text, "hidden_size", 0) or 0),
        heads=int(getattr(text, "num_attention_heads", 0) or 0),
        vocabulary=int(getattr(text, "vocab_size", 0) or 0),
        classes=int(getattr(config, "num_labels", 0) or 0),
        shared_width=int(getattr(config, "projection_dim", 0) or getattr(text, "projection_size", 0) or 0),
    )


def _library_size(view: type[LibraryView], config: dict[str, Any]) -> Size:
    """The numbers of a model that another library makes, as far as its configuration tells them."""
    with torch.device("meta"):
        model: Any = view.built(config)
    main = config.get("parts", {}).get("encoder", config).get("arguments", {})
    return Size(
        parameters=_parameters(model),
        largest=_largest(model),
        layers=int(main.get("num_layers", 0)),
        width=int(main.get("hidden_channels", 0)),
        heads=0,
        vocabulary=0,
        classes=int(main.get("out_channels") or 0),
    )


def without_weights(config: Any, kind: str) -> Any:
    """The model that a configuration describes, its shapes alone."""
    with torch.device("meta"):
        return from_config(config, kind)


def _parameters(module: torch.nn.Module) -> int:
    """How many numbers are learnt; a tensor that is used twice (tied) counts once."""
    return sum({id(p): p.numel() for p in module.parameters()}.values())


def _largest(module: torch.nn.Module) -> int:
    return max((parameter.numel() for parameter in module.parameters()), default=0)


def cut_size(config: Any, kind: str, cut: Cut) -> Size:
    """A model's numbers after the cut."""
    model, whole = without_weights(config, kind), config_size(config, kind)
    parameters, layers = whole.parameters, whole.layers
    if cut.layers is not None:
        blocks = find_layers(model)[1]
        if outside := [number for number in cut.layers if not -len(blocks) <= number < len(blocks)]:
            raise UserError(f"student.cut.layers names {outside[0]}, and the model has layers 0 to {len(blocks) - 1}")
        kept = {number % len(blocks) for number in cut.layers}
        parameters -= sum(_parameters(block) for number, block in enumerate(blocks) if number not in kept)
        layers = len(kept)
    vocabulary = min(cut.vocabulary or whole.vocabulary, whole.vocabulary)
    tables = {id(layer.weight) for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer}
    parameters -= len(tables) * (whole.vocabulary - vocabulary) * whole.width
    if cut.embedding_size is not None:  # a table of that width and a projection in place of the whole table
        parameters += (vocabulary + whole.width) * cut.embedding_size + whole.width - vocabulary * whole.width
    table = vocabulary * (cut.embedding_size or whole.width)
    largest = table if whole.largest == whole.vocabulary * whole.width else whole.largest
    return replace(whole, parameters=parameters, layers=layers, vocabulary=vocabulary, largest=largest)


def static_size(static: Static, encoder: Size) -> Size:
    """A static student's numbers: a row of the table, which is all that a token meets, for each token that stays."""
    if static.start == "teacher" and static.dimensions > encoder.width:
        raise UserError(
            f"student.static.dimensions is {static.dimensions}, and the model that it is made of has vectors of "
            f"{encoder.width}; lower it, or set student.static.start to random"
        )
    vocabulary = min(static.vocabulary or encoder.vocabulary, encoder.vocabulary)
    return Size(
        parameters=vocabulary * static.dimensions,
        layers=0,
        width=static.dimensions,
        heads=0,
        vocabulary=vocabulary,
        classes=0,
        a_token=static.dimensions,
        largest=vocabulary * static.dimensions,
    )
