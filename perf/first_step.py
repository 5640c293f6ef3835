"""From the start of a process to the end of its first optimiser step: imports, models, rows, forward, backward."""

from __future__ import annotations

import tempfile
import time

from pair import recipe, trl_trainer
from versus import Bar, Figure, main


def until_the_first_step() -> dict[str, float]:
    """Seconds that the process had lived when any optimiser ended its first step; filled in by that step."""
    import psutil
    from torch.optim.optimizer import register_optimizer_step_post_hook

    found: dict[str, float] = {}

    def stepped(*_) -> None:
        found.setdefault("seconds", time.time() - psutil.Process().create_time())

    register_optimizer_step_post_hook(stepped)
    return found


def stillroom() -> dict[str, float]:
    from stillroom.recipe import check
    from stillroom.run import execute

    found = until_the_first_step()
    with tempfile.TemporaryDirectory() as place:
        execute(check(recipe(place, {"name": "forward_kl"}, steps=1)), timed=False)
    return found


def trl() -> dict[str, float]:
    found = until_the_first_step()
    with tempfile.TemporaryDirectory() as place:
        trl_trainer(place, 1, lmbda=0.0, beta=0.0).train()
    return found


if __name__ == "__main__":
    main(
        Figure(
            name="first_step",
            work="one step of forward KL on the same pair, from the start of the process to the end of the step",
            sides={"stillroom": stillroom, "TRL GKDTrainer": trl},
            bars=(Bar("seconds", 1.0),),
            packages=("torch", "transformers", "accelerate", "trl"),
        )
    )
