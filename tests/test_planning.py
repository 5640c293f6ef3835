"""The plan's figures against numbers reckoned by hand, and against what a run really makes.

.venv/bin/python -m pytest tests/test_planning.py
"""

import json
from functools import partial
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from tests.contracts import worlds
from transformers import AutoModelForCausalLM, BertConfig, BertModel, LlamaConfig

from stillroom import footprint, planning, sizes
from stillroom.asking import copy_of, label, open_teacher
from stillroom.checks import build_method
from stillroom.engine.schedule import SHAPES
from stillroom.recipe import Cut, Scratch, check
from stillroom.rows import load_rows
from stillroom.run import train_one
from stillroom.store import Store
from stillroom.students.open import new_model, open_student
from stillroom.students.truncate import keep_layers

LLAMA = {
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "vocab_size": 300,
}


def recipe(**keys):
    return check({"name": "r", "task": "language", "student": "s", "method": "sft", "data": "d"} | keys)


@pytest.mark.parametrize(("tied", "head"), [(False, 300 * 8), (True, 0)])
def test_the_parameters_of_a_small_llama_by_hand(tied, head):
    attention = 8 * 8 + 2 * (8 * 4) + 8 * 8  # queries and output 8 x 8, keys and values 8 x 4
    layer = attention + 3 * 8 * 12 + 2 * 8  # gate, up and down 8 x 12; two norms
    size = sizes.config_size(LlamaConfig(tie_word_embeddings=tied, **LLAMA), "language")
    assert size.parameters == 300 * 8 + 2 * layer + 8 + head
    assert (size.layers, size.width, size.heads, size.vocabulary) == (2, 8, 2, 300)


def test_the_memory_of_a_step_by_hand():
    student = sizes.Size(parameters=1000, layers=3, width=10, heads=2, vocabulary=50, classes=0)
    teacher = sizes.Size(parameters=7000, layers=9, width=20, heads=4, vocabulary=60, classes=0)
    train = {"batch_size": 8, "micro_batch": 2}
    told = recipe(teacher={"model": "t", "dtype": "bfloat16"}, method="forward_kl", train=train | {"fused": False})
    main = build_method(told.method)
    found = footprint.memory(told, main, student, [teacher], longest=5)
    a_row = 3 * (34 * 5 * 10 + 5 * 2 * 5 * 5)  # Korthikanti et al. 2022, equation 2, in bytes of half precision
    assert found == {
        "student weights": 4000,
        "student gradients": 4000,
        "optimizer": 8000,
        "student activations": 2 * a_row * 2,  # two rows; twice that in float32
        "teacher weights": 14_000,
        "student logits": 2 * 5 * 50 * 2 * (4 + 4),
        "teacher logits": 2 * 5 * 60 * (4 + 4),
    }
    half = recipe(
        teacher={"model": "t", "cache": True}, method="forward_kl", train=train | {"precision": "bf16", "fused": False}
    )
    found = footprint.memory(half, main, student, [teacher], longest=5)
    assert found["student activations"] == 2 * a_row and "teacher logits" not in found
    assert found["student logits"] == 2 * 5 * 50 * 2 * (2 + 4)
    plain = recipe(train=train | {"optimizer": "sgd"})
    found = footprint.memory(plain, build_method(plain.method), student, [], longest=5)
    assert found["optimizer"] == 4000 and "teacher weights" not in found


