"""Reproduce: a method and its baselines from the same start, on the same rows and budget, over several seeds.

What comes out is a file of figures: mean and spread of everybody, a paired comparison with the baseline that the
paper's claim names, and a verdict. Nobody types a figure.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

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
    folder: Path | None = None,
    tell: Told = lambda _: None,
) -> dict[str, Any]:
    """Run a method against its baselines.

    Args:
        slug: of the method.
        seeds: of initialisation, order and sampling; at least two give a verdict.
        smoke: a few steps only, to see that everything runs; there is no verdict.
        folder: where the runs are kept; a temporary one, removed at the end, if None.
        tell: called with a sentence as the work goes on.

    Returns:
        The result, as `write` keeps it.
    """
    bench = bench_of(slug)
    began = time.monotonic()
    kept = folder or Path(tempfile.mkdtemp(prefix="stillroom-"))
    runs = []
    try:
        for seed in seeds:
            if bench.measure is not None:
                tell(f"{slug}: seed {seed}")
                runs.append(bench.measure(smoke, seed))
                continue
            assert bench.recipe is not None
            plain = bench.recipe(smoke)
            plain["train"] = {**plain.get("train", {}), "seed": seed}
            recipe = check(
                {**plain, "name": f"seed-{seed}", "output": str(kept / slug)}, f"the testbed's recipe for {slug}"
            )
            shutil.rmtree(recipe.folder, ignore_errors=True)
            tell(f"{slug}: seed {seed}, {len(recipe.against) + 1} systems")
            runs.append(execute(recipe, suites=bench.suites, timed=False).evaluation["systems"])
    finally:
        if folder is None:
            shutil.rmtree(kept, ignore_errors=True)
    return _result(slug, bench, list(seeds), runs, smoke, time.monotonic() - began)


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
