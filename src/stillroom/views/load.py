"""Open a model of any kind, with the view that reads rows for it."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import nn

from stillroom.errors import UserError, nearest
from stillroom.views.base import View
from stillroom.views.locate import locate
from stillroom.views.sentence import SentenceEncoder
from stillroom.views.static import StaticEncoder, table_folder

# What a recipe calls a kind of model -> the class of its view.
KINDS = {
    "language": "stillroom.views.causal_lm:CausalLM",
    "embeddings": "stillroom.views.sentence:SentenceEncoder",
    "encoder": "stillroom.views.encoder:TextEncoder",
    "masked-lm": "stillroom.views.encoder:MaskedLM",
    "text-classifier": "stillroom.views.encoder:TextClassifier",
    "token-classifier": "stillroom.views.tagging:TokenClassifier",
    "bi-encoder": "stillroom.views.ranking:BiEncoder",
    "cross-encoder": "stillroom.views.ranking:CrossEncoder",
    "late-interaction": "stillroom.views.late:LateInteraction",
    "image": "stillroom.views.image:ImageClassifier",
    "image-encoder": "stillroom.views.image:ImageEncoder",
    "denoiser": "stillroom.views.diffusion:Denoiser",
    "ctc": "stillroom.views.speech:CTC",
    "node": "stillroom.views.graph:NodeView",
    "link": "stillroom.views.graph:LinkView",
    "image-text": "stillroom.views.image_text:ImageText",
    "segmentation": "stillroom.views.segmentation:ImageSegmenter",
}

# How the names of transformers' classes end -> the kind of model.
ARCHITECTURES = {
    "ForCausalLM": "language",
    "LMHeadModel": "language",
    "ForMaskedLM": "masked-lm",
    "ForCTC": "ctc",
    "ForSequenceClassification": "text-classifier",
    "CLIPModel": "image-text",
    "SiglipModel": "image-text",
    "ForTokenClassification": "token-classifier",
    "ForSemanticSegmentation": "segmentation",
    "Model": "encoder",
}


class Opened(NamedTuple):
    """A model, the view that reads rows for it, and where it came from."""

    model: nn.Module
    view: View
    source: str


def view_class(kind: str) -> type[View]:
    """The view of a kind of model.

    Raises:
        UserError: there is no such kind; the message names the nearest.
    """
    if kind not in KINDS:
        raise UserError(f"unknown kind of model {kind!r}{nearest(kind, KINDS)}; there are {', '.join(KINDS)}")
    module, _, name = KINDS[kind].partition(":")
    return getattr(import_module(module), name)


def view_for(kind: str, folder: Path) -> type[View]:
    """The view of the model of this kind in this folder: of a static pipeline of sentence-transformers its own.

    Raises:
        UserError: there is no such kind, or a static model is asked for as another one.
    """
    view = view_class(kind)
    if table_folder(folder) is None:
        return view
    if view is not SentenceEncoder:
        raise UserError(
            f"{folder} is a static model, which is of the kind 'embeddings' and can't be opened as {kind!r}"
        )
    return StaticEncoder


def open_model(
    name: str,
    kind: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    attention: str | None = None,
    **options: Any,
) -> Opened:
    """A model with its view.

    Args:
        name: a folder or a hub id.
        kind: what the model is, one of `KINDS`.
        revision: of the hub.
        dtype: of the weights.
        attention: an attention implementation of transformers, such as ``eager`` where attention maps are needed.
        options: the view's own (``max_length``, ``overflow``).

    Raises:
        UserError: an unknown kind, or a model that can't be found or read.
    """
    folder = locate(name, revision=revision)
    view = view_for(kind, folder)
    try:
        return Opened(*view.open(folder, dtype, attention, **options), name)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{name} can't be opened as a model of the kind {kind!r}: {reason}") from error


def kind_of(name: str) -> str:
    """The kind of a saved model, by what its files say of it.

    Raises:
        UserError: they don't tell; the message asks for the kind.
    """
    folder = locate(name, weights=False)
    if (folder / "modules.json").is_file():
        said = folder / "config_sentence_transformers.json"
        many = said.is_file() and json.loads(said.read_text()).get("model_type") == "MultiVectorEncoder"
        return "late-interaction" if many else "embeddings"
    architectures = json.loads((folder / "config.json").read_text()).get("architectures") or [""]
    for ending, kind in ARCHITECTURES.items():
        if architectures[0].endswith(ending):
            return kind
    raise UserError(f"{name} does not say what kind of model it is; name one of {', '.join(KINDS)} as the task")


def open_view(name: str, kind: str, *, revision: str | None = None, **options: Any) -> View:
    """The view alone, from configuration and tokenizer files: what planning reads."""
    folder = locate(name, revision=revision, weights=False)
    return view_for(kind, folder).read(folder, **options)