def test_the_memory_of_logits_that_are_never_made_by_hand():
    student = sizes.Size(parameters=1000, layers=3, width=10, heads=2, vocabulary=100_000, classes=0)
    teacher = sizes.Size(parameters=7000, layers=9, width=20, heads=4, vocabulary=120_000, classes=0)
    told = recipe(teacher="t", method="forward_kl", train={"batch_size": 2})
    found = footprint.logits_memory(told, build_method(told.method), student, [teacher], longest=500)
    whole = 2 * 500 * (100_000 * 2 * 8 + 120_000 * 8)  # both models' logits and log-probs, and gradients of ours
    assert found == ({"logits of a chunk": 64 * 2**20}, whole - 64 * 2**20)
    assert "logits of a chunk" in footprint.memory(told, build_method(told.method), student, [teacher], longest=500)
    few = footprint.logits_memory(told, build_method(told.method), student, [teacher], longest=1)
    assert few[0] == {"logits of a chunk": 2 * 100_000 * 4 * 4}  # four such tensors at once
    mixed = recipe(teacher={"group": {"a": "t", "b": "u"}, "mix": {"a": 1, "b": 1}}, method="forward_kl")
    assert (
        "teacher logits"
        in footprint.logits_memory(mixed, build_method(mixed.method), student, [teacher] * 2, longest=5)[0]
    )
    whole_ones = recipe(teacher="t", method="uld")
    assert footprint.logits_memory(whole_ones, build_method(whole_ones.method), student, [teacher], longest=5)[1] == 0


@pytest.mark.parametrize("layers", [[0], [0, -1], [1]])
def test_the_parameters_of_a_cut_model_are_those_of_the_model_once_cut(layers):
    config = LlamaConfig(**LLAMA)
    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(config)
    cut = keep_layers(whole, layers)
    found = sizes.cut_size(config, "language", Cut(layers=layers))
    assert found.parameters == sum(p.numel() for p in cut.parameters()) and found.layers == len(layers)


def test_the_parameters_of_a_smaller_vocabulary_and_of_factorised_embeddings_by_hand():
    config = LlamaConfig(**LLAMA)
    whole = sizes.config_size(config, "language").parameters
    assert sizes.cut_size(config, "language", Cut(vocabulary=200)).parameters == whole - 2 * 100 * 8
    bert = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=300)
    with torch.device("meta"):
        whole = sum(p.numel() for p in BertModel(bert).parameters())
    found = sizes.cut_size(bert, "encoder", Cut(embedding_size=4)).parameters
    assert found == whole - 300 * 16 + 300 * 4 + (4 * 16 + 16)  # a table of width 4, and its projection with a bias


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"{n} plus {n} is", "completion": f" {n + n}, which is so" * (1 + n % 4)} for n in range(140)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [row["prompt"] + row["completion"] for row in rows]
    sizes = {name: value for name, value in LLAMA.items() if name != "vocab_size"}
    for name in ("teacher", "student"):
        tokenizer = None if name == "teacher" else str(tmp_path / "teacher")
        scratch = Scratch(architecture="llama", config=sizes, tokenizer=tokenizer, vocabulary=300)
        new_model(scratch, "language", lambda: texts, tmp_path / name)
    return recipe(
        teacher={"model": "teacher", "cache": True, "top_k": 16},
        student={"model": "student", "max_length": 24},
        method="forward_kl",
        data="rows.jsonl",
        train={"epochs": 1.5, "batch_size": 32},
    )


def test_what_a_cache_weighs_is_what_the_plan_said(world):
    said = planning.plan(world).cache_bytes
    weighs = Store.open(label(world)).info()["bytes"]
    assert said == pytest.approx(weighs, rel=0.1)


def test_what_the_vectors_of_two_towers_weigh_is_what_the_plan_said(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    made = worlds.build("image-text", tmp_path / "world")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made.rows))
    plain = {"teacher": {"model": made.teacher, "cache": True}, "student": made.student, "method": "clip-kd"}
    found = recipe(task="image-text", data=str(tmp_path / "rows.jsonl"), **plain)
    said = planning.plan(found).cache_bytes
    assert said == 8 * (2 * 2 * 8 + 4)  # eight rows: two vectors of eight halves, and the scale
    kept = Store.open(label(found)).info()["signals"]
    assert sum(signal["positions"] * signal["bytes_per_position"] for signal in kept.values()) == said


def test_tokens_and_steps_are_those_of_the_run(world):
    from stillroom.run import execute

    plan = planning.plan(world)
    assert plan.rows == 137  # every fiftieth row of 140 is held out
    assert plan.steps == 8  # 1.5 times ceil(137 / 32) = 5, rounded up
    run = execute(world, timed=False)
    assert run.trained["forward_kl"].steps == plan.steps
    assert (run.counts.tokens, run.counts.trained) == (plan.counts.tokens, plan.counts.trained)
    assert plan.tokens == int(plan.counts.tokens / 137 * 32 * 8)


