"""Tiny real parts for the engine's tests: a Llama of a few thousand weights, a BPE tokenizer, rows of additions."""

import pytest
from datasets import Dataset

from stillroom.engine.encoding import encode
from stillroom.engine.loop import Trainer
from stillroom.engine.settings import Train
from stillroom.methods.baselines import BASELINES
from stillroom.recipe import Scratch
from stillroom.students.open import new_model
from stillroom.views.load import open_model

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def additions(count):
    for number in range(count):
        a, b = number % 17, (number * 7) % 23
        yield {"prompt": f"{a} plus {b} is", "completion": f" {a + b}" + " in all" * (number % 5)}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    texts = [row["prompt"] + row["completion"] for row in additions(60)]
    new_model(Scratch(architecture="llama", config=SIZES, vocabulary=300), "language", lambda: texts, folder)
    return folder


@pytest.fixture
def make_trainer(tiny, tmp_path):
    def make(folder=tmp_path / "run", objective=None, dtype=None, rows=24, validation=8, fingerprint="one", **settings):
        opened = open_model(str(tiny), "language", max_length=32)
        if dtype is not None:
            opened.model.to(dtype)
        everything = Dataset.from_list(list(additions(rows + validation)))
        encoded, _ = encode(everything, opened.view)
        folder.mkdir(parents=True, exist_ok=True)
        return Trainer(
            student=opened.model,
            objective=objective or BASELINES["sft"](),
            view=opened.view,
            teacher=None,
            teacher_view=None,
            rows=encoded.select(range(rows)),
            validation=encoded.select(range(rows, rows + validation)) if validation else [],
            settings=Train(**({"steps": 6, "batch_size": 8, "learning_rate": 1e-2, "device": "cpu"} | settings)),
            folder=folder,
            fingerprint=fingerprint,
        )

    return make
