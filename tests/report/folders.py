"""Made-up run folders: one in which everything was measured, the least that is a run, and one full of hostile text."""

import json
import math
import random

import yaml

RECIPE = {
    "name": "margin-mse-e5-minilm",
    "task": "embeddings",
    "teacher": {"model": "intfloat/e5-large-v2", "dtype": "bfloat16", "cache": True},
    "student": {"model": "sentence-transformers/all-MiniLM-L6-v2", "max_length": 512},
    "data": {
        "train": [
            {"source": "queries.jsonl", "split": "train", "seed": 0},
            {"source": "pydocs", "view": "pairs", "limit": 20000},
        ],
        "validation": {"source": "held-out.jsonl", "split": "train"},
    },
    "method": {"name": "margin-mse", "scale": 1.0},
    "train": {"steps": 1200, "batch_size": 32, "learning_rate": 2e-05, "schedule": "cosine", "seed": 7},
    "against": [{"name": "sft"}, {"name": "kd", "temperature": 2.0}, {"name": "untrained"}],
    "output": "runs",
}

RUN = {
    "name": "margin-mse-e5-minilm",
    "method": "margin-mse",
    "family": "retrieval",
    "teacher": "intfloat/e5-large-v2",
    "student": "sentence-transformers/all-MiniLM-L6-v2",
    "command": "stillroom distill recipe.yaml --set train.steps=1200 --against sft,kd,untrained",
    "started": "2025-03-04T09:12:44+00:00",
    "seconds": 1843.2,
    "seed": 7,
    "license": "apache-2.0",
    "versions": {"stillroom": "0.1.0", "torch": "2.13.0", "transformers": "5.17.0", "python": "3.11.7"},
    "counts": {
        "rows": 48213,
        "tokens": 9120344,
        "trained_share": 0.713,
        "dropped": {"longer than 512 tokens": 1204, "empty answer": 87, "duplicate of another row": 3310},
    },
}

MADE_UP = "How do I undo the last commit without losing my changes?"

EVALUATION = {
    "primary": "ndcg@10",
    "metrics": {
        "ndcg@10": {"title": "nDCG@10", "higher_is_better": True, "unit": ""},
        "recall@100": {"title": "Recall@100", "higher_is_better": True, "unit": ""},
        "rank": {"title": "Mean rank", "higher_is_better": False, "unit": ""},
    },
    "systems": [
        {
            "name": "teacher",
            "role": "teacher",
            "parameters": 335_141_888,
            "disk_bytes": 1_340_699_814,
            "metrics": {"ndcg@10": 0.712, "recall@100": 0.943, "rank": 4.21},
            "cost": {"throughput": 88.2, "p50_ms": 42.7, "p95_ms": 61.3, "peak_bytes": 2_911_000_000},
        },
        {
            "name": "margin-mse",
            "role": "student",
            "parameters": 22_713_216,
            "disk_bytes": 90_868_376,
            "metrics": {"ndcg@10": 0.67, "recall@100": 0.921, "rank": 5.02},
            "cost": {
                "train_seconds": 1843.2,
                "throughput": 1024.0,
                "p50_ms": 6.31,
                "p95_ms": 8.04,
                "peak_bytes": 412_000_000,
            },
        },
        {
            "name": "kd",
            "role": "baseline",
            "parameters": 22_713_216,
            "disk_bytes": 90_868_376,
            "metrics": {"ndcg@10": 0.651, "recall@100": 0.917, "rank": 5.37},
            "cost": {"train_seconds": 1790.0, "throughput": 1019.0, "p50_ms": 6.33, "p95_ms": 8.11},
        },
        {
            "name": "untrained",
            "role": "start",
            "parameters": 22_713_216,
            "disk_bytes": 90_868_376,
            "metrics": {"ndcg@10": 0.498, "recall@100": 0.803, "rank": 9.9},
            "cost": {"throughput": 1022.0, "p50_ms": 6.3, "p95_ms": 8.07},
        },
        {
            "name": "sft",
            "role": "baseline",
            "without_teacher": True,
            "parameters": 22_713_216,
            "disk_bytes": 90_868_376,
            "metrics": {"ndcg@10": 0.577, "recall@100": 0.866, "rank": 7.4},
            "cost": {"train_seconds": 1105.0, "throughput": 1020.0, "p50_ms": 6.32, "p95_ms": 8.1},
        },
        {
            "name": "bm25",
            "role": "baseline",
            "disk_bytes": 12_400_000,
            "metrics": {"ndcg@10": 0.452, "recall@100": 0.79, "rank": None},
            "cost": {"throughput": 4210.0, "p50_ms": 1.2, "p95_ms": 2.9},
        },
    ],
    "agreement": {
        "same first document": {"value": 0.871, "low": 0.858, "high": 0.884},
        "overlap of the first ten": {"value": 0.792, "low": 0.781, "high": 0.803},
        "rank_correlation": 0.913,
    },
    "calibration": [
        {
            "system": name,
            "error": error,
            "bins": [
                {"confidence": c / 10 - 0.05, "accuracy": max(0.0, c / 10 - 0.05 - lean * c / 10), "count": 40 * c}
                for c in range(1, 11)
            ],
        }
        for name, error, lean in (("teacher", 0.021, 0.03), ("margin-mse", 0.064, 0.12))
    ],
    "worst": [
        {
            "input": f"{MADE_UP} ({number})",
            "teacher": "git reset --soft HEAD~1 keeps the changes in the index.",
            "student": "git revert HEAD makes a new commit. " + "It goes on and on. " * (40 * (number == 1)),
            "disagreement": 0.97 - number / 20,
        }
        for number in range(9)
    ],
}


