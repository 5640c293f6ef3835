"""`speech`: short phrases of a small grammar, spoken by espeak-ng; a masked language model teaches a recogniser.

The recogniser, a Conformer of three layers (transformers' Wav2Vec2-BERT, made small) with a CTC head, hears 1,500
phrases, each from four voices. The teacher has read 20,000 other phrases of the same grammar and heard none. What is
asked for are phrases that neither has met, spoken by a fifth voice; word error rates are those of the likeliest path,
without a language model. Labels are letters and the commonest pieces of words, since so few words can't be learnt one
by one. At the scale of transformers' defaults (0.02) so narrow a network would start too flat to learn when to speak.

A recogniser from nothing needs thousands of steps before a whole word comes out right. So everybody starts from one
that has heard the phrases for that long, by plain CTC here and in the middle, and goes on with the same batches for as
many steps. The last weights are measured: no checkpoint is chosen.
"""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path
from typing import Any

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.files import load
from stillroom.measuring import Suite
from stillroom.measuring.held_out import held_out
from stillroom.testbeds.base import UNWATCHED, Bench, trained_once
from stillroom.views.load import Opened

TEXTS, PHRASES, ASKED = {False: 20_000, True: 100}, {False: 6000, True: 16}, {False: 200, True: 4}
VOCABULARY = 300  # the bytes, of which the letters occur, and some forty pieces
HEARD, CHOSEN_BY, NEW = ["anna", "bruno", "clara", "grace"], ["iris"], ["karen"]

TEACHER = {
    **{"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"initializer_range": 0.08, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}
STUDENT = {
    **{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4},
    **{"feature_projection_input_dim": 240, "conv_depthwise_kernel_size": 7, "conformer_conv_dropout": 0.0},
    "initializer_range": 0.1,
    **{"final_dropout": 0.0, "layerdrop": 0.0, "apply_spec_augment": False, "mask_time_prob": 0.0},
    **{"left_max_position_embeddings": 16, "right_max_position_embeddings": 8, "ctc_zero_infinity": True},
}
TEACHER_STEPS, START_STEPS, STEPS = 1200, 3000, 250
TEACHER_RATE, START_RATE, RATE = 3e-3, 4e-3, 2e-3
INTER = 0.5  # weight of CTC in the middle
KEPT = 8  # labels of the teacher's distribution


@cache
def texts(smoke: bool) -> str:
    """A file of phrases that nobody speaks."""
    rows = load("speech", view="texts", split="train", limit=TEXTS[smoke])

    def build(folder: Path) -> None:
        folder.mkdir()
        (folder / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in rows["text"]))

    return str(build_once("testbeds/phrases", fingerprint(TEXTS[smoke], rows["text"][:50]), build) / "rows.jsonl")


def _train(steps: int, smoke: bool, *, learning_rate: float, batch_size: int) -> dict[str, Any]:
    return {
        "steps": 2 if smoke else steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "group_by_length": True,
        "warmup": 0.1,
        **UNWATCHED,
    }


def teacher(smoke: bool = False) -> str:
    """The folder of the masked language model."""
    made = {"architecture": "bert", "config": TEACHER | {"max_position_embeddings": 64}, "vocabulary": VOCABULARY}
    recipe = {
        "task": "masked-lm",
        "student": {"new": made, "max_length": 48},
        "data": {"train": texts(smoke)},
        "method": "mlm",
        "train": _train(TEACHER_STEPS, smoke, learning_rate=TEACHER_RATE, batch_size=64),
    }
    return trained_once("speech-teacher", recipe)


def start(smoke: bool = False) -> str:
    """The folder of the recogniser that everybody starts from."""
    recipe = {
        "task": "ctc",
        "student": {"new": {"architecture": "wav2vec2-bert", "config": STUDENT, "tokenizer": teacher(smoke)}},
        "data": _data(smoke),
        "method": {"name": "ctc", "inter": INTER},
        "train": _train(START_STEPS, smoke, learning_rate=START_RATE, batch_size=16),
    }
    return trained_once("speech-start", recipe)


def recognised(opened: Opened, *, part: str, smoke: bool) -> dict[str, float]:
    """``test_wer`` and ``test_cer`` of phrases and a voice that were not trained on."""
    if not is_recogniser(opened):
        return {}
    speakers = CHOSEN_BY if part == "validation" else NEW
    rows = load("speech", split=part, limit=ASKED[smoke], speakers=speakers)
    return {f"test_{name}": value for name, value in held_out(opened, None, rows).items()}


def is_recogniser(opened: Opened) -> bool:
    """Whether it reads audio; the teacher does not."""
    return "transcribed-audio" in opened.view.formats


SUITES: dict[str, Suite] = {
    "recognised": partial(recognised, part="test", smoke=False),
    "few-recognised": partial(recognised, part="test", smoke=True),
    "recognised-to-choose-by": partial(recognised, part="validation", smoke=False),
}


def _spoken(split: str, limit: int, speakers: list[str]) -> dict[str, Any]:
    options = {"speakers": speakers, "takes": len(speakers)}
    return {"source": "speech", "split": split, "limit": limit, "options": options}


def _data(smoke: bool) -> dict[str, Any]:
    return {
        "train": _spoken("train", PHRASES[smoke], HEARD),
        "validation": _spoken("validation", ASKED[True], CHOSEN_BY),
    }


def _recipe(smoke: bool, *, method: dict[str, Any], against: list[Any]) -> dict[str, Any]:
    options = {"each": True}
    return {
        "task": "ctc",
        "teacher": {
            **{"model": teacher(smoke), "kind": "masked-lm", "max_length": 48, "options": options},
            **{"cache": True, "top_k": KEPT},
        },
        "student": {"model": start(smoke)},
        "data": _data(smoke),
        "method": method,
        "against": against,
        "train": _train(STEPS, smoke, learning_rate=RATE, batch_size=16),
        "evaluate": ["few-recognised" if smoke else "recognised"],
    }


OURS = "ctc-lm-distillation"

BENCHES: dict[str, Bench] = {
    OURS: Bench(
        claim="By a language model's soft labels in the middle and at the end, CTC makes fewer word errors.",
        metric="test_wer",
        higher_is_better=False,
        versus="inter-ctc",
        recipe=partial(
            _recipe,
            method={"name": OURS},
            against=[
                {"name": "ctc", "label": "inter-ctc", "inter": INTER},
                {"name": OURS, "label": "final-only", "middle": False},
                {"name": OURS, "label": "hard-labels", "soft": 0.0},
                "untrained",
            ],
        ),
        suites=SUITES,
    ),
}
