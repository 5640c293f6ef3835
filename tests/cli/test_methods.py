"""`stillroom methods` and `stillroom show`, and how the command line answers wrong use and failure.

.venv/bin/python -m pytest tests/cli/test_methods.py
"""

import json
import shutil
from types import SimpleNamespace

import pytest
import typer

from stillroom import catalog, source
from stillroom.cli import app
from stillroom.errors import UserError

TAID = '''"""A line.

**Paper** Somebody 2025.

**Idea** Move the teacher.

**Objective** KL(p || q).

**Kept and changed** Nothing.

**Use it when** the gap is wide.
"""

__all__ = ["Taid"]


class Taid(Objective):
    """Taid.

    Args:
        start: in [0, 1].
        end: in [0, 1].
    """

    needs = Needs(student=("logits",), teacher=("logits",))

    def __init__(self, *, start: float = 0.4, end: float) -> None: ...
'''


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A package with one built method."""
    for name in ("catalog.toml", "taxonomy.toml"):
        shutil.copy(source.PACKAGE / name, tmp_path)
    monkeypatch.setattr(source, "PACKAGE", tmp_path)
    monkeypatch.setattr(catalog, "PACKAGE", tmp_path)
    (tmp_path / "methods/language").mkdir(parents=True)
    (tmp_path / "methods/language/taid.py").write_text(TAID)
    return tmp_path


@pytest.fixture
def stillroom(capsys):
    def call(*arguments):
        code = app.run(arguments)
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return call


@pytest.fixture
def faulty(monkeypatch):
    """Let `stillroom plan` raise."""

    def install(error):
        def command() -> None:
            raise error

        monkeypatch.setattr(app, "import_module", lambda name: SimpleNamespace(command=command))

    return install


def test_methods_lists_every_row_once_and_counts_them_aside(stillroom):
    answer = stillroom("methods")
    lines = answer.out.splitlines()
    assert answer.code == 0
    assert [sum(line.split()[:1] == [row.slug] for line in lines) for row in catalog.systems()] == [1] * 222
    assert answer.err.startswith("222 systems: ")


def test_methods_filters_and_speaks_json(shelf, stillroom):
    answer = stillroom("methods", "--family", "language", "--needs", "logits", "--json")
    assert json.loads(answer.out) == [
        {
            "slug": "taid",
            "number": catalog.find("taid").number,
            "family": "language",
            "title": catalog.find("taid").title,
            "state": "implemented",
            "kind": "objective",
            "needs": ["logits"],
            "tags": {axis: list(values) for axis, values in catalog.find("taid").tags.items()},
        }
    ]
    planned = json.loads(stillroom("methods", "--family", "graphs", "--json").out)
    assert [row["state"] for row in planned] == ["planned"] * 4
    assert planned[0]["needs"] is None


def test_methods_filters_by_several_axes_of_the_taxonomy(stillroom):
    asked = ("methods", "--where", "access=black-box,grey-box", "--where", "ships=graph-model", "--json")
    (row,) = json.loads(stillroom(*asked).out)
    assert (row["slug"], row["tags"]["access"], row["tags"]["ships"]) == ("llp", ["grey-box"], ["graph-model"])
    answer = stillroom("methods", "--where", "access=black-box", "--where", "skill=recommendation")
    assert (answer.code, answer.out, answer.err[:10]) == (0, "", "0 systems:")


def test_methods_lists_the_axes_and_counts_the_systems_asked_for(stillroom):
    answer = stillroom("methods", "--axes", "--family", "graphs", "--json")
    counts = {(row["axis"], row["value"]): row["systems"] for row in json.loads(answer.out)}
    assert counts["ships", "graph-model"] == 4 and counts["scheme", "offline"] == 4 and counts["scheme", "online"] == 0
    assert [axis for axis, _ in counts if axis == "access"] == ["access"] * 4
    table = stillroom("methods", "--axes").out
    assert "multi-teacher" in table and "Several teachers are averaged" in table


def test_methods_with_nothing_to_show(shelf, stillroom):
    answer = stillroom("methods", "--family", "graphs", "--state", "reproduced")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == "0 systems: 0 planned, 0 implemented, 0 reproduced\n"


def test_show_a_built_method(shelf, stillroom):
    answer = stillroom("show", "taid")
    assert answer.code == 0
    assert catalog.find("taid").title in answer.out
    for part in ("Move the teacher.", "KL(p || q).", "the gap is wide.", "0.4", "required", "in [0, 1]."):
        assert part in answer.out
    assert "from stillroom.methods.language.taid import Taid" in answer.out
    assert "not yet: stillroom reproduce taid" in answer.out


RESULT = {
    "slug": "taid",
    "claim": "TAID beats forward KL.",
    "metric": "accuracy",
    "higher_is_better": True,
    "versus": "forward_kl",
    "seeds": [0, 1],
    "systems": {
        "teacher": {"values": [0.9, None]},
        "taid": {"values": [0.5, 0.6], "mean": 0.55, "std": 0.0707},
    },
    "seconds": 12.3,
    "date": "2026-01-02",
    "versions": {"stillroom": "0.1.0", "torch": "2.13.0", "transformers": "5.17.0"},
    "command": "stillroom reproduce taid --seeds 2",
    "comparison": {"difference": 0.05, "interval": [-0.1, 0.2], "p": 0.31},
    "verdict": "inconclusive",
}


def test_show_a_measured_method(shelf, stillroom):
    (shelf / "results").mkdir()
    (shelf / "results/taid.json").write_text(json.dumps(RESULT))
    answer = stillroom("show", "taid").out
    assert answer.split("Measured\n")[1].splitlines() == [
        "  inconclusive: TAID beats forward KL.",
        "  accuracy, higher is better",
        "    teacher  0.9, not measured",
        "    taid     0.55 ± 0.071 (0.5, 0.6)",
        "  taid - forward_kl: +0.05, 95% interval [-0.1, +0.2], p = 0.31",
        "  2026-01-02, seeds 0, 1, 12 s, stillroom 0.1.0, torch 2.13.0, transformers 5.17.0",
        "  again: stillroom reproduce taid --seeds 2",
    ]
    assert json.loads(stillroom("show", "taid", "--json").out)["result"] == RESULT


def test_show_a_planned_system_says_so_and_nothing_more(shelf, stillroom):
    answer = stillroom("show", "vqgraph")
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "vqgraph",
        catalog.find("vqgraph").title,
        "family graphs, not yet built: planned",
        "",
        "Taxonomy",
        *(f"  {axis:<12}  {', '.join(values)}" for axis, values in catalog.find("vqgraph").tags.items()),
    ]
    assert "  access        white-box" in answer.out.splitlines()
    assert json.loads(stillroom("show", "vqgraph", "--json").out)["state"] == "planned"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "tiad"), "there is no system 'tiad' in the catalogue; did you mean 'taid'?"),
        (
            ("methods", "--where", "acces=none"),
            f"there is no axis 'acces' among {', '.join(catalog.axes())}; did you mean 'access'?",
        ),
        (
            ("methods", "--where", "access=blackbox"),
            "the axis 'access' has no value 'blackbox' among white-box, grey-box, black-box, none; did you mean "
            "'black-box'?",
        ),
        (
            ("methods", "--where", "access"),
            "--where takes AXIS=VALUE or AXIS=VALUE,VALUE, such as access=black-box; it was 'access'",
        ),
        (
            ("methods", "--where", "access=none", "--where", "access=black-box"),
            "--where names the axis 'access' twice; write its values as access=VALUE,VALUE",
        ),
        (("metods",), "No such command 'metods'. Did you mean 'methods'? (`stillroom --help` tells more)"),
        (("show",), "Missing argument 'slug'. (`stillroom show --help` tells more)"),
        (
            ("methods", "--stat", "planned"),
            "No such option: --stat (Possible options: --state) (`stillroom methods --help` tells more)",
        ),
    ],
)
def test_wrong_use_is_one_sentence_on_stderr_and_exits_with_2(stillroom, arguments, sentence):
    answer = stillroom(*arguments)
    assert (answer.code, answer.out, answer.err) == (2, "", sentence + "\n")


def test_without_a_command_the_help_is_shown(stillroom):
    answer = stillroom()
    assert answer.code == 2
    assert all(name in answer.out for name in app.COMMANDS)


def test_a_user_error_exits_with_2(stillroom, faulty):
    faulty(UserError("this needs a teacher"))
    assert stillroom("plan").err == "this needs a teacher\n"
    assert stillroom("plan").code == 2


def test_an_unexpected_error_is_one_sentence_and_exits_with_1(stillroom, faulty):
    faulty(RuntimeError("shapes differ\nand more"))
    answer = stillroom("plan")
    assert answer.code == 1
    assert answer.err == "failed: RuntimeError: shapes differ (`stillroom --debug plan ...` shows where)\n"


def test_debug_shows_the_traceback(stillroom, faulty, monkeypatch):
    monkeypatch.setenv("STILLROOM_DEBUG", "")
    faulty(RuntimeError("shapes differ"))
    answer = stillroom("--debug", "plan")
    assert answer.code == 1
    assert answer.err.startswith("Traceback (most recent call last):")
    assert answer.err.splitlines()[-1] == "RuntimeError: shapes differ"


def test_ctrl_c_exits_with_130_and_a_sentence(stillroom, faulty):
    faulty(KeyboardInterrupt())
    answer = stillroom("plan")
    assert (answer.code, answer.err) == (130, "stopped by Ctrl-C\n")


def test_a_command_that_failed_in_its_own_words(stillroom, faulty):
    faulty(typer.Exit(1))
    answer = stillroom("plan")
    assert (answer.code, answer.err) == (1, "")


@pytest.mark.parametrize("name", app.COMMANDS)
def test_every_command_of_the_table_can_be_asked_for_help(stillroom, name):
    answer = stillroom(name, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert f"Usage: stillroom {name}" in answer.out
