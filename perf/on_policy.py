"""Answers written by the student and compared with the teacher: the whole loop, after both models are in memory."""

from __future__ import annotations

import tempfile

from pair import recipe, trl_trainer
from versus import Bar, Figure, main

STEPS, NEW = 6, 64


def stillroom() -> dict[str, float]:
    from stillroom.recipe import check
    from stillroom.run import execute

    with tempfile.TemporaryDirectory() as place:
        method = {"name": "gkd", "lmbda": 1.0, "beta": 0.5, "max_new_tokens": NEW}
        trained = execute(check(recipe(place, method, steps=STEPS)), timed=False).trained["gkd"]
    return {"tokens a second": trained.tokens / trained.seconds, "tokens": trained.tokens}


def trl() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        trainer = trl_trainer(place, STEPS, lmbda=1.0, beta=0.5, max_new_tokens=NEW)
        written, generate = [], trainer.generate_on_policy_outputs

        def counting(*arguments, **more):
            made = generate(*arguments, **more)
            written.append(int((made[2] != -100).sum()))
            return made

        trainer.generate_on_policy_outputs = counting
        seconds = trainer.train().metrics["train_runtime"]
    return {"tokens a second": sum(written) / seconds, "tokens": sum(written)}


if __name__ == "__main__":
    main(
        Figure(
            name="on_policy",
            work="6 steps on 8 answers of up to 64 tokens that the student draws, JSD at 0.5; the same pair",
            sides={"stillroom": stillroom, "TRL GKDTrainer": trl},
            bars=(Bar("tokens a second", 1.2, lower=False),),
            packages=("torch", "transformers", "accelerate", "trl"),
        )
    )
