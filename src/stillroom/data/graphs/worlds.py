"""Real graphs of texts: modules and their imports, meanings and what they are kinds or parts of."""

from __future__ import annotations

import ast
import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from stillroom.data import packages
from stillroom.data.cache import build_once, fingerprint
from stillroom.data.progress import patient_bar
from stillroom.data.tables import share

_VERSION = 1  # of what is read; a change makes what is in the cache stale
LONGEST = 600  # characters of a node's text

# Ten large lexicographer files of nouns: the classes of the graph `wordnet`.
NOUNS = (
    *("noun.act", "noun.animal", "noun.artifact", "noun.body", "noun.cognition"),
    *("noun.communication", "noun.food", "noun.location", "noun.person", "noun.plant"),
)


@dataclass(frozen=True)
class TextGraph:
    """Nodes with texts.

    Attributes:
        names: of the nodes, all different.
        texts: of the nodes.
        labels: the number of each node's class.
        classes: their names.
        edges: pairs of nodes, each once.
    """

    names: list[str]
    texts: list[str]
    labels: list[int]
    classes: list[str]
    edges: list[list[int]]

    @property
    def edge_index(self) -> Tensor:
        """The edges as [2, E]."""
        return torch.tensor(self.edges, dtype=torch.long).reshape(-1, 2).T.contiguous()


def _kept(name: str, mark: str, make: object) -> TextGraph:
    def build(path: Path) -> None:
        assert callable(make)
        path.write_text(json.dumps(asdict(make())))

    return TextGraph(**json.loads(build_once(f"graphs/{name}", mark, build).read_text()))


# --- modules and what they import -------------------------------------------------------------------------------------


def imports_of(names: Sequence[str], count: int | None = None) -> TextGraph:
    """Modules with a docstring, joined where one imports the other, or a name out of it.

    A node's text is the docstring, its class the top-level package. Modules that import no other with a docstring, and
    are imported by none, are left out. Nothing is imported: files are parsed.

    Args:
        names: packages, which must be installed.
        count: at most so many modules, those that a hash of their names puts first; None for all.
    """
    installed = packages.versions()
    mark = fingerprint(_VERSION, list(names), count, sys.version_info[:2], installed)
    return _kept("imports", mark, lambda: _imports(names, count))


def _imports(names: Sequence[str], count: int | None) -> TextGraph:
    found, _ = packages.modules(names)
    files = {module.name: Path(module.path) for module in found}
    texts: dict[str, str] = {}
    wanted: dict[str, set[str]] = {}
    with patient_bar("reading modules") as tick:
        for done, (name, path) in enumerate(files.items(), 1):
            tick(done, len(files))
            try:
                tree = ast.parse(path.read_text(encoding="utf-8-sig"))
            except (SyntaxError, ValueError, RecursionError):
                continue
            if text := " ".join((ast.get_docstring(tree) or "").split()):
                texts[name] = text[:LONGEST]
                wanted[name] = set(_imported(tree, name, path.name == "__init__.py"))
    chosen = sorted(texts, key=lambda name: share(name, salt="graph"))[:count]
    inside = set(chosen)
    joined = {
        (name, target)
        for name in chosen
        for target in {_known(other, inside) for other in wanted[name]} - {None, name}
        if target is not None
    }
    pairs = sorted({(min(pair), max(pair)) for pair in joined})
    kept = sorted({name for pair in pairs for name in pair})
    place = {name: number for number, name in enumerate(kept)}
    classes = sorted({name.partition(".")[0] for name in kept})
    return TextGraph(
        names=kept,
        texts=[texts[name] for name in kept],
        labels=[classes.index(name.partition(".")[0]) for name in kept],
        classes=classes,
        edges=[[place[first], place[second]] for first, second in pairs],
    )


def _imported(tree: ast.Module, module: str, package: bool) -> Iterator[str]:
    """The dotted names that a module's import statements speak of, relative ones made absolute."""
    around = module.split(".") if package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = around[: len(around) - node.level + 1] if node.level else []
            base = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _known(name: str, modules: set[str]) -> str | None:
    """The module that a dotted name lies in: itself, or the nearest above it, no higher than its parent."""
    return next((found for found in (name, name.rpartition(".")[0]) if found in modules), None)


# --- meanings -------------------------------------------------------------------------------------------------------


def wordnet_nouns(count: int = 2000, classes: Sequence[str] = NOUNS) -> TextGraph:
    """Meanings of WordNet, joined where one is a kind, an instance or a part of the other.

    A node's text is its gloss (the definition), its class the lexicographer file. Of each file as many are taken, found
    by going out from its most frequent meaning along the edges inside the file, breadth first; where a piece is used
    up, from the next one. Meanings without any edge are left out.

    Args:
        count: of nodes, about.
        classes: lexicographer files.
    """
    from stillroom.data.wordnet import wndb

    mark = fingerprint(_VERSION, wndb.state(), count, list(classes))
    return _kept("wordnet", mark, lambda: _nouns(count, classes))


def _nouns(count: int, classes: Sequence[str]) -> TextGraph:
    from stillroom.data.wordnet import wndb

    synsets = {one.id: one for one in wndb.synsets() if one.lexicographer_file in classes}
    seen = wndb.tag_counts()
    near: dict[str, list[str]] = {name: [] for name in synsets}
    for one in synsets.values():
        for pointer in one.pointers:
            if pointer.symbol in ("@", "@i", "#m", "#s", "#p") and pointer.target in synsets:
                near[one.id].append(pointer.target)
                near[pointer.target].append(one.id)
    chosen: list[str] = []
    for name in classes:
        inside = [one for one in synsets.values() if one.lexicographer_file == name]
        often = {one.id: sum(seen.get(wndb.sense_key(one, n), 0) for n in range(len(one.words))) for one in inside}
        chosen += _outwards(sorted(often, key=lambda one: (-often[one], one)), near, set(often), count // len(classes))
    place = {name: number for number, name in enumerate(chosen)}
    pairs = {tuple(sorted((place[a], place[b]))) for a in chosen for b in near[a] if b in place}
    joined = sorted({node for pair in pairs for node in pair})
    new = {old: number for number, old in enumerate(joined)}
    kept = [synsets[chosen[node]] for node in joined]
    return TextGraph(
        names=[one.id for one in kept],
        texts=[one.definition[:LONGEST] for one in kept],
        labels=[list(classes).index(one.lexicographer_file) for one in kept],
        classes=list(classes),
        edges=[[new[a], new[b]] for a, b in sorted(pairs)],
    )


def _outwards(starts: list[str], near: Mapping[str, list[str]], inside: set[str], count: int) -> list[str]:
    """The first ``count`` nodes, breadth first from the first start, and where that ends from the next."""
    found: dict[str, None] = {}
    for start in starts:
        waiting = deque([start])
        while waiting and len(found) < count:
            one = waiting.popleft()
            if one not in found:
                found[one] = None
                waiting.extend(other for other in sorted(near[one]) if other in inside and other not in found)
    return list(found)
