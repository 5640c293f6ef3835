"""A sentence encoder that learns a teacher's vectors, which are computed before: the training loop alone.

Two of the six layers of all-MiniLM-L6-v2 learn its vectors of 4,096 texts, docstrings and code as they are long, cut at
64 tokens, 64 texts a step for one epoch, AdamW, float32. The vectors are normalised, so that the squared distance and
one minus the cosine are the same loss but for a factor.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from versus import Bar, Figure, main

TEXTS, BATCH, WINDOW = 4096, 64, 64
NAME = "sentence-transformers/all-MiniLM-L6-v2"


def texts() -> list[str]:
    from stillroom.data.files import load

    pairs = load("pydocs", view="pairs", split="train", limit=TEXTS // 2)
    return [text for row in pairs for text in (row["anchor"], row["positive"])]


def recipe(place: str) -> dict:
    rows = Path(place) / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts()))
    return {
        "name": "run",
        "output": place,
        "task": "embeddings",
        "teacher": {"model": NAME, "max_length": WINDOW, "cache": True},
        "student": {"cut": {"of": "teacher", "layers": [0, 5]}, "max_length": WINDOW},
        "data": str(rows),
        "method": {"name": "embedding_match", "similarity": 0.0},
        "train": {
            "steps": TEXTS // BATCH,
            "batch_size": BATCH,
            "learning_rate": 1e-4,
            "group_by_length": True,
            "evaluate_every": 0,
            "save_every": 0,
            "device": "cpu",
        },
    }


def stillroom() -> dict[str, float]:
    from stillroom.asking import label
    from stillroom.recipe import check
    from stillroom.run import execute

    with tempfile.TemporaryDirectory() as place:
        asked = check(recipe(place))
        label(asked)
        trained = execute(asked, timed=False).trained["embedding_match"]
    return {"sentences a second": trained.steps * BATCH / trained.seconds}


def sentence_transformers() -> dict[str, float]:
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
    )

    from stillroom.views.locate import locate

    teacher = SentenceTransformer(str(locate(NAME)), device="cpu")
    student = SentenceTransformer(str(locate(NAME)), device="cpu")
    student.max_seq_length = teacher.max_seq_length = WINDOW
    layers = student[0].auto_model.encoder.layer
    student[0].auto_model.encoder.layer = type(layers)([layers[0], layers[5]])
    student[0].auto_model.config.num_hidden_layers = 2
    asked = texts()
    vectors = teacher.encode(asked, batch_size=BATCH, normalize_embeddings=True)
    rows = Dataset.from_dict({"sentence": asked, "label": [vector.tolist() for vector in vectors]})
    with tempfile.TemporaryDirectory() as place:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=place,
            max_steps=TEXTS // BATCH,
            per_device_train_batch_size=BATCH,
            learning_rate=1e-4,
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_steps=10,
        )
        trainer = SentenceTransformerTrainer(
            model=student, args=arguments, train_dataset=rows, loss=losses.MSELoss(student)
        )
        seconds = trainer.train().metrics["train_runtime"]
    return {"sentences a second": TEXTS / seconds}


if __name__ == "__main__":
    main(
        Figure(
            name="embedding_distillation",
            work="two layers of MiniLM learn its vectors of 4,096 texts",
            sides={"stillroom": stillroom, "sentence-transformers": sentence_transformers},
            bars=(Bar("sentences a second", 1.3, lower=False),),
            packages=("torch", "transformers", "sentence-transformers"),
        )
    )
