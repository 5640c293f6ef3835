"""pydocs: what is read is what stands in the source, nothing leaks between splits, and no query stands in its document.

Run: pytest tests/data/test_data_pydocs.py
"""

import ast
import importlib
import inspect
import json
import re
import sys
from pathlib import Path

import pytest

from stillroom.data import check, functions, load, pydocs, recognise
from stillroom.data.functions import read_file, read_files
from stillroom.data.pydocs import Source
from stillroom.errors import UserError

SPLITS = ("train", "validation", "test")

FILE = '''
"""A module."""

class Box:
    @property
    def size(self, unit: str = "mm",
             *, exact=False) -> float:
        """How large the box is, e.g. in mm. A second sentence.

        Args:
            unit: of the result.
        """
        # a comment that stays
        other.convert(self.width, unit)
        return self.measure(unit)["size"]().strip()

if True:
    def template(self):
        """Give the letter's text, as it is sent."""
        return """Dear reader,
            this is indented
        and this less."""

    async def fetch(url):
        r"""Fetch a page and
        give its text."""

        def inner():
            """A function inside a function is not read."""
            return 1

        return await get(url)

def short():
    """Too short."""
    return 1

def signs():
    """-- ** --"""
    return 1

def listed(x):
    """
    Args:
        x: a number that is given back
    """
    return x

def empty(x):
    """Nothing is done in this function."""
    raise NotImplementedError

def repeated(x):
    """The text of this docstring comes again."""
    print("The text of this docstring comes again.")

def squeezed(x): """A docstring beside its own function."""; return x

def half(x):
    """A docstring with half a pair \\ud800 inside."""
    return x

def silent(x):
    return x
'''


def test_a_file_is_read_function_by_function(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(FILE)
    content = read_file(str(path))
    size, template, fetch = content["functions"]
    assert template["code"] == (
        'def template(self):\n    return """Dear reader,\n            this is indented\n        and this less."""'
    )
    assert size["qualified_name"] == "Box.size"
    assert size["name"] == "size"
    assert size["signature"] == "def size(self, unit: str='mm', *, exact=False) -> float:"
    assert size["docstring"].startswith("How large the box is, e.g. in mm. A second sentence.\n\nArgs:\n    unit:")
    assert size["paragraph"] == "How large the box is, e.g. in mm. A second sentence."
    assert size["summary"] == "How large the box is, e.g. in mm."
    assert size["code"] == (
        'def size(self, unit: str = "mm",\n         *, exact=False) -> float:\n    # a comment that stays\n'
        '    other.convert(self.width, unit)\n    return self.measure(unit)["size"]().strip()'
    )
    assert size["calls"] == ["other.convert", "self.measure"]
    assert fetch["signature"] == "async def fetch(url):"
    assert fetch["paragraph"] == "Fetch a page and give its text."
    assert "A function inside" in fetch["code"]
    assert content["dropped"] == {
        "too short": 1,
        "no words": 1,
        "no summary": 1,
        "no code": 1,
        "docstring repeated in the code": 1,
        "unusual layout": 1,
        "not text": 1,
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# This file was automatically generated, do not edit\n" + FILE, "generated"),
        ('def f(:\n    """broken"""', "unreadable"),
        ('x = 1\n"""only a module"""\n', ""),
        ("x = " + "(" * 500 + '"""deep"""' + ")" * 500, "unreadable"),
    ],
)
def test_whole_files_are_skipped_for_a_reason(tmp_path, text, reason):
    path = tmp_path / "module.py"
    path.write_text(text)
    content = read_file(str(path))
    assert (content["skipped"], content["functions"]) == (reason, [])


def test_many_files_keep_their_order_and_carriage_returns_and_form_feeds_do_no_harm(tmp_path, monkeypatch):
    monkeypatch.setattr(functions, "_FILES_A_PROCESS", 50)
    paths = []
    for number in range(120):
        path = tmp_path / f"m{number}.py"
        text = f'x = "\f"\n\f\ndef f():\n    """Give the number {number} to the caller."""\n    return {number}\n'
        path.write_bytes(text.replace("\n", "\r\n").encode() if number % 2 else text.encode())
        paths.append(str(path))
    found = [content["functions"][0] for content in read_files(paths)]
    assert [row["code"] for row in found] == [f"def f():\n    return {number}" for number in range(120)]


