"""Two sides of one piece of work, run in turn, each time in a process of its own: their measures, ratios and bars.

A figure is a script beside this one that calls `main` with its `Figure`. Without arguments the script runs both sides
alternately, prints what came of it and keeps it in ``perf/results``; ``--side NAME`` runs one of them, once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
OURS = "stillroom"
TURNS = 5


@dataclass(frozen=True)
class Bar:
    """What has to come out of a measure.

    Attributes:
        measure: its name.
        least: of the ratio in our favour, (theirs / ours) where lower is better and (ours / theirs) where higher is;
            of ours - theirs with ``difference``.
        lower: whether less of the measure is better.
        difference: whether the two sides are subtracted in place of divided.
    """

    measure: str
    least: float
    lower: bool = True
    difference: bool = False

    def outcome(self, ours: float, theirs: float) -> float:
        """The ratio, or the difference, in our favour."""
        if self.difference:
            return theirs - ours if self.lower else ours - theirs
        return theirs / ours if self.lower else ours / theirs


@dataclass(frozen=True)
class Figure:
    """One comparison.

    Attributes:
        name: of the script, the result's file, and the row of the table.
        work: what both sides do, in a sentence.
        sides: name -> what it measures in a process of its own; ours is called ``stillroom``, the other is the peer.
        bars: what has to come out.
        packages: whose versions decide the result.
        threads: of the computing libraries, on both sides.
    """

    name: str
    work: str
    sides: Mapping[str, Callable[[], dict[str, float]]]
    bars: tuple[Bar, ...]
    packages: tuple[str, ...] = ("torch", "transformers")
    threads: int = 2

    @property
    def peer(self) -> str:
        """The other side."""
        return next(name for name in self.sides if name != OURS)


def main(figure: Figure) -> None:
    """The figure's command line."""
    parser = argparse.ArgumentParser(description=figure.work)
    parser.add_argument("--side", choices=list(figure.sides), help="run this side once and print what it measures")
    parser.add_argument("--turns", type=int, default=TURNS, help="how often each side runs")
    asked = parser.parse_args()
    if asked.side:
        print(json.dumps(figure.sides[asked.side]()))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in figure.sides}
    for turn in range(asked.turns):
        # Who comes first changes from turn to turn, so that a machine that warms up favours nobody.
        for name in list(figure.sides)[:: 1 if turn % 2 else -1]:
            found[name].append(_once(figure, name))
            print(f"{turn + 1}/{asked.turns} {name}: {_words(found[name][-1])}", flush=True)
    result = summary(figure, found)
    if asked.turns >= TURNS:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{figure.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    for bar in result["bars"]:
        print(
            f"{bar['measure']}: {bar['median']:.3g} (turns {bar['lowest']:.3g} to {bar['highest']:.3g}), "
            f"asked for {bar['least']:g}: {'reached' if bar['reached'] else 'NOT reached'}"
        )


def _once(figure: Figure, side: str) -> dict[str, float]:
    threads = {name: str(figure.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, sys.argv[0], "--side", side],
        capture_output=True,
        text=True,
        env=os.environ | threads | quiet,
    )
    if ran.returncode:
        raise SystemExit(f"{side} failed:\n{ran.stderr[-3000:]}")
    return json.loads(ran.stdout.strip().splitlines()[-1])


def summary(figure: Figure, found: Mapping[str, list[dict[str, float]]]) -> dict[str, Any]:
    """All turns of both sides, and for each bar the median over turns of what is in our favour, with its spread."""
    bars = []
    for bar in figure.bars:
        pairs = zip(found[OURS], found[figure.peer], strict=True)
        outcomes = [bar.outcome(ours[bar.measure], theirs[bar.measure]) for ours, theirs in pairs]
        bars.append(
            {
                "measure": bar.measure,
                "lower_is_better": bar.lower,
                "difference": bar.difference,
                "least": bar.least,
                "median": median(outcomes),
                "lowest": min(outcomes),
                "highest": max(outcomes),
                "reached": median(outcomes) >= bar.least,
            }
        )
    return {
        "figure": figure.name,
        "work": figure.work,
        "peer": figure.peer,
        "date": date.today().isoformat(),
        "machine": machine(),
        "threads": figure.threads,
        "versions": {name: version(name) for name in ("stillroom", *figure.packages) if _installed(name)},
        "bars": bars,
        "turns": dict(found),
    }


def machine() -> str:
    """The processor, in words."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return platform.platform()


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _words(measured: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in measured.items())


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The median time of some work, after it was done once to warm up."""
    work()
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return median(took)


def extra_peak(work: Callable[[], object]) -> float:
    """The most memory that some work had beyond what was there before it, in MiB (Linux)."""
    import ctypes
    import gc

    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = _kib("VmRSS")
    work()
    return max(_kib("VmHWM") - before, 0) / 1024


def _kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
