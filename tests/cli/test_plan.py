"""``stillroom plan``: a recipe looked over from configuration, tokenizer and rows alone; there are no weights to load.

.venv/bin/python -m pytest tests/cli/test_plan.py
"""

import json
import time

import pytest
from tests.cli.conftest import TRAIN, sums, write_rows

# As published on the hub.
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 40960,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 151936,
}
SIZES = {
    "Qwen3-0.6B": {
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
    },
    "Qwen3-4B": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
}
PARAMETERS = {"Qwen3-0.6B": 596_049_920, "Qwen3-4B": 4_022_468_096}  # as published


@pytest.fixture
def qwen(tmp_path):
    """Folders with the configuration of real models and a small tokenizer, and nothing else."""
    from stillroom.students.open import train_tokenizer

    tokenizer = train_tokenizer([row["prompt"] + row["completion"] for row in sums(60)], 300)

    def make(name, **changes):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(QWEN3 | SIZES[name] | changes))
        tokenizer.save_pretrained(folder)
        return name

    return make


@pytest.fixture
def chat(tmp_path):
    turns = ({"role": "user", "content": "question " * 6}, {"role": "assistant", "content": "answer"})
    return write_rows(tmp_path / "chat.jsonl", [{"messages": turns} for _ in range(40)])


def test_it_plans_a_real_pair_without_weights_in_seconds(stillroom, recipe, qwen, chat):
    began = time.process_time()
    keys = {
        "teacher": {"model": qwen("Qwen3-4B"), "dtype": "bfloat16"},
        "student": {"model": qwen("Qwen3-0.6B", vocab_size=152064), "max_length": 512},
        "method": "forward_kl",
        "data": chat,
        "train": {"steps": 100, "batch_size": 16, "micro_batch": 4, "precision": "bf16"},
    }
    told = stillroom("plan", recipe(**keys), "--json")
    assert told.code == 0, told.err
    assert time.process_time() - began < 10
    found = json.loads(told.out)
    assert found["tokenizers"] == "teacher and student share all 300 token ids"
    student = PARAMETERS["Qwen3-0.6B"] + 128 * 1024  # a longer table
    assert found["memory"]["teacher weights"] == 2 * PARAMETERS["Qwen3-4B"]
    assert found["memory"]["student weights"] == found["memory"]["student gradients"] == 4 * student
    assert found["memory"]["optimizer"] == 8 * student
    assert found["memory_total"] == sum(found["memory"].values())
    row = found["counts"]["tokens"] // 40
    assert found["tokens"] == 100 * 16 * row and found["rows"] == 40 and found["steps"] == 100
    chunk = min(64 * 2**20, 4 * row * 152064 * 4 * 4)
    assert found["memory"]["logits of a chunk"] == chunk
    assert found["saved"] == 4 * row * (152064 * 2 * (2 + 4) + 151936 * (2 + 4)) - chunk
    assert found["flops"] == pytest.approx((6 * student + 2 * PARAMETERS["Qwen3-4B"]) * found["tokens"])
    assert 0 < found["counts"]["trained_share"] < 0.5 and found["cache_bytes"] is None


def test_for_people_it_says_the_same_in_words(stillroom, recipe, qwen, chat):
    keys = {
        "teacher": {"model": qwen("Qwen3-4B"), "cache": True, "top_k": 20},
        "student": {"model": qwen("Qwen3-0.6B"), "max_length": 512},
        "method": "forward_kl",
        "data": chat,
    }
    told = stillroom("plan", recipe(**keys))
    assert told.code == 0, told.err
    for words in ("teacher and student share all 300 token ids", "40 rows, 6 steps", "% of all tokens are trained"):
        assert words in told.out
    for words in ("the cache of the teacher's signals: ", "optimizer", "4.77 GB", "together", "never made"):
        assert words in told.out
    assert "teacher logits" not in told.out


def test_other_tokenizers_are_refused_by_name_and_texts_are_not(stillroom, recipe, shop, qwen):
    keys = {"teacher": shop.stranger, "student": {"model": qwen("Qwen3-0.6B"), "max_length": 64}}
    told = stillroom("plan", recipe(method="taid", **keys))
    assert told.code == 2 and "'taid' compares the two distributions id by id" in told.err
    assert "take a method that does not: teacher_texts" in told.err
    assert stillroom("plan", recipe(method="teacher_texts", **keys)).code == 0


def test_a_few_ids_that_one_side_lacks_are_cut_off_and_said(stillroom, recipe, qwen):
    from transformers import AutoTokenizer

    teacher, student = qwen("Qwen3-4B"), qwen("Qwen3-0.6B")
    larger = AutoTokenizer.from_pretrained(teacher)
    larger.add_tokens(["<|extra|>"])
    larger.save_pretrained(teacher)
    told = stillroom("plan", recipe(teacher=teacher, student={"model": student, "max_length": 64}, method="forward_kl"))
    assert told.code == 0, told.err
    assert "share token ids 0 to 299 (their vocabularies have 301 and 300); both are cut to these" in told.out


def test_what_works_but_is_likely_not_meant_is_noted(stillroom, recipe, tmp_path):
    turns = ({"role": "user", "content": "question " * 200}, {"role": "assistant", "content": "y"})
    rows = write_rows(tmp_path / "mostly-asked.jsonl", [{"messages": turns}] * 30)
    told = stillroom("plan", recipe(data=rows, student={"new": {"architecture": "llama", "vocabulary": 300}}))
    assert told.code == 0, told.err
    assert "note: the student's tokenizer is trained in the run" in told.err
    assert "of all tokens are trained; is the answer in the right column?" in told.err


def test_a_run_that_is_there_is_noted(stillroom, recipe):
    assert stillroom("distill", recipe(train=TRAIN | {"steps": 1})).code == 0
    assert "runs/recipe is there already; a new run needs another name, or --resume" in stillroom("plan", recipe()).err
