"""The documented functions of Python files, read from their text with `ast`; nothing is imported or executed.

Needs the standard library alone, and is also a program: it reads a JSON list of file names from stdin and writes a JSON
list of what `read_file` says of each to stdout. So `read_files` can use several processes whatever state its caller is
in: nothing is forked, and the caller's own script is not imported a second time.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from inspect import cleandoc
from itertools import takewhile
from pathlib import Path
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef

_FILES_A_PROCESS = 400
FEWEST_WORDS = 4
"""A docstring whose first paragraph has fewer words says nothing that the function's name does not."""

_GENERATED = re.compile(
    r"auto[- ]?generated|automatically generated|generated (by|from|using)|do not edit", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_LETTERS = re.compile(r"[^\W\d_]+")
_SECTION = re.compile(
    r"((args|arguments|parameters|params|returns?|raises|yields|examples?|notes?)\s*:?\s*$)"
    r"|:(param|parameter|arg|type|returns?|rtype|raises?)\b|>>>|\.\. |@(param|return)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(.+?[.!?])(?=\s+[A-Z`\"'(\[]|$)")


def read_files(paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """`read_file` of each, in order, read by as many processes as there are processors."""
    groups = [paths[start : start + _FILES_A_PROCESS] for start in range(0, len(paths), _FILES_A_PROCESS)]
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for contents in pool.map(_read_elsewhere, groups):
            yield from contents
    finally:
        pool.shutdown(cancel_futures=True)


def _read_elsewhere(paths: Sequence[str]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "ignore", __file__],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"reading Python files failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def read_file(path: str) -> dict[str, Any]:
    """What a file holds.

    Returns:
        ``functions``: for each the columns that `stillroom.data.pydocs` documents, from ``name`` to ``calls``, and
        ``marks`` that tell copies; ``dropped``: reason -> how many documented functions were left out for it;
        ``skipped``: the reason why the whole file was, or "".
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        if _GENERATED.search(text, 0, 2000):
            return {"skipped": "generated", "functions": [], "dropped": {}}
        if '"""' not in text and "'''" not in text:
            return {"skipped": "", "functions": [], "dropped": {}}
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return {"skipped": "unreadable", "functions": [], "dropped": {}}
    functions, dropped = [], Counter[str]()
    lines = text.split("\n")  # not splitlines: the parser counts only these
    for name, node in _definitions(tree.body, ""):
        docstring = ast.get_docstring(node, clean=False)
        if docstring is None:
            continue
        record, reason = _describe(name, node, cleandoc(docstring), lines)
        if reason:
            dropped[reason] += 1
        else:
            functions.append(record)
    return {"skipped": "", "functions": functions, "dropped": dict(dropped)}


def summary_of(paragraph: str) -> str:
    """The first sentence of a paragraph that stands on one line."""
    found = _SENTENCE.match(paragraph)
    return found.group(1) if found else paragraph


def one_line(text: str) -> str:
    """The text with every run of white space made one space."""
    return " ".join(text.split())


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Function]]:
    """Functions of a module and methods of its classes, also under ``if`` and ``try``; none inside functions."""
    for node in body:
        if isinstance(node, Function):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _definitions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, (ast.If, ast.Try)):
            yield from _definitions(node.body, prefix)
            yield from _definitions(node.orelse, prefix)


def _describe(name: str, node: Function, docstring: str, lines: list[str]) -> tuple[dict[str, Any], str]:
    """The function's columns, or the reason why it is left out."""
    paragraph = _first_paragraph(docstring)
    if not _WORD.search(docstring):
        return {}, "no words"
    if not paragraph:
        return {}, "no summary"
    if len(_WORD.findall(paragraph)) < FEWEST_WORDS:
        return {}, "too short"
    if all(isinstance(part, ast.Pass | ast.Raise) or _is_constant(part) for part in node.body[1:]):
        return {}, "no code"
    code = _code_without_docstring(node, lines)
    if code is None:
        return {}, "unusual layout"
    flat = one_line(code)
    if summary_of(paragraph) in flat or paragraph in flat:
        return {}, "docstring repeated in the code"
    record = {
        "name": node.name,
        "qualified_name": name,
        "signature": _signature(node),
        "docstring": docstring,
        "paragraph": paragraph,
        "summary": summary_of(paragraph),
        "code": code,
        "calls": _calls(node),
        "marks": _marks(docstring, paragraph, code),
    }
    return (record, "") if _is_text(docstring + code) else ({}, "not text")


def _first_paragraph(docstring: str) -> str:
    """On one line, up to an empty line or the first section (``Args:``, ``:param``, ``>>>``)."""
    lines = takewhile(lambda line: line.strip() and not _SECTION.match(line.strip()), docstring.split("\n"))
    return one_line(" ".join(lines))


def _marks(docstring: str, paragraph: str, code: str) -> dict[str, str]:
    """What a copy of this function has in common with it, by what it would be a copy of; hashes."""
    texts = {"docstring": docstring, "first paragraph": paragraph, "code": code.partition("(")[2]}
    return {what: sha256(" ".join(_LETTERS.findall(text.lower())).encode()).hexdigest() for what, text in texts.items()}


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_text(text: str) -> bool:
    """False for half a surrogate pair, which Python strings can hold and no file can."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _code_without_docstring(node: Function, lines: list[str]) -> str | None:
    """The text from ``def`` on, without decorators and docstring; None if the docstring shares a line with code."""
    written = node.body[0]
    first, last = lines[written.lineno - 1], lines[(written.end_lineno or 0) - 1]
    before = first.encode()[: written.col_offset]
    after = last.encode()[written.end_col_offset :].strip()
    if before.strip() or (after and not after.startswith(b"#")):
        return None
    end = node.end_lineno or 0
    start = next((at for at in range(written.end_lineno or 0, end) if lines[at].strip()), end)
    kept = [*range(node.lineno - 1, written.lineno - 1), *range(start, end)]
    inside = _inside_strings(node, [lines[at] for at in kept]) if node.col_offset else set()
    return "\n".join(lines[at] if at in inside else _outdented(lines[at], node.col_offset) for at in kept).rstrip()


def _outdented(line: str, margin: int) -> str:
    return line if line[:margin].strip() else line[margin:]


def _inside_strings(node: Function, lines: list[str]) -> set[int]:
    """The places of lines that begin inside a string, whose white space is part of the string."""
    text = "\n".join(lines)
    if not any(mark in text for mark in ('"""', "'''", "\\\n")):
        return set()
    parts = [part for top in (node.args, *node.body[1:]) for part in ast.walk(top)]
    strings = [part for part in parts if isinstance(part, ast.Constant | ast.JoinedStr)]
    return {at for part in strings for at in range(part.lineno, part.end_lineno or 0)}


def _signature(node: Function) -> str:
    """``def name(arguments) -> annotation:`` on one line."""
    bare = type(node)(**{**{field: getattr(node, field) for field in node._fields}, "body": [], "decorator_list": []})
    return ast.unparse(ast.copy_location(bare, node))


def _calls(node: Function) -> list[str]:
    """The names that the function calls, as written (``self.fit``, ``np.dot``), each once and sorted."""
    found = {_dotted(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)}
    return sorted(found - {""})


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


if __name__ == "__main__":
    gc.disable()  # a syntax tree has no garbage before it is dropped, and looking for some doubles the time
    json.dump([read_file(path) for path in json.load(sys.stdin)], sys.stdout)
