"""The wheel holds all that the package reads at run time, and pyproject.toml names all that the package imports.

.venv/bin/python -m pytest tests/test_packaging.py
"""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src/stillroom"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = sorted(PACKAGE.rglob("*.py"))


def plain(requirement):
    """The normalised name of a requirement."""
    return re.split(r"[\s\[<>=!~;]", requirement)[0].lower().replace("_", "-")


CORE = {plain(line) for line in PROJECT["dependencies"]}
EXTRAS = {
    plain(line)
    for name, lines in PROJECT["optional-dependencies"].items()
    if name not in ("all", "dev")
    for line in lines
}
BROUGHT_BY = packages_distributions()


def imports(tree, inside):
    """The top-level names of absolute imports: those inside functions, or all the others that run at import time."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        deeper = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(node, ast.Import) and inside is not None:
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]
        elif not (deeper and inside is False):
            yield from imports(node, inside)


def distributions(path, inside):
    """The distributions that bring the third-party names which ``path`` imports."""
    names = set(imports(ast.parse(path.read_text(encoding="utf-8")), inside))
    for name in names - set(sys.stdlib_module_names) - {"stillroom"}:
        yield name, {plain(found) for found in BROUGHT_BY.get(name, [name])}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_what_is_declared_and_at_import_time_only_the_core(path):
    assert [name for name, brought in distributions(path, inside=False) if not brought & CORE] == []
    assert [name for name, brought in distributions(path, inside=True) if not brought & (CORE | EXTRAS)] == []


def test_every_pin_is_exact_and_every_direct_dependency_is_pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    direct = CORE | {plain(line) for lines in PROJECT["optional-dependencies"].values() for line in lines}
    assert direct - {plain(pin) for pin in pins} == {"stillroom"}


def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    wanted = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {f"stillroom/{path.relative_to(PACKAGE).as_posix()}" for path in wanted} <= packed
    assert {"stillroom/catalog.toml", "stillroom/py.typed"} <= packed
    assert any(name.endswith("licenses/LICENSE") for name in packed)
