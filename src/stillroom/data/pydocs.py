"""`pydocs`: what the functions of the installed Python packages do, in words and in code.

Read in place from the packages' source text; nothing is imported, executed or copied into the repository. Built once
into the cache folder, anew when a package comes, goes or changes its version.

Columns of the view `functions`, one row a function:

| column           | holds                                                                             |
|------------------|-----------------------------------------------------------------------------------|
| `id`             | module and qualified name, ``jinja2.loaders:BaseLoader.load``                     |
| `package`        | the top-level import name                                                         |
| `module`         | the dotted name of the module                                                     |
| `name`           | the function's own name                                                           |
| `qualified_name` | with its classes                                                                  |
| `signature`      | ``def name(arguments) -> annotation:`` on one line                                |
| `docstring`      | whole, with its indentation removed                                               |
| `paragraph`      | the docstring's first paragraph, on one line                                      |
| `summary`        | the first sentence of that                                                        |
| `code`           | from ``def`` on, without decorators and without the docstring                     |
| `calls`          | the names it calls, as written, sorted: the edges of a call graph                 |

Other views, which all keep `id`, `package` and `module`:

| view         | columns                                                                                        |
|--------------|------------------------------------------------------------------------------------------------|
| `docstrings` | text: the docstring                                                                            |
| `pairs`      | anchor: the paragraph; positive: the code                                                      |
| `completion` | prompt: the signature; completion: the summary                                                 |
| `chat`       | messages: the user shows the code and asks for its docstring; the assistant answers with it    |

Splits are by module (a hash of its name): train 80 %, validation 10 %, test 10 % of the modules. No docstring, no first
paragraph and no code (all but letters aside) occurs twice, in one split or across.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.data import functions as reader
from stillroom.data.cache import build_once, fingerprint
from stillroom.data.packages import modules, versions
from stillroom.data.progress import Tick, patient_bar
from stillroom.data.search import Retrieval
from stillroom.data.tables import TableWriter, part_of, read_table, sample, share, write_table
from stillroom.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

VIEWS = {
    "docstrings": "text",
    "pairs": "pair",
    "completion": "completion",
    "chat": "chat",
    "functions": None,
}
SPLITS = ("train", "validation", "test")
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
CAP = 40_000
"""Functions kept if no other number is asked for. Modules are read in an order that mixes packages, up to the cap."""

_VERSION = 1  # of what is read and how it is filtered; a change makes what is in the cache stale


@dataclass(frozen=True)
class Source:
    """Which functions are meant: of these packages (all that are installed, if None), at most ``cap`` of them."""

    packages: tuple[str, ...] | None = None
    cap: int = CAP

    @property
    def fingerprint(self) -> str:
        """Changes with the installed packages, their versions, the Python version and this loader."""
        return fingerprint(_VERSION, self.packages, self.cap, sys.version_info[:2], versions())


EVERYTHING = Source()


def load(
    view: str, split: str, limit: int | None, seed: int, *, packages: Sequence[str] | None = None, cap: int = CAP
) -> Dataset:
    """``limit`` rows of a view of one split, drawn with ``seed``, or all; of some packages only, if they are named."""
    source = Source(None if packages is None else tuple(packages), cap)
    dataset = _made(view, split, source) if view in _MADE else functions(split, source)
    if view in _RENAMED:
        dataset = dataset.select_columns([*_KEPT, *_RENAMED[view]]).rename_columns(_RENAMED[view])
    return sample(dataset, limit, seed)


def functions(split: str, source: Source = EVERYTHING, progress: Tick | None = None) -> Dataset:
    """All columns of one split. ``progress`` is told of modules read; a bar is drawn if it is None and takes long."""
    return read_table(_built(source, progress) / f"{split}.arrow")


def report(source: Source = EVERYTHING) -> dict[str, Any]:
    """What was read.

    Returns:
        ``packages``: versions; ``modules`` and ``functions``: what became of them -> how many; ``splits`` and ``kept``:
        functions in each split and of each package.
    """
    return json.loads((_built(source) / "report.json").read_text())


def vocabulary(size: int = 20_000, source: Source = EVERYTHING) -> dict[str, int]:
    """The most frequent words of the training docstrings, in lower case, with their counts, most frequent first."""

    def build(target: Path) -> None:
        counts = Counter[str]()
        for row in functions("train", source).select_columns(["docstring"]):
            counts.update(_WORD.findall(row["docstring"].lower()))
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        target.write_text(json.dumps(dict(ranked[:size])))

    return json.loads(build_once("pydocs/vocabulary", fingerprint(source.fingerprint, size), build).read_text())


def retrieval(split: str = "test", count: int = 500, seed: int = 0, source: Source = EVERYTHING) -> Retrieval:
    """Find the function that a docstring's first paragraph describes, among ``count`` functions of one split.

    Documents are code with its signature and without its docstring; the one in place n answers query n. No query stands
    word for word in the code of any function of the split.

    Raises:
        UserError: the split has fewer functions than that.
    """
    import numpy as np

    table = functions(split, source)
    everything = "\n".join(map(reader.one_line, table["code"]))
    order = np.random.default_rng(seed).permutation(len(table)).tolist()
    fit = (row for row in map(table.__getitem__, order) if row["paragraph"] not in everything)
    rows = list(islice(fit, count))
    if len(rows) < count:
        raise UserError(f"pydocs has {len(rows)} functions to search in its {split} split; {count} were asked for")
    return Retrieval(
        queries=[row["paragraph"] for row in rows],
        documents=[row["code"] for row in rows],
        relevance=[{place: 1} for place in range(count)],
        ids=[row["id"] for row in rows],
    )


def _chat(row: Mapping[str, Any]) -> dict[str, Any]:
    request = f"Write the docstring of this function:\n\n```python\n{row['code']}\n```"
    return {"messages": [{"role": "user", "content": request}, {"role": "assistant", "content": row["docstring"]}]}


def _completion(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": row["signature"] + "\n", "completion": row["summary"]}


_KEPT = ("id", "package", "module")
_RENAMED = {
    "docstrings": {"docstring": "text"},
    "pairs": {"paragraph": "anchor", "code": "positive"},
}
_MADE: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {"completion": _completion, "chat": _chat}
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")


def _made(view: str, split: str, source: Source) -> Dataset:
    import pyarrow as pa

    def build(target: Path) -> None:
        rows = ({**{name: row[name] for name in _KEPT}, **_MADE[view](row)} for row in functions(split, source))
        write_table(target, rows, pa.schema([*((name, pa.string()) for name in _KEPT), *columns]))

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    columns = {
        "completion": [("prompt", pa.string()), ("completion", pa.string())],
        "chat": [("messages", pa.list_(message))],
    }[view]
    return read_table(build_once(f"pydocs/{view}", fingerprint(source.fingerprint, split), build))


def _built(source: Source, progress: Tick | None = None) -> Path:
    def build(target: Path) -> None:
        target.mkdir()
        with patient_bar("reading the installed packages") as bar:
            _build(target, source, progress or bar)

    return build_once("pydocs/functions", source.fingerprint, build)


def _build(folder: Path, source: Source, progress: Tick) -> None:
    import pyarrow as pa

    text = ("id", "package", "module", *_TEXTS)
    schema = pa.schema([*((name, pa.string()) for name in text), ("calls", pa.list_(pa.string()))])
    found, files = modules(source.packages)
    found.sort(key=lambda module: share(module.name, salt="order"))
    outcome, kept, splits, seen = Counter[str](), Counter[str](), Counter[str](), set[str]()
    with ExitStack() as stack:
        tables = {name: stack.enter_context(TableWriter(folder / f"{name}.arrow", schema)) for name in SPLITS}
        contents = reader.read_files([module.path for module in found])
        for done, (module, content) in enumerate(zip(found, contents, strict=True), 1):
            progress(done, len(found))
            files[content["skipped"] or "read"] += 1
            outcome.update(content["dropped"])
            split = part_of(module.name, SHARES, salt="split")
            for record in content["functions"]:
                if outcome["kept"] == source.cap:
                    break
                identity = f"{module.name}:{record['qualified_name']}"
                reason = _repeats(identity, record.pop("marks"), seen)
                outcome[reason or "kept"] += 1
                if not reason:
                    tables[split].add({"id": identity, "package": module.package, "module": module.name, **record})
                    kept[module.package] += 1
                    splits[split] += 1
            if outcome["kept"] == source.cap:
                files["not needed"] = len(found) - done
                break
    summary = {"packages": versions(), "modules": files, "functions": outcome, "splits": splits, "kept": kept}
    (folder / "report.json").write_text(json.dumps(summary, indent=1, sort_keys=True))


_TEXTS = ("name", "qualified_name", "signature", "docstring", "paragraph", "summary", "code")


def _repeats(identity: str, marks: Mapping[str, str], seen: set[str]) -> str:
    """Which part of a function came up before, in words, or ""; what is new is remembered if all of it is."""
    known = {"defined twice": identity, **{f"{part} of another": f"{part} {mark}" for part, mark in marks.items()}}
    for reason, mark in known.items():
        if mark in seen:
            return reason
    seen.update(known.values())
    return ""
