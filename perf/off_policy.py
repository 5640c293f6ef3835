"""Forward KL on the data's answers: the whole loop, from rows to weights, with both models in memory before."""

from __future__ import annotations

import tempfile

from pair import STEPS, recipe, training, trl_trainer
from versus import Bar, Figure, extra_peak, main


def stillroom() -> dict[str, float]:
    from stillroom.recipe import check

    with tempfile.TemporaryDirectory() as place:
        train = training(check(recipe(place, {"name": "forward_kl"})))
        found = []
        extra = extra_peak(lambda: found.append(train()))
    return {"tokens a second": found[0].tokens / found[0].seconds, "peak MiB": extra}


def trl() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        trainer, tokens, seconds = trl_trainer(place, STEPS, lmbda=0.0, beta=0.0), 0, 0.0
        collate = trainer.data_collator

        def counting(rows):
            nonlocal tokens
            batch = collate(rows)
            tokens += int((batch["labels"] != -100).sum())
            return batch

        def work() -> None:
            nonlocal seconds
            seconds = trainer.train().metrics["train_runtime"]

        trainer.data_collator = counting
        extra = extra_peak(work)
    return {"tokens a second": tokens / seconds, "peak MiB": extra}


if __name__ == "__main__":
    main(
        Figure(
            name="off_policy",
            work="12 steps of forward KL on 8 rows of 256 tokens, vocabulary 32,000; teacher 512 x 6, student 256 x 2",
            sides={"stillroom": stillroom, "TRL GKDTrainer": trl},
            bars=(Bar("tokens a second", 1.5, lower=False), Bar("peak MiB", 2.0)),
            packages=("torch", "transformers", "accelerate", "trl"),
        )
    )
