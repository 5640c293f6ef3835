"""Checkpoints: safetensors and JSON, written aside and renamed, so that a killed run finds the last whole one.

The run state is all that is not a function of the recipe: the weights of student and objective, the optimiser's moments
and the step. The order of the rows, the learning rate and all randomness are functions of (recipe, step) and are not
saved.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from stillroom.errors import UserError


def pack(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Part a nested state into its tensors, by number, and its shape as JSON.

    Tensors that share memory (tied weights) are kept once.
    """
    tensors: dict[str, Tensor] = {}
    places: dict[tuple[Any, ...], str] = {}

    def walk(value: Any) -> Any:
        if isinstance(value, Tensor):
            key = (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype, value.device)
            if not value.numel() or key not in places:
                places[key] = str(len(tensors))
                tensors[places[key]] = value.detach().contiguous()
            return {"tensor": places[key]}
        if isinstance(value, dict):
            return {"items": [[walk(name), walk(part)] for name, part in value.items()]}
        if isinstance(value, list | tuple):
            return {"list" if isinstance(value, list) else "tuple": [walk(part) for part in value]}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"a checkpoint can't hold a {type(value).__name__}")

    return tensors, walk(state)


def unpack(tensors: dict[str, Tensor], shape: Any) -> Any:
    """The nested state that `pack` parted."""
    if not isinstance(shape, dict):
        return shape
    ((kind, value),) = shape.items()
    if kind == "tensor":
        return tensors[value]
    parts = [unpack(tensors, part) for part in value] if kind != "items" else []
    if kind == "items":
        return {unpack(tensors, name): unpack(tensors, part) for name, part in value}
    return parts if kind == "list" else tuple(parts)


def save(folder: Path, name: str, state: dict[str, Any]) -> Path:
    """Write ``folder/name`` whole or not at all; what stood there before stays until the new one is complete.

    Raises:
        UserError: the disk is full or can't be written; older checkpoints are untouched.
    """
    target, aside = folder / name, folder / f".{name}.tmp"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        tensors, shape = pack(state)
        save_file(tensors, str(aside / "state.safetensors"))
        (aside / "state.json").write_text(json.dumps(shape))
        for path in aside.iterdir():
            _sync(path)
        shutil.rmtree(target, ignore_errors=True)  # of the same step, from before a resume: the same state
        aside.rename(target)
        _sync(folder)
    except Exception as error:
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, OSError) or "SafetensorError" in type(error).__name__:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"the checkpoint {target} could not be written ({reason}); earlier checkpoints are whole: "
                "make room and go on with --resume"
            ) from error
        raise
    return target


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        UserError: it is torn or not a checkpoint.
    """
    try:
        return unpack(load_file(str(path / "state.safetensors")), json.loads((path / "state.json").read_text()))
    except Exception as error:
        raise UserError(
            f"the checkpoint {path} can't be read ({error}); remove it and resume from the one before"
        ) from error


def found(folder: Path, kind: str) -> list[Path]:
    """The whole checkpoints of a run named ``kind-STEP``, oldest first."""
    return sorted(folder.glob(f"{kind}-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def prune(folder: Path, kind: str, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints named ``kind-STEP``."""
    whole = found(folder, kind)
    for path in whole[: len(whole) - keep]:
        shutil.rmtree(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
