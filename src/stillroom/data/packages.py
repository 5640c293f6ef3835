"""Which Python packages are installed, and where their modules lie. Nothing is imported."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from stillroom.errors import UserError, nearest

LEFT_OUT = {
    "test": "tests folder",
    "tests": "tests folder",
    "_vendor": "vendored copy",
    "vendor": "vendored copy",
    "vendored": "vendored copy",
    "extern": "vendored copy",
}


@dataclass(frozen=True)
class Module:
    """A source file: the top-level import name, the dotted name, the path and its size in bytes."""

    package: str
    name: str
    path: str
    bytes: int


def versions() -> dict[str, str]:
    """Every installed distribution with its version, sorted by name."""
    return dict(sorted((item.name, item.version) for item in metadata.distributions()))


def modules(packages: Sequence[str] | None = None) -> tuple[list[Module], Counter[str]]:
    """The source files of the installed packages, without tests and vendored copies.

    Args:
        packages: top-level import names; all that are installed if not given.

    Returns:
        The modules, sorted by name, and how many files were left out for which reason.

    Raises:
        UserError: a package is not installed.
    """
    owners = {name: item for item in metadata.distributions() for name in _top_levels(item)}
    for name in packages or ():
        if name not in owners:
            raise UserError(f"the package {name!r} is not installed{nearest(name, owners)}")
    found, left_out = [], Counter[str]()
    for package in sorted(packages or owners):
        top = Path(str(owners[package].locate_file(package)))
        for path in _sources(top):
            parts = (package, *path.relative_to(top).parts) if path.is_relative_to(top) else (path.name,)
            reason = next((LEFT_OUT[part] for part in parts[1:-1] if part in LEFT_OUT), "")
            if not reason and path.name.startswith(("test_", "conftest.")):
                reason = "tests folder"
            if reason:
                left_out[reason] += 1
            else:
                name = ".".join(parts).removesuffix(".py").removesuffix(".__init__")
                found.append(Module(package, name, str(path), path.stat().st_size))
    return sorted(found, key=lambda module: module.name), left_out


def _top_levels(item: metadata.Distribution) -> set[str]:
    """The names that a distribution brings for import, by its list of files and by its own word."""
    listed = re.findall(r"^(\w+)(?:/.*)?\.py,", item.read_text("RECORD") or "", re.MULTILINE)
    return {name for name in (*listed, *(item.read_text("top_level.txt") or "").split()) if not name.startswith("__")}


def _sources(top: Path) -> Iterator[Path]:
    single = top.with_name(top.name + ".py")
    if single.is_file():
        yield single
    for folder, _, names in os.walk(top):
        yield from (Path(folder, name) for name in names if name.endswith(".py"))
