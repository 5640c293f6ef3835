"""Every command and Python block of README.md and docs/ runs as it stands, and the site is built from what is there.

A block with a title is a file, written before the blocks that follow. A block is left out only with a comment on the
line before it: `<!-- not run: needs network -->`, `needs GPU` or `long`.
The blocks of a page run in order in one temporary folder, so that a command may use what an earlier one made.

.venv/bin/python -m pytest tests/test_docs.py
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from stillroom import catalog
from stillroom.cli.app import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("README.md"), *ROOT.glob("docs/**/*.md")])
REASONS = ("needs network", "needs GPU", "long")
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]*?) -->\n)?"
    r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Block:
    """A fenced block of a page."""

    language: str
    code: str
    reason: str | None
    title: str | None

    @property
    def programs(self):
        """The command lines that run it: a Python block as a whole, of a shell block each line that calls stillroom."""
        if self.title or self.language not in ("bash", "console", "python"):
            return []
        if self.language == "python":
            return [[sys.executable, "-c", self.code]]
        lines = self.code.replace("\\\n", " ").splitlines()
        calls = (shlex.split(line.strip().removeprefix("$ "), comments=True) for line in lines)
        return [[sys.executable, "-m", *call] for call in calls if call[:1] == ["stillroom"]]


def blocks(text):
    return [Block(**match.groupdict()) for match in BLOCK.finditer(text)]


def test_what_counts_as_a_block():
    text = (
        "```bash\nstillroom show taid # a comment\n$ stillroom methods \\\n  --json\npip install x\n```\n\ntext\n"
        '<!-- not run: long -->\n```python\nprint(1)\n```\n```yaml title="a.yaml"\na: 1\n```\n```text\nx\n```\n'
    )
    shell, python, file, plain = blocks(text)
    assert [call[2:] for call in shell.programs] == [["stillroom", "show", "taid"], ["stillroom", "methods", "--json"]]
    assert (python.language, python.reason, python.programs[0][1:]) == ("python", "long", ["-c", "print(1)\n"])
    assert (file.title, file.code, file.programs, plain.programs) == ("a.yaml", "a: 1\n", [], [])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_the_page_runs(page, tmp_path, capsys):
    if (ROOT / "examples").is_dir():
        (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
        "HF_HUB_OFFLINE": "1",
    }
    found = blocks(page.read_text(encoding="utf-8"))
    assert all(block.reason is None or block.reason in REASONS for block in found), f"reasons are {', '.join(REASONS)}"
    for block in found:
        if block.title:
            (tmp_path / block.title).write_text(block.code, encoding="utf-8")
        for program in block.programs if block.reason is None else ():
            done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{shlex.join(program[1:])}\n{done.stdout}{done.stderr}"
    skipped = [block.reason for block in found if block.reason]
    run = sum(bool(block.programs) and block.reason is None for block in found)
    with capsys.disabled():
        left_out = f", not run: {', '.join(skipped)}" if skipped else ""
        sys.stdout.write(f"\n{page.relative_to(ROOT)}: {run} blocks run{left_out}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_of_the_command_line_tells_of_every_command(command):
    assert f"`stillroom {command}" in (ROOT / "docs/command-line.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def docs():
    """The script tools/docs.py."""
    spec = importlib.util.spec_from_file_location("docs_tool", ROOT / "tools/docs.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")  # as mkdocs does
        spec.loader.exec_module(module)
    return module


def test_a_page_for_each_family_and_each_built_method_and_none_for_a_planned_one(docs):
    written = dict(docs.pages())
    built = {f"methods/{row.slug}.md" for row in catalog.systems() if row.state != "planned"}
    assert set(written) == {
        "atlas.md",
        "catalogue.md",
        "taxonomy.md",
        *(f"families/{family}.md" for family in catalog.families()),
        *built,
    }
    assert "| `vqgraph` |" in written["families/graphs.md"] or "[`vqgraph`]" in written["families/graphs.md"]


def test_the_family_table_counts_what_is_there(docs):
    rows = docs.family_table({"graphs": "g.md"}).splitlines()
    assert len(rows) == 2 + 14 + 1
    assert [row.split(" | ")[0] for row in rows if "graphs" in row] == ["| [graphs](g.md)"]
    assert any(row.startswith("| vision |") for row in rows)
    built = sum(row.state != "planned" for row in catalog.systems())
    measured = len(catalog.systems(state="reproduced"))
    assert rows[-1] == f"| **all** |  | 222 | {built} | {measured} |"


def test_the_readme_table_is_replaced_between_its_markers(docs):
    text = "a\n<!-- families: written by tools/docs.py -->\nold\n<!-- end of families -->\nb\n"
    new = docs.readme(text)
    assert docs.readme(new) == new
    assert (new.startswith("a\n<!--"), new.endswith("<!-- end of families -->\nb\n"), "old" in new) == (
        True,
        True,
        False,
    )
    with pytest.raises(ValueError, match="lacks the markers"):
        docs.readme("nothing here")


def test_the_readme_table_is_up_to_date(docs):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert docs.readme(text) == text, "run: .venv/bin/python tools/docs.py"


def test_the_site_builds_without_a_warning_and_takes_nothing_from_another_host(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 14
    remote = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"?(?:https?:)?//|<link[^>]+rel=\"?stylesheet[^>]+href=\"?(?:https?:)?//"
    )
    assert [page for page in pages if remote.search(page.read_text(encoding="utf-8"))] == []
