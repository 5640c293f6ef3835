"""Save a student so that plain transformers, sentence-transformers or safetensors load it, and nothing else is in it.

The folder is written under a temporary name beside its place, checked, and only then renamed. Whatever goes wrong
before (a full disk, a key too many), an older model in that place is still there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from stillroom.errors import UserError

PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
MARKS = ("model.safetensors", "model.safetensors.index.json", "modules.json", "config.json")  # of a model's folder


def save_clean(
    model: nn.Module, folder: str | Path, processor: Any = None, *, own_keys: Iterable[str] | None = None
) -> None:
    """Save a model, and check that what was saved is the model, whole, and nothing but the model.

    A model with ``save_pretrained`` is loaded back by its own class from the configuration that was saved: a key that
    the architecture doesn't have (a projector left over from training), one that is missing, and a shape that the
    configuration doesn't tell (weights pruned by hand) are refused. Any other module is written as
    ``model.safetensors``; no configuration says what belongs to it, so ``own_keys`` may.

    In a run of several processes only the first calls this, with whole (gathered) weights.

    Args:
        model: a `PreTrainedModel`, a `SentenceTransformer` or `CrossEncoder`, or any other module.
        folder: replaced, if it holds an older model.
        processor: saved beside it: a tokenizer, an image processor, anything with ``save_pretrained``.
        own_keys: for other modules, the keys of the state dict before training.

    Raises:
        UserError: the model isn't clean; the disk is full or can't be written; or the folder holds something else
            than a model, which must not be deleted.
    """
    folder = Path(folder).absolute()
    partial, older = (folder.with_name(f".{folder.name}.{part}") for part in ("partial", "older"))
    if older.exists() and not folder.exists():
        older.rename(folder)  # an earlier save was killed between its two renames
    _refuse_other_contents(folder)
    _refuse_what_cannot_be_saved(model)
    try:
        _write(model, partial, processor)
        _check(model, partial, own_keys)
        _put(partial, folder, older)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(model: Any, folder: Path, processor: Any) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if from_sentence_transformers(model):
            model.save_pretrained(str(folder), create_model_card=False)
        elif hasattr(model, "save_pretrained"):
            model.save_pretrained(folder)
        else:
            from safetensors.torch import save_model

            save_model(model, str(folder / "model.safetensors"))
        if processor is not None:
            processor.save_pretrained(folder)
        _flush(folder)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"the model could not be written in {folder.parent} ({first_line(error)}); what was there before is "
            "untouched: make room, or give another folder"
        ) from error


def _check(model: Any, folder: Path, own_keys: Iterable[str] | None) -> None:
    pickles = [file.name for file in folder.rglob("*") if file.suffix in PICKLES]
    if pickles:
        raise UserError(f"{pickles[0]} is not safetensors; saving {type(model).__name__} must write safetensors alone")
    if hasattr(model, "save_pretrained"):
        _compare(*_load_back(model, folder))
    elif own_keys is not None:
        _compare(set(model.state_dict()), set(own_keys))


def _load_back(model: Any, folder: Path) -> tuple[set[str], set[str]]:
    """The keys that were saved and those that the architecture has, as far as the two differ."""
    from transformers import PreTrainedModel

    kind: Any = type(model)
    try:
        if isinstance(model, PreTrainedModel):
            # On the meta device names and shapes are matched, and no memory is used.
            options = {"device_map": "meta", "output_loading_info": True, "use_safetensors": True}
            _, told = kind.from_pretrained(folder, local_files_only=True, **options)
            return set(told["unexpected_keys"]), set(told["missing_keys"])
        if from_sentence_transformers(model):
            loaded = kind(str(folder), device="cpu", local_files_only=True)
        else:
            loaded = kind.from_pretrained(str(folder))
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"what was saved of {kind.__name__} does not load back ({first_line(error)}); "
            "where its shapes were changed, its config must say so"
        ) from error
    return set(model.state_dict()), set(loaded.state_dict())


def _compare(saved: set[str], own: set[str]) -> None:
    """Refuse a difference, by name."""
    if saved - own:
        raise UserError(
            f"the student holds {_some(saved - own)}, which its architecture does not have; "
            "parts that only training needs belong to the objective, not to the student"
        )
    if own - saved:
        raise UserError(f"the student lacks {_some(own - saved)}, which its architecture needs; save the whole model")


def _refuse_what_cannot_be_saved(model: nn.Module) -> None:
    if hasattr(model, "merge_and_unload"):
        raise UserError("this is an adapter around a model; merge it first: model = model.merge_and_unload()")
    if from_sentence_transformers(model):
        foreign = {name for name, module in model.named_children() if not hasattr(module, "save")}
        if foreign:
            raise UserError(
                f"{_some(foreign)} is no module of sentence-transformers, so the pipeline can't be saved with it"
            )


def _refuse_other_contents(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder for the model")
    if any(folder.iterdir()) and not any((folder / mark).exists() for mark in MARKS):
        raise UserError(
            f"{folder} holds something that is not a model and would be lost; give an empty or a new folder"
        )


def _put(partial: Path, folder: Path, older: Path) -> None:
    """Swap in the new folder; the old one steps aside first, as no folder can be renamed onto one with files in it."""
    shutil.rmtree(older, ignore_errors=True)
    if folder.exists():
        folder.rename(older)
    try:
        partial.rename(folder)
    except OSError as error:
        if older.exists():
            older.rename(folder)
        raise UserError(f"the new model could not take its place {folder} ({error}); the older one is back") from error
    shutil.rmtree(older, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Have the files on the disk before the rename: a rename that survives a power cut must not name empty files."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("r+b") as handle:
                os.fsync(handle.fileno())


def from_sentence_transformers(model: nn.Module) -> bool:
    """Whether it is a pipeline of that library, which may not be installed."""
    return any(kind.__module__.partition(".")[0] == "sentence_transformers" for kind in type(model).__mro__)


def _some(keys: set[str]) -> str:
    shown = sorted(keys)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that may follow."""
    return str(error).strip().partition("\n")[0]
