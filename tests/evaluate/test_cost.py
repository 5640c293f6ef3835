"""Sizes counted by hand; times and memory of calls whose cost is known beforehand.

Run: pytest tests/evaluate/test_cost.py
"""

import time

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from stillroom.evaluate import cost
from stillroom.evaluate.cost import disk_bytes, generation_speed, measure, measure_together, parameters, peak_memory

LLAMA = {
    "vocab_size": 50,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 12,
}
# Queries and outputs, keys and values, the three matrices of the feed-forward part, three norms.
LAYER = 2 * 8 * 8 + 2 * 8 * 4 + 3 * 8 * 12 + 3 * 8


@pytest.mark.parametrize(("tied", "total", "rest"), [(True, 400 + LAYER, LAYER), (False, 800 + LAYER, 400 + LAYER)])
def test_tied_parameters_count_once(tied, total, rest):
    assert parameters(LlamaForCausalLM(LlamaConfig(tie_word_embeddings=tied, **LLAMA))) == (total, rest)


def test_embedding_bags_are_embeddings_and_frozen_weights_are_parameters():
    model = nn.ModuleList([nn.EmbeddingBag(10, 3), nn.Linear(3, 2).requires_grad_(False)])
    assert parameters(model) == (38, 8)


def test_disk_bytes(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "inside" / "b").write_bytes(b"4567")
    assert disk_bytes(tmp_path) == 7
    assert disk_bytes(tmp_path / "a") == 3
    with pytest.raises(ValueError, match="does not exist"):
        disk_bytes(tmp_path / "c")


class Clock:
    """Time that only passes when a call says so."""

    def __init__(self, monkeypatch):
        self.now, self.order = 0.0, []
        monkeypatch.setattr(cost.time, "perf_counter", lambda: self.now)

    def call(self, name, *seconds):
        left = list(seconds)

        def run(_value):
            self.order.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_latency_and_throughput_by_hand(monkeypatch):
    clock = Clock(monkeypatch)
    # Three untimed calls of 100 s, then 1 to 5 s.
    found = measure(clock.call("a", 100, 100, 100, 1, 2, 3, 4, 5), ["x"], warmup=3, repeats=5, rows=6)
    assert found.p50_ms == pytest.approx(3000)
    assert found.p95_ms == pytest.approx(np.percentile([1000, 2000, 3000, 4000, 5000], 95))
    assert found.throughput == pytest.approx(6 / 3)


def test_a_stall_does_not_set_the_throughput(monkeypatch):
    found = measure(Clock(monkeypatch).call("a", 1, 1, 900, 1), ["x", "y"], warmup=0, repeats=5, rows=4)
    assert found.throughput == pytest.approx(2 * 4 / 2)


def test_callables_take_turns(monkeypatch):
    clock = Clock(monkeypatch)
    calls = {"a": clock.call("a", 1), "b": clock.call("b", 3)}
    found = measure_together(calls, ["x", "y"], warmup=1, repeats=2)
    assert clock.order == ["a", "b"] * 6
    assert (found["a"].p50_ms, found["b"].p50_ms) == (pytest.approx(1000), pytest.approx(3000))


def test_a_real_clock_sees_a_real_wait():
    assert 20 <= measure(lambda _: time.sleep(0.02), [None], warmup=0, repeats=3).p50_ms < 200


def test_generation_speed(monkeypatch):
    clock = Clock(monkeypatch)
    run = clock.call("a", 7, 2, 4, 2)

    def generate(prompt):
        run(prompt)
        return 12

    assert generation_speed(generate, ["p"], warmup=1, repeats=3) == pytest.approx(6)


def test_resident_peak_sees_memory_that_is_gone_again():
    def call():
        block = np.ones(60_000_000 // 8)
        time.sleep(0.02)
        del block

    found = peak_memory(call)
    assert found.kind == "resident"
    assert 50e6 < found.added_bytes < 200e6
    assert found.peak_bytes > found.added_bytes


def test_an_error_in_the_call_ends_the_sampling():
    import threading

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        peak_memory(lambda: 1 / 0)
    assert threading.active_count() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_peak():
    kept = torch.ones(1_000_000, device="cuda")
    found = peak_memory(lambda: torch.ones(4_000_000, device="cuda").sum(), "cuda")
    assert found.kind == "cuda"
    assert found.added_bytes == pytest.approx(16_000_000, rel=0.1)
    assert found.peak_bytes >= kept.numel() * 4 + found.added_bytes


def test_bad_input():
    with pytest.raises(ValueError, match="not on mps"):
        peak_memory(lambda: None, "mps")
    with pytest.raises(ValueError, match="at least one repeat"):
        measure(lambda _: None, [None], repeats=0)
    with pytest.raises(ValueError, match="an input"):
        measure(lambda _: None, [])
