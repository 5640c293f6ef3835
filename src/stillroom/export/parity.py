"""Whether an ONNX graph gives what the model gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stillroom.errors import UserError, need
from stillroom.export.transformers import first_line

Inputs = Mapping[str, Tensor]

TOLERANCE = 1e-3


class Parity(NamedTuple):
    """How far the graph is from the model: the largest absolute difference over all inputs, and how many those were."""

    difference: float
    batches: int


def check_parity(
    file: str | Path, reference: Callable[[dict[str, Tensor]], Tensor], batches: Sequence[Inputs]
) -> Parity:
    """Run a graph on the CPU and compare its first output with the reference's; padded places don't count.

    Args:
        file: the graph.
        reference: the model, from inputs by name to one tensor.
        batches: inputs by name.

    Raises:
        UserError: the largest absolute difference exceeds 1e-3, or isn't a number, or a shape differs.
    """
    runtime = need("onnxruntime", "export")
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    taken = {item.name for item in session.get_inputs()}
    worst = 0.0
    for inputs in batches:
        with torch.inference_mode():
            wanted = reference(dict(inputs)).numpy()
        shapes = {name: tuple(value.shape) for name, value in inputs.items()}
        try:
            found = session.run(None, {name: value.numpy() for name, value in inputs.items() if name in taken})[0]
        except Exception as error:  # ONNX Runtime's errors have no common class of their own
            raise UserError(f"the ONNX graph fails on inputs of shape {shapes} ({first_line(error)})") from error
        difference = _difference(found, wanted, inputs.get("attention_mask"))
        if not difference <= TOLERANCE:  # so that NaN is refused too
            raise UserError(
                f"the ONNX graph is not the model: on inputs of shape {shapes} they differ by {difference:.3g}, and "
                f"{TOLERANCE:g} is allowed; a model that takes another path for other shapes can't be traced"
            )
        worst = max(worst, difference)
    return Parity(worst, len(batches))


def _difference(found: np.ndarray, wanted: np.ndarray, mask: Tensor | None) -> float:
    """The largest absolute difference; of outputs per token, [B, T, ...], only over the real tokens."""
    if found.shape != wanted.shape:
        return float("inf")
    gaps = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    if mask is not None and gaps.ndim > 2 and gaps.shape[:2] == tuple(mask.shape):
        gaps = gaps[mask.bool().numpy()]
    return float(gaps.max())
