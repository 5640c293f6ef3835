"""What a model costs: parameters, bytes on disk, latency and throughput, peak memory, generated tokens per second.

Times are taken in this process after a warm-up. Machines are noisy and drift, so a figure of one model stands alone
badly: `measure_together` takes the models in turn, round by round, which lets a slow moment hit all of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

Call = Callable[[Any], Any]

SAMPLE_SECONDS = 0.001


class Parameters(NamedTuple):
    """How many numbers are learnt; a tensor that is used twice (tied) counts once."""

    total: int
    without_embeddings: int


class Latency(NamedTuple):
    """Milliseconds of a call, median and 95th percentile; rows a second in the median round over all inputs."""

    p50_ms: float
    p95_ms: float
    throughput: float


class PeakMemory(NamedTuple):
    """The highest use of memory during a call, in bytes.

    peak_bytes: all there was at the peak, weights and what else the process holds included. added_bytes: how much of it
    came on top of what was there before the call. kind: ``cuda``, tensors that PyTorch had allocated on the device,
    exact; ``resident``, memory of the whole process on the CPU, sampled every millisecond, so that a shorter peak can
    be missed.
    """

    peak_bytes: int
    added_bytes: int
    kind: Literal["cuda", "resident"]


def parameters(model: nn.Module) -> Parameters:
    """Count the parameters, and those that are not in an embedding table (nor in a head that is tied to one)."""
    tables = {
        id(weight)
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
        for weight in module.parameters()
    }
    sizes = [(id(weight), weight.numel()) for weight in model.parameters()]
    return Parameters(sum(size for _, size in sizes), sum(size for name, size in sizes if name not in tables))


def disk_bytes(path: str | Path) -> int:
    """The size of a file, or of all files in a folder and below."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist, so it has no size")
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def measure(call: Call, inputs: Sequence[Any], *, warmup: int = 3, repeats: int = 20, rows: int = 1) -> Latency:
    """Time a callable; work on an accelerator is waited for.

    Args:
        call: takes one of the inputs.
        inputs: each is timed ``repeats`` times.
        warmup: untimed rounds over all inputs: first calls allocate, compile and fill caches.
        repeats: timed rounds.
        rows: rows in each input, for the throughput.
    """
    return measure_together({"": call}, inputs, warmup=warmup, repeats=repeats, rows=rows)[""]


def measure_together(
    calls: Mapping[str, Call], inputs: Sequence[Any], *, warmup: int = 3, repeats: int = 20, rows: int = 1
) -> dict[str, Latency]:
    """Time several callables on the same inputs in turn (A B A B ...), so that the machine's moods hit all alike.

    Args:
        calls: name -> callable that takes one of the inputs.
        inputs: each is timed ``repeats`` times with each callable.
        warmup: untimed rounds over all inputs.
        repeats: timed rounds.
        rows: rows in each input, for the throughput.
    """
    if not calls or not inputs or repeats < 1:
        raise ValueError("to measure, there must be a callable, an input and at least one repeat")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warmup + repeats):
        for value in inputs:
            for name, call in calls.items():
                spent, _ = _timed(call, value)
                if number >= warmup:
                    seconds[name].append(spent)
    return {name: _latency(np.array(spent).reshape(repeats, -1), rows) for name, spent in seconds.items()}


def generation_speed(
    generate: Callable[[Any], int], inputs: Sequence[Any], *, warmup: int = 1, repeats: int = 3
) -> float:
    """Generated tokens a second: the median over all timed calls.

    Args:
        generate: takes one input, generates, and returns how many *new* tokens it made, of all rows together.
        inputs: prompts, or batches of them.
        warmup: untimed rounds over all inputs.
        repeats: timed rounds.
    """
    speeds = []
    for number in range(warmup + repeats):
        for value in inputs:
            spent, tokens = _timed(generate, value)
            if number >= warmup:
                speeds.append(tokens / spent)
    return float(np.median(speeds))


def peak_memory(call: Callable[[], Any], device: torch.device | str = "cpu") -> PeakMemory:
    """The highest use of memory during one call, on a CUDA device or of the process; `PeakMemory` says what that is.

    Args:
        call: run once.
        device: where the work is done: ``cpu``, or a CUDA device.

    Raises:
        ValueError: a device of another type.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return _cuda_peak(call, device)
    if device.type != "cpu":
        raise ValueError(f"peak memory can be measured on cpu and cuda, not on {device.type}")
    return _resident_peak(call)


def _timed(call: Call, value: Any) -> tuple[float, Any]:
    _wait()
    start = time.perf_counter()
    result = call(value)
    _wait()
    return time.perf_counter() - start, result


def _wait() -> None:
    """Until the accelerator has done what it was told: its calls return before their work is done."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def _latency(seconds: np.ndarray, rows: int) -> Latency:
    """From seconds [rounds, inputs]. The throughput is the median round's: one stall must not set it."""
    middle, late = np.percentile(seconds * 1000, [50, 95])
    return Latency(float(middle), float(late), rows * seconds.shape[1] / float(np.median(seconds.sum(1))))


def _cuda_peak(call: Callable[[], Any], device: torch.device) -> PeakMemory:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    return PeakMemory(peak, peak - before, "cuda")


def _resident_peak(call: Callable[[], Any]) -> PeakMemory:
    import psutil  # accelerate depends on it

    process = psutil.Process()
    before = peak = process.memory_info().rss
    done = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_SECONDS):
            peak = max(peak, process.memory_info().rss)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        call()
        peak = max(peak, process.memory_info().rss)
    finally:
        done.set()
        sampler.join()
    return PeakMemory(peak, peak - before, "resident")
