"""Starting is quick: what a person waits for before anything happens.

.venv/bin/python -m pytest tests/cli/test_start.py
"""

import resource
import subprocess
import sys

import pytest


def processor_seconds(arguments):
    """What a whole process costs. Starting waits for nothing, so on an idle machine this is what a person waits."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.mark.parametrize(
    ("bar", "arguments"),
    [
        (0.3, ("-c", "import stillroom")),
        (0.4, ("-m", "stillroom", "--help")),
        (0.5, ("-m", "stillroom", "methods", "--family", "language")),
    ],
    ids=["import", "help", "methods"],
)
def test_it_starts_within(bar, arguments):
    assert min(processor_seconds(arguments) for _ in range(5)) <= bar


def test_importing_stillroom_imports_nothing_heavy():
    code = "import stillroom, stillroom.cli.app, sys; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert {"torch", "transformers", "datasets", "numpy", "pydantic", "yaml", "rich.table"}.isdisjoint(modules)


def test_python_m_stillroom_passes_the_exit_code_on():
    wrong = subprocess.run([sys.executable, "-m", "stillroom", "show", "no-such-thing"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.count("\n") == 1
