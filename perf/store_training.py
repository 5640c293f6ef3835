"""Steps a second of training from the store against training with the teacher beside the student.

Both sides are the whole loop of one recipe, forward KL on the pair, with ``teacher.cache`` and without. The store has
the recipe's defaults (64 ids a token, packed where nucleus mass cuts them) and was filled before. The pair's weights
are drawn at random, so the teacher is flat and every token keeps all 64 ids: the store that takes longest to read.
"""

from __future__ import annotations

import tempfile

from pair import STEPS, folder, recipe, training
from versus import Bar, Figure, main


def steps_a_second(cache: bool) -> dict[str, float]:
    from stillroom.asking import label
    from stillroom.recipe import check

    with tempfile.TemporaryDirectory() as place:
        plain = recipe(place, {"name": "forward_kl"}) | {
            "teacher": {"model": str(folder() / "teacher"), "cache": cache}
        }
        asked = check(plain)
        if cache:
            label(asked)
        return {"steps a second": STEPS / training(asked)().seconds}


if __name__ == "__main__":
    main(
        Figure(
            name="store_training",
            work="12 steps of forward KL on 8 rows of 256 tokens, vocabulary 32,000; teacher 512 x 6, student 256 x 2",
            sides={"stillroom": lambda: steps_a_second(True), "live teacher": lambda: steps_a_second(False)},
            bars=(Bar("steps a second", 2.0, lower=False),),
        )
    )
