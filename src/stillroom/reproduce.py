"""Reproduce: a method and its baselines from the same start, on the same rows and budget, over several seeds.

What comes out is a file of figures: mean and spread of everybody, a paired comparison with the baseline that the
paper's claim names, and a verdict. Nobody types a figure.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from datetime import date
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from stillroom import catalog
from stillroom.errors import UserError
from stillroom.evaluate.statistics import paired_t, summary, verdict
from stillroom.recipe import check
from stillroom.run import execute, versions
from stillroom.testbeds.base import Bench

Told = Callable[[str], None]


def bench_of(slug: str) -> Bench:
    """The method's entry in its family's testbed.

    Raises:
        UserError: the method is unknown or not built, or its family has no ground for it yet.
    """
    catalog.load(slug)
    family = catalog.find(slug).family
    try:
        benches: dict[str, Bench] = import_module(f"stillroom.testbeds.{family}").BENCHES
    except ModuleNotFoundError as error:
        if error.name != f"stillroom.testbeds.{family}":
            raise
        benches = {}
    if slug not in benches:
        raise UserError(f"the family {family!r} has no testbed entry for {slug!r} yet")
    return benches[slug]


def reproduce(
    slug: str,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    smoke: bool = False,
    workers: int | None = None,
    folder: Path | None = None,
    tell: Told = lambda _: None,
) -> dict[str, Any]:
    """Run a method against its baselines.

    Args:
        slug: of the method.
        seeds: of initialisation, order and sampling; at least two give a verdict.
        smoke: a few steps only, to see that everything runs; there is no verdict.
        workers: how many seeds run at once, each in a process of its own with an equal share of the cores: small
            models gain little from a second thread. One a core if None; with 1, and where times are measured, all run
            in this process.
        folder: where the runs are kept; a temporary one, removed at the end, if None.
        tell: called with a sentence as the work goes on.

    Returns:
        The result, as `write` keeps it.

    Raises:
        UserError: the method has no ground, or a process died before its seed was measured.
    """
    bench = bench_of(slug)
    began = time.monotonic()
    kept = folder or Path(tempfile.mkdtemp(prefix="stillroom-"))
    one = partial(_systems, slug, smoke, kept)
    workers = 1 if bench.timed else min(len(seeds), workers or os.cpu_count() or 1)
    tell(f"{slug}: {len(seeds)} seeds, {workers} at once")
    found = {}
    try:
        for seed, systems in _in_turn(one, seeds) if workers == 1 else _side_by_side(one, seeds, workers):
            found[seed] = systems
            tell(f"{slug}: seed {seed} measured, {len(systems)} systems, {time.monotonic() - began:.0f} s")
    except BrokenProcessPool:
        missing = ", ".join(str(seed) for seed in seeds if seed not in found)
        raise UserError(
            f"{slug}: a process died before it had measured its seed (missing: {missing}); out of memory? "
            "`--workers 1` runs one seed after the other"
        ) from None
    finally:
        if folder is None:
            shutil.rmtree(kept, ignore_errors=True)
    return _result(slug, bench, list(seeds), [found[seed] for seed in seeds], smoke, time.monotonic() - began)


def _systems(slug: str, smoke: bool, kept: Path, seed: int) -> list[dict[str, Any]]:
    """What one seed gives: everybody's entries, as in a run's evaluation.json."""
    bench = bench_of(slug)
    if bench.measure is not None:
        return bench.measure(smoke, seed)
    assert bench.recipe is not None
    plain = bench.recipe(smoke)
    plain["train"] = {**plain.get("train", {}), "seed": seed}
    recipe = check({**plain, "name": f"seed-{seed}", "output": str(kept / slug)}, f"the testbed's recipe for {slug}")
    shutil.rmtree(recipe.folder, ignore_errors=True)
    systems: list[dict[str, Any]] = execute(recipe, suites=bench.suites, timed=False).evaluation["systems"]
    return systems


Measured = Iterator[tuple[int, list[dict[str, Any]]]]


def _in_turn(one: Callable[[int], list[dict[str, Any]]], seeds: Sequence[int]) -> Measured:
    for seed in seeds:
        yield seed, one(seed)


def _side_by_side(one: Callable[[int], list[dict[str, Any]]], seeds: Sequence[int], workers: int) -> Measured:
    share = max(1, (os.cpu_count() or 1) // workers)
    fresh = multiprocessing.get_context("spawn")  # a fork would copy torch's threads in the middle of their work
    with ProcessPoolExecutor(workers, fresh, initializer=_begin, initargs=(share,)) as pool:
        running = {pool.submit(one, seed): seed for seed in seeds}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)  # one seed failed: what has not begun stays undone


def _begin(threads: int) -> None:
    """A worker's first act: its share of the cores, and silence about what the first process tells."""
    from stillroom.cli.logs import show_progress

    torch.set_num_threads(threads)
    show_progress()
    logging.getLogger("stillroom").setLevel(logging.WARNING)


def _result(
    slug: str, bench: Bench, seeds: list[int], runs: list[list[dict[str, Any]]], smoke: bool, seconds: float
) -> dict[str, Any]:
    systems = {}
    for place, first in enumerate(runs[0]):
        values = [run[place]["metrics"].get(bench.metric) for run in runs]
        systems[first["name"]] = {
            "role": first["role"],
            "alone": first.get("without_teacher", False),
            "parameters": first["parameters"],
            "values": values,
            "train_seconds": [run[place]["cost"].get("train_seconds") for run in runs],
            "metrics": {name: [run[place]["metrics"][name] for run in runs] for name in first["metrics"]},
        }
        if None not in values and len(values) > 1:
            found = summary(values)
            systems[first["name"]] |= {"mean": found.mean, "std": found.std, "interval": list(found.interval)}
    result = {
        "slug": slug,
        "claim": bench.claim,
        "metric": bench.metric,
        "higher_is_better": bench.higher_is_better,
        "versus": bench.versus,
        "seeds": seeds,
        "smoke": smoke,
        "systems": systems,
        "seconds": seconds,
        "date": date.today().isoformat(),
        "versions": versions(),
        "command": f"stillroom reproduce {slug} --seeds {len(seeds)}" + (" --smoke" if smoke else ""),
    }
    if len(seeds) > 1 and not smoke:
        ours, theirs = systems[slug]["values"], systems[bench.versus]["values"]
        compared = paired_t(ours, theirs)
        result["comparison"] = compared._asdict()
        result["verdict"] = verdict(ours, theirs, bench.higher_is_better)
    return result


def write(result: dict[str, Any]) -> Path:
    """Keep a result where `stillroom show` and the docs find it."""
    path = catalog.find(result["slug"]).result_path
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
