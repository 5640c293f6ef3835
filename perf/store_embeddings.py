"""Steps a second of learning a teacher's vectors from the store against plain supervised training of the same student.

Both sides are the whole loop of a recipe on the same texts, 64 a step, cut at 32 tokens, with the same two layers of
all-MiniLM-L6-v2 as the student. Distillation learns the stored vectors of 4,096 texts (``embedding_match``);
supervised training takes them as 2,048 pairs, 32 a step (``contrastive``).
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from embedding_distillation import NAME, TEXTS
from pair import training
from versus import Bar, Figure, main

STEPS, WINDOW = 64, 32


def steps_a_second(method: dict, rows: list[dict], batch_size: int, **teacher) -> dict[str, float]:
    from stillroom.asking import label
    from stillroom.recipe import check

    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        train = {"steps": STEPS, "batch_size": batch_size, "learning_rate": 1e-4, "evaluate_every": 0, "save_every": 0}
        plain = {
            "name": "run",
            "output": place,
            "task": "embeddings",
            "teacher": {"model": NAME, "max_length": WINDOW, **teacher},
            "student": {"cut": {"of": "teacher", "layers": [0, 5]}, "max_length": WINDOW},
            "data": str(file),
            "method": method,
            "train": train | {"device": "cpu"},
        }
        asked = check(plain)
        if teacher:
            label(asked)
        return {"steps a second": STEPS / training(asked)().seconds}


def pairs() -> list[dict]:
    from stillroom.data.files import load

    kept = load("pydocs", view="pairs", split="train", limit=TEXTS // 2)
    return [{"anchor": row["anchor"], "positive": row["positive"]} for row in kept]


def stored() -> dict[str, float]:
    texts = [{"text": text} for row in pairs() for text in (row["anchor"], row["positive"])]
    return steps_a_second({"name": "embedding_match", "similarity": 0.0}, texts, 64, cache=True)


def supervised() -> dict[str, float]:
    return steps_a_second({"name": "contrastive"}, pairs(), 32)


if __name__ == "__main__":
    main(
        Figure(
            name="store_embeddings",
            work="64 steps of a sentence encoder on 64 texts of up to 32 tokens",
            sides={"stillroom": stored, "supervised": supervised},
            bars=(Bar("steps a second", 0.95, lower=False),),
            packages=("torch", "transformers", "sentence-transformers"),
        )
    )