def test_a_group_counts_every_teacher(world):
    both = {"group": {"a": "teacher", "b": "teacher"}, "mix": {"a": 1, "b": 2}}
    alone, grouped = (
        planning.plan(world.model_copy(update={"teacher": recipe(teacher=teacher).teacher}))
        for teacher in ("teacher", both)
    )
    assert grouped.memory["teacher weights"] == 2 * alone.memory["teacher weights"]
    assert grouped.tokenizers == alone.tokenizers == "teacher and student share all 300 token ids"


def test_schedules_are_all_known_to_the_recipe():
    from stillroom.engine.settings import Train

    assert set(Train.model_fields["schedule"].annotation.__args__) == set(SHAPES)


# --- what a plan says of memory, held to what PyTorch then allocates --------------------------------------------------

SMALL_LLAMA = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
VIT = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
PICTURES = {"image_size": 32, "patch_size": 4, "num_labels": 10}
TRAIN = {"steps": 2, "batch_size": 16, "device": "cpu", "evaluate_every": 0, "save_every": 0}


def language(method):
    """A teacher and a student of 3 layers, on rows of some 150 tokens."""
    texts = [f"{n} plus {n} is {n + n}, " + "which is so and will stay so; " * 6 for n in range(60)]
    prompts = [{"prompt": text[:100], "completion": text[100:]} for text in texts]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    for name, tokenizer in (("teacher", None), ("student", "teacher")):
        made = Scratch(architecture="llama", config=SMALL_LLAMA, tokenizer=tokenizer, vocabulary=500)
        new_model(made, "language", lambda: texts, Path(name))
    return {"task": "language", "teacher": "teacher", "student": "student", "data": "rows.jsonl", "method": method}


def embeddings():
    """Two of MiniLM's six layers learn its vectors, which are kept."""
    texts = [
        {"text": f"A sentence of some length about the number {n} and whatever follows it. " * 3} for n in range(60)
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    teacher = {"model": "sentence-transformers/all-MiniLM-L6-v2", "max_length": 64, "cache": True}
    student = {"cut": {"of": "teacher", "layers": [0, 5]}, "max_length": 64}
    keys = {"task": "embeddings", "teacher": teacher, "student": student, "data": "rows.jsonl"}
    return keys | {"method": {"name": "embedding_match", "similarity": 0.0}}


def pictures():
    """A small vision transformer on digits."""
    student = {"new": {"architecture": "vit", "config": VIT | PICTURES}}
    return {"task": "image", "student": student, "data": "digits", "method": "sft"}


def allocated(call):
    """The most bytes that tensors had at once, of those made in the call, as PyTorch's profiler saw them."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    changes = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(changes, key=lambda event: event.start_ns())))


@pytest.mark.parametrize(
    "keys",
    [
        partial(language, "forward_kl"),
        partial(language, {"name": "gkd", "lmbda": 1.0, "max_new_tokens": 20}),
        embeddings,
        pictures,
    ],
    ids=["language", "on-policy", "embeddings", "vision"],
)
def test_the_memory_of_a_step_is_what_the_plan_said(keys, tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    asked = check({"name": "r", "train": TRAIN} | keys())
    said = planning.plan(asked).memory
    teachers, rows = open_teacher(asked), load_rows(asked)
    teacher = teachers.get("teacher")
    start = open_student(asked.student, asked.task, teacher, rows.texts, 0)
    method = build_method(asked.method)
    train_one(asked, method, copy_of(start), teachers, rows, tmp_path / "first", False)  # what a store needs is there
    method = build_method(asked.method)
    found = allocated(lambda: train_one(asked, method, start, teachers, rows, tmp_path / "second", False))
    there = said["student weights"] + said.get("teacher weights", 0)
    assert sum(said.values()) == pytest.approx(found + there, rel=0.2)
