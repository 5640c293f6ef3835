"""What the figures of language models share: a teacher and a student with random weights, and rows that fill a window.

The teacher is 512 wide with 6 layers, the student 256 wide with 2, both over the 32,000 tokens of a tokenizer that is
trained on the docstrings and code of the installed packages. Rows are conversations of 240 to 256 tokens, of which the
question has some 60. Weights are random, since speed does not depend on what was learnt.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stillroom.engine.loop import Trained
    from stillroom.recipe import Recipe

VOCABULARY, WINDOW, ROWS, BATCH, STEPS = 32_000, 256, 256, 8, 12
SIZES = {"teacher": (512, 6), "student": (256, 2)}


def folder() -> Path:
    """The models, ``teacher`` and ``student``, and ``rows.jsonl``; made once."""
    from stillroom.data.cache import build_once

    return Path(build_once("perf/pair", "1", _build))


def _build(place: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from stillroom.data.files import load
    from stillroom.students.open import train_tokenizer

    functions = load("pydocs", view="functions", split="train", limit=20_000)
    texts = [text for row in functions for text in (row["docstring"], row["code"])]
    tokenizer = train_tokenizer(texts, VOCABULARY)
    assert len(tokenizer) == VOCABULARY, len(tokenizer)
    for name, (width, layers) in SIZES.items():
        torch.manual_seed(width)
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            intermediate_size=width * 8 // 3,
            num_hidden_layers=layers,
            num_attention_heads=8,
            max_position_embeddings=1024,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        LlamaForCausalLM(config).save_pretrained(place / name)
        tokenizer.save_pretrained(place / name)
    kept = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        if len(ids) < WINDOW:
            continue
        turns = [("user", ids[:60]), ("assistant", ids[60:240])]
        messages = [{"role": role, "content": tokenizer.decode(part).strip()} for role, part in turns]
        length = len(tokenizer(tokenizer.apply_chat_template(messages, tokenize=False))["input_ids"])
        if 240 <= length <= WINDOW and all(turn["content"] for turn in messages):
            kept.append({"messages": messages})
        if len(kept) == ROWS:
            break
    assert len(kept) == ROWS, len(kept)
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))


def recipe(output: str, method: dict, **train) -> dict:
    """Plain data of a recipe of ours on the pair."""
    here = folder()
    return {
        "name": "run",
        "output": output,
        "task": "language",
        "teacher": str(here / "teacher"),
        "student": {"model": str(here / "student"), "max_length": WINDOW},
        "data": str(here / "rows.jsonl"),
        "method": method,
        "train": {
            "steps": STEPS,
            "batch_size": BATCH,
            "learning_rate": 1e-4,
            "warmup": 0.0,
            "evaluate_every": 0,
            "save_every": 0,
            "device": "cpu",
            **train,
        },
    }


def training(asked: Recipe) -> Callable[[], Trained]:
    """All that a recipe of ours opens and reads before its training, done; what is given back trains."""
    from stillroom.asking import open_teacher
    from stillroom.checks import build_method
    from stillroom.rows import load_rows
    from stillroom.run import train_one
    from stillroom.students.open import open_student

    teachers, rows = open_teacher(asked), load_rows(asked)
    teacher = teachers.get("teacher")
    student = open_student(asked.student, asked.task, teacher, rows.texts, asked.train.seed)
    method, folder = build_method(asked.method), asked.folder
    return lambda: train_one(asked, method, student, teachers, rows, folder, resume=False)[0]


def trl_trainer(output: str, steps: int, callbacks=(), **settings):
    """TRL's trainer on the pair, with the same rows, batch, steps and precision."""
    import warnings

    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    warnings.filterwarnings("ignore")
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    here = folder()
    arguments = GKDConfig(
        output_dir=output,
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=1e-4,
        max_length=WINDOW,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_steps=10,
        report_to=[],
        disable_tqdm=True,
        temperature=1.0,
        **settings,
    )
    models = {
        name: AutoModelForCausalLM.from_pretrained(here / name, dtype=torch.float32) for name in ("student", "teacher")
    }
    return GKDTrainer(
        model=models["student"],
        teacher_model=models["teacher"],
        args=arguments,
        processing_class=AutoTokenizer.from_pretrained(here / "student"),
        train_dataset=load_dataset("json", data_files=str(here / "rows.jsonl"), split="train"),
        callbacks=list(callbacks),
    )
