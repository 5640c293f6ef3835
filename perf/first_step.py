"""From the start of a process to the end of its first optimiser step: imports, models, rows, forward, backward."""

from __future__ import annotations

import tempfile
import time

from pair import recipe, trl_trainer
from versus import Bar, Figure, main


def since_the_start() -> float:
    """Seconds that this process has lived."""
    import psutil

    return time.time() - psutil.Process().create_time()


def stillroom() -> dict[str, float]:
    from stillroom.recipe import check
    from stillroom.run import execute

    with tempfile.TemporaryDirectory() as place:
        execute(check(recipe(place, {"name": "forward_kl"}, steps=1)), timed=False)
        return {"seconds": since_the_start()}


def trl() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        trl_trainer(place, 1, lmbda=0.0, beta=0.0).train()
        return {"seconds": since_the_start()}


if __name__ == "__main__":
    main(
        Figure(
            name="first_step",
            work="one step of forward KL on the same pair, from the start of the process",
            sides={"stillroom": stillroom, "TRL GKDTrainer": trl},
            bars=(Bar("seconds", 1.0),),
            packages=("torch", "transformers", "accelerate", "trl"),
        )
    )