def lines(seed=0, level=0.67, floor=0.4):
    """A metrics.jsonl: two parts with noise, a learned temperature, evaluations with a validation loss."""
    noise = random.Random(seed)
    for step in range(0, 1200, 4):
        fall = math.exp(-step / 180)
        parts = {"margin": 2.2 * fall + floor + noise.gauss(0, 0.09), "regularity": 0.3 + 0.2 * fall}
        line = {"step": step, "total": parts["margin"] + 0.1 * parts["regularity"], "parts": parts}
        yield line | {
            "learning_rate": 2e-5,
            "grad_norm": 1.0,
            "rows_per_second": 310.0,
            "log": {"temperature": 1 + fall},
        }
        if step % 200 == 0:
            reached = level - (level - 0.498) * math.exp(-step / 240)
            evaluation = {"ndcg@10": reached, "loss": 2.3 * fall + floor + 0.08, "margin": 2.25 * fall + floor + 0.06}
            yield {"step": step, "evaluation": evaluation}


def write(folder, *, run=RUN, recipe=RECIPE, evaluation=EVALUATION, logged=None):
    """A run folder of these contents; a part that is None is not there. ``logged``: subfolder -> lines."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run))
    if recipe is not None:
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    if evaluation is not None:
        (folder / "evaluation.json").write_text(json.dumps(evaluation))
    for system, logged_lines in (logged or {}).items():
        (folder / system).mkdir(parents=True, exist_ok=True)
        (folder / system / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in logged_lines))
    return folder


def write_complete(folder):
    """A run in which everything was measured."""
    logged = {"": lines(), "against/kd": lines(1, 0.651, 0.5), "against/sft": lines(2, 0.577, 0.9)}
    return write(folder, logged=logged)


def write_minimal(folder):
    """The least that is a run: its name."""
    return write(folder, run={"name": "minimal"}, recipe=None, evaluation=None)


# Markup, an attribute, the end of a CDATA section and of a code fence, a table cell, a direction mark, a control
# character, half of a surrogate pair, a new line that would start a heading; and far too much of it.
HOSTILE = (
    "<script>document.title='owned'</script>]]>\"'><img src=http://localhost:9/x onerror=alert(1)> </style></pre>&amp;"
    " `````` | **b** [x](http://localhost:9) {{ 7*7 }}{% raw %} \u202e\x00\x1b[31m\ud800\ufffe\r\n# heading\n---\n"
) + 10_000 * "x"
# Mappings whose keys anybody may choose.
FREE_KEYS = {"versions", "dropped", "parts", "log", "agreement", "data", "method", "train"}


def hostile(value, inside=""):
    """The same data with every text in it, and every key that can be chosen freely, made hostile."""
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, list):
        return [hostile(item) for item in value]
    if isinstance(value, dict):
        return {
            (key + HOSTILE if inside in FREE_KEYS else key): part if key in ("role", "primary") else hostile(part, key)
            for key, part in value.items()
        }
    return value


def write_hostile(folder):
    """A complete run in which every text is hostile, down to the name of a folder."""
    logged = {"": hostile(list(lines())), "against/<img src=x onerror=alert(1)>&": hostile(list(lines(1)))}
    return write(folder, run=hostile(RUN), recipe=hostile(RECIPE), evaluation=hostile(EVALUATION), logged=logged)
