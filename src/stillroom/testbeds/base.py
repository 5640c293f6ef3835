"""What a testbed says of a method: the recipe it runs under, what it is held against, the claim put to the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.data.cache import build_once
from stillroom.measuring import Suite
from stillroom.recipe import check
from stillroom.run import execute

if TYPE_CHECKING:
    from torch import nn

# Of a recipe's ``train`` on every ground: the last weights are measured, and nothing is kept on the way.
UNWATCHED: dict[str, Any] = {"evaluate_every": 0, "save_every": 0, "device": "cpu"}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One method on its family's ground.

    Attributes:
        claim: what the paper says, as a direction that can hold or fail here, in one sentence.
        metric: what decides, and ``higher_is_better``.
        versus: the baseline that the claim names; it must be among the recipe's ``against``, or what is measured.
        recipe: plain data of a recipe, whose ``method`` and ``against`` are all trained from one start; given whether
            this is a smoke run (a few steps that only show that everything runs). None where nothing is trained.
        measure: of methods that nothing is trained with (a decoding rule): everybody's entries as in a run's
            evaluation.json, given whether this is a smoke run, and a seed. The method's own has its slug as the name.
        suites: measurements of this ground, by the names in the recipe's ``evaluate``.
        timed: whether what decides is a time; one seed then runs after the other, with the machine for itself.
    """

    claim: str
    metric: str
    higher_is_better: bool
    versus: str
    recipe: Callable[[bool], dict[str, Any]] | None = None
    measure: Callable[[bool, int], list[dict[str, Any]]] | None = None
    suites: Mapping[str, Suite] = field(default_factory=dict)
    timed: bool = False

    def __post_init__(self) -> None:
        if (self.recipe is None) == (self.measure is None):
            raise ValueError("a bench has either a recipe or a measure")


def trained_once(name: str, recipe: Mapping[str, Any]) -> str:
    """The folder of a model that is trained by a recipe the first time it is asked for, and kept in the cache.

    Args:
        name: of the model, for people who look into the cache.
        recipe: plain data, without name and output; its fingerprint decides whether the kept model is the right one.
    """

    def build(folder: Path) -> None:
        execute(check({**recipe, "name": "run", "output": str(folder)}), timed=False)

    fingerprint = check({**recipe, "name": name}).fingerprint
    return str(build_once(f"testbeds/{name}", fingerprint, build) / "run" / "model")


def entry(
    name: str,
    role: str,
    model: nn.Module | int,
    metrics: Mapping[str, float],
    seconds: float | None = None,
    *,
    alone: bool = False,
) -> dict[str, Any]:
    """What was measured of somebody, as in a run's evaluation.json.

    Args:
        name: of the system.
        role: ``student``, ``baseline``, ``teacher`` or ``start``.
        model: what was measured, or how many weights it has.
        metrics: by their names.
        seconds: of training; None where nothing was trained for it.
        alone: whether it is a student that was trained without a teacher; what others cost is told by its seconds.
    """
    size = model if isinstance(model, int) else sum(parameter.numel() for parameter in model.parameters())
    cost = {} if seconds is None else {"train_seconds": seconds}
    known = {"name": name, "role": role, "parameters": size, "metrics": dict(metrics), "cost": cost}
    return known | {"without_teacher": alone}
