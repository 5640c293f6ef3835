"""Functions of well-known packages, each described in a sentence: the rows that several testbeds stand on.

Only packages that stillroom needs itself (or that these bring along) are read, so that the rows do not change with
whatever else is installed. A function is shown by its qualified name and its arguments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.pydocs import Source, functions

PACKAGES: tuple[str, ...] = (
    *("torch", "transformers", "datasets", "huggingface_hub", "accelerate", "peft", "numpy", "scipy", "pandas"),
    *("sympy", "networkx", "sklearn", "sentence_transformers"),
)

LONGEST = 100  # characters of a sentence, and of a function

Described = dict[str, str]


@cache
def described(split: str, count: int) -> tuple[Described, ...]:
    """``count`` functions of a split: {anchor: what it does, positive: its name and arguments}; no two look alike.

    Raises:
        ValueError: the installed packages have fewer.
    """
    table = functions(split, Source(PACKAGES)).select_columns(["name", "qualified_name", "signature", "summary"])
    found: dict[str, Described] = {}
    for place in np.random.default_rng(0).permutation(len(table)).tolist():
        row = table[place]
        arguments = row["signature"].removeprefix("async ").removeprefix(f"def {row['name']}").rstrip(":")
        shown = {"anchor": row["summary"], "positive": row["qualified_name"] + arguments}
        if max(map(len, shown.values())) <= LONGEST:
            found.setdefault(row["qualified_name"], shown)
        if len(found) == count:
            return tuple(found.values())
    raise ValueError(f"the installed packages have {len(found)} described functions for {split}, not {count}")


def rows_file(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The path of a file that holds these rows, one JSON object a line, written the first time it is asked for."""
    lines = [json.dumps(row) + "\n" for row in rows]

    def build(folder: Path) -> None:
        folder.mkdir()
        (folder / "rows.jsonl").write_text("".join(lines))

    return str(build_once(f"testbeds/{name}", fingerprint(lines), build) / "rows.jsonl")