@pytest.fixture(scope="module")
def tables(small):
    return {split: pydocs.functions(split, small) for split in SPLITS}


@pytest.fixture(scope="module")
def rows(tables):
    return [row for table in tables.values() for row in table]


def test_there_are_rows_in_each_split(tables):
    assert all(len(table) > 20 for table in tables.values())


def test_code_is_the_function_in_the_source_without_docstring_and_decorators(rows):
    sources = {}
    for row in rows:
        if row["module"] not in sources:
            sources[row["module"]] = _definitions(ast.parse(_path(row["module"]).read_text("utf-8")))
        node = sources[row["module"]][row["qualified_name"]]
        node.decorator_list, node.body = [], node.body[1:]
        assert ast.dump(ast.parse(row["code"]).body[0]) == ast.dump(node)
        signature = ast.parse(row["signature"] + " ...").body[0]
        assert ast.dump(signature.args) == ast.dump(node.args)


def _path(module):
    package, *rest = module.split(".")
    path = Path(importlib.util.find_spec(package).origin).parent.joinpath(*rest)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _definitions(tree):
    """Qualified name -> the first definition under it, by another road than the loader's: parents are looked up."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names, above = [node.name], parents[node]
            while not isinstance(above, ast.Module):
                names += [above.name] if isinstance(above, ast.ClassDef | ast.FunctionDef) else []
                above = parents[above]
            found.setdefault(".".join(reversed(names)), []).append(node)
    return {name: min(nodes, key=lambda node: (not _documented(node), node.lineno)) for name, nodes in found.items()}


def _documented(node):
    return ast.get_docstring(node) is not None


def test_docstrings_are_those_that_python_shows(rows):
    for row in [row for row in rows if row["package"] == "jinja2"][:60]:
        value = importlib.import_module(row["module"])
        for name in row["qualified_name"].split("."):
            value = inspect.getattr_static(value, name)
        assert inspect.getdoc(value) == row["docstring"]


def test_no_module_docstring_paragraph_or_code_crosses_or_repeats(tables, rows):
    modules = [set(table["module"]) for table in tables.values()]
    assert not (modules[0] & modules[1] or modules[0] & modules[2] or modules[1] & modules[2])
    for column in ("id", "docstring", "paragraph", "code"):
        plain = [re.sub(r"[\W\d_]+", " ", row[column].lower()) if column != "id" else row[column] for row in rows]
        assert len(set(plain)) == len(plain), column


def test_summaries_begin_the_docstring(rows):
    for row in rows:
        assert row["paragraph"].startswith(row["summary"])
        assert " ".join(row["docstring"].split()).startswith(row["paragraph"])
        assert row["summary"] not in " ".join(row["code"].split())


def test_the_report_counts_everything(small, tables):
    report = pydocs.report(small)
    assert report["functions"]["kept"] == sum(len(table) for table in tables.values())
    assert report["splits"] == {split: len(table) for split, table in tables.items()}
    assert sum(report["kept"].values()) == report["functions"]["kept"]
    assert set(report["kept"]) == set(small.packages)
    assert report["modules"]["read"] > 80
    assert {"too short", "no code", "docstring of another"} <= set(report["functions"])
    assert report["packages"]["rich"]


@pytest.mark.parametrize(
    ("view", "format"), [("docstrings", "text"), ("pairs", "pair"), ("completion", "completion"), ("chat", "chat")]
)
def test_views_are_rows_of_their_format(view, format, small, tables):
    table = load("pydocs", view=view, split="validation", packages=small.packages)
    assert recognise(table.column_names) == format
    assert table["id"][:] == tables["validation"]["id"][:]
    for row in table:
        check(row, format, row["id"])
    function, row = tables["validation"][0], table[0]
    expected = {
        "docstrings": {"text": function["docstring"]},
        "pairs": {"anchor": function["paragraph"], "positive": function["code"]},
        "completion": {"prompt": function["signature"] + "\n", "completion": function["summary"]},
    }
    if view == "chat":
        assert function["code"] in row["messages"][0]["content"]
        assert row["messages"][1] == {"role": "assistant", "content": function["docstring"]}
    else:
        assert expected[view].items() <= row.items()


def test_a_second_build_gives_the_same_rows_and_tells_its_progress(tables, small, tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path))
    told = []
    again = pydocs.functions("train", small, progress=lambda done, total: told.append((done, total)))
    assert again.to_list() == tables["train"].to_list()
    assert told[-1][0] == told[-1][1] == len(told)


def test_a_module_stays_in_its_split_when_others_are_read_too(tables):
    fewer = Source(packages=("jinja2",))
    for split in SPLITS:
        assert set(pydocs.functions(split, fewer)["module"]) <= set(tables[split]["module"])


def test_a_cap_is_kept_and_takes_a_part_of_all_packages(small):
    report = pydocs.report(Source(small.packages, cap=200))
    assert report["functions"]["kept"] == 200
    assert report["modules"]["not needed"] > 0
    assert len(report["kept"]) == 3


def test_the_fingerprint_follows_the_packages(small, monkeypatch):
    before = small.fingerprint
    assert Source(("rich",)).fingerprint != before != Source(small.packages, cap=10).fingerprint
    monkeypatch.setattr(pydocs, "versions", lambda: {"rich": "999"})
    assert small.fingerprint != before


def test_queries_do_not_stand_in_the_documents(small, tables):
    task = pydocs.retrieval("train", 150, seed=1, source=small)
    assert len(task.queries) == len(task.documents) == len(task.relevance) == len(set(task.ids)) == 150
    flat = [" ".join(document.split()) for document in task.documents]
    assert not [query for query in task.queries if any(query in document for document in flat)]
    functions = {row["id"]: row for row in tables["train"]}
    for query, gains in zip(task.queries, task.relevance, strict=True):
        (place,) = gains
        function = functions[task.ids[place]]
        assert (query, task.documents[place]) == (function["paragraph"], function["code"])
        assert ast.get_docstring(ast.parse(task.documents[place]).body[0]) is None
        assert task.documents[place].startswith(("def ", "async def "))


def test_retrieval_is_drawn_by_seed_from_its_split_alone(small, tables):
    first = pydocs.retrieval("test", 20, seed=0, source=small)
    assert first == pydocs.retrieval("test", 20, seed=0, source=small)
    assert first.ids != pydocs.retrieval("test", 20, seed=1, source=small).ids
    assert set(first.ids) <= set(tables["test"]["id"])
    with pytest.raises(UserError, match=r"pydocs has \d+ functions to search in its test split; 100000 were asked for"):
        pydocs.retrieval("test", 100_000, source=small)


def test_the_vocabulary_counts_words_of_training_docstrings(small, tables):
    words = pydocs.vocabulary(50, small)
    assert len(words) == 50
    assert list(words.values()) == sorted(words.values(), reverse=True)
    text = " ".join(tables["train"]["docstring"]).lower()
    for word in list(words)[:5]:
        assert words[word] == len(re.findall(rf"(?<![^\W\d_]){word}(?![^\W\d_]|'[a-z])", text))


def test_unknown_packages_name_the_nearest():
    with pytest.raises(UserError, match="the package 'jinja' is not installed; did you mean 'jinja2'"):
        pydocs.functions("train", Source(("jinja",)))


def test_nothing_is_imported_or_executed(tmp_path, monkeypatch):
    package = tmp_path / "site" / "dangerous"
    package.mkdir(parents=True)
    mark = tmp_path / "executed"
    body = '    """Give back what the caller has put in."""\n    return x\n'
    (package / "__init__.py").write_text(f"open({str(mark)!r}, 'w')\n\ndef f(x):\n{body}")
    (package / "tests").mkdir()
    (package / "tests" / "test_x.py").write_text("def g(x):\n" + body.replace("Give", "Test"))
    info = tmp_path / "site" / "dangerous-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dangerous\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("dangerous\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    report = pydocs.report(Source(("dangerous",)))
    assert report["functions"] == {"kept": 1}
    assert report["modules"] == {"read": 1, "tests folder": 1}
    assert not mark.exists()
    assert "dangerous" not in sys.modules
    json.dumps(report)
