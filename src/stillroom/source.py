"""What a method's file says about itself, read without importing it.

Importing a method imports torch, which takes longer than a person waits for a page. So the docstring's paragraphs, the
parameters and the declared needs are read from the syntax tree. Where the class of a method inherits its constructor,
the base is followed through the package's own imports; a test holds all of this against what `inspect` says after a
real import.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from inspect import cleandoc
from pathlib import Path

PACKAGE = Path(__file__).parent
LABELS = ("Paper", "Idea", "Objective", "Kept and changed", "Use it when")
SIGNALS = (
    *("logits", "hidden", "attentions", "embedding", "tower", "scale", "bias", "scores", "crossed", "clean", "text"),
    "tap",
)

KINDS = {  # what a method derives from in the end, and what that makes of it
    "Objective": "objective",
    "Pipeline": "pipeline",
    "LogitsProcessor": "decoding rule",
    "TransformerMixin": "scikit-learn transformer",
    "ClassifierMixin": "scikit-learn classifier",
    "Module": "network",
}

_LABEL = re.compile(rf"^\*\*({'|'.join(LABELS)})[.:]?\*\*[.:]?\s*", re.MULTILINE)
_SIGNAL = re.compile(rf"({'|'.join(SIGNALS)})(:|$)")

Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Parameter:
    """One keyword-only parameter, as it is written in the source. ``default`` is None where the caller must choose."""

    name: str
    annotation: str
    default: str | None
    text: str


@dataclass(frozen=True)
class Source:
    """A method's file."""

    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        """The file's syntax tree."""
        return ast.parse(self.path.read_text(encoding="utf-8"), filename=str(self.path))

    @property
    def name(self) -> str:
        """The method's class or function: the first name in ``__all__``."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets
            ):
                return str(ast.literal_eval(node.value)[0])
        raise ValueError(f"{self.path} has no __all__; its first name is the method")

    @property
    def title(self) -> str:
        """The first line of the docstring."""
        return (ast.get_docstring(self.tree) or "").partition("\n")[0]

    @property
    def paragraphs(self) -> dict[str, str]:
        """The labelled paragraphs of the docstring, label to text, in the order of the file."""
        docstring = ast.get_docstring(self.tree) or ""
        marks = list(_LABEL.finditer(docstring))
        ends = [mark.start() for mark in marks[1:]] + [len(docstring)]
        return {mark[1]: docstring[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)}

    @property
    def kind(self) -> str:
        """What it is, by the class that it derives from in the end: one of `KINDS`, ``class`` or ``function``."""
        definition, source = self.find(self.name)
        while isinstance(definition, ast.ClassDef) and source.path.name != "method.py":
            base = next(iter(_bases(definition)), None)
            if base is None:
                return "class"
            try:
                definition, source = source.find(base)
            except LookupError:
                return KINDS.get(base, base)
        return KINDS[definition.name] if isinstance(definition, ast.ClassDef) else "function"

    @property
    def needs(self) -> tuple[str, ...]:
        """The kinds of signal named in the file's ``Needs(...)``, out of `SIGNALS`."""
        calls = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call) and _called(node) == "Needs"]
        found = {match[1] for call in calls for text in _strings(call) if (match := _SIGNAL.match(text))}
        return tuple(sorted(found))

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The keyword-only parameters of the method, with the text of the docstring's ``Args`` section."""
        definition, _ = self.find(self.name)
        texts = _argument_texts(ast.get_docstring(definition) or "")
        function = self._constructor(self.name) if isinstance(definition, ast.ClassDef) else definition
        if function is None:
            return ()
        texts |= _argument_texts(ast.get_docstring(function) or "")
        arguments = function.args
        return tuple(
            Parameter(
                name=argument.arg,
                annotation=ast.unparse(argument.annotation) if argument.annotation else "",
                default=ast.unparse(default) if default else None,
                text=texts.get(argument.arg, ""),
            )
            for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        )

    def find(self, name: str) -> tuple[Definition, Source]:
        """Where ``name`` is defined: in this file, or in the file of the package that it is imported from.

        Raises:
            LookupError: it is defined outside the package.
        """
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
                return node, self
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name:
                for alias in node.names:
                    if name == (alias.asname or alias.name):
                        return Source(_module_path(node.module or "")).find(alias.name)
        raise LookupError(f"{self.path} does not define {name}")

    def _constructor(self, name: str) -> ast.FunctionDef | None:
        """The ``__init__`` that ``name`` runs; None if it comes from outside the package."""
        try:
            definition, source = self.find(name)
        except LookupError:
            return None
        if not isinstance(definition, ast.ClassDef):
            return None
        for node in definition.body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                return node
        inherited = (source._constructor(base) for base in _bases(definition))
        return next((found for found in inherited if found), None)


def _module_path(module: str) -> Path:
    """The file of a module of the package, by its dotted name."""
    place = PACKAGE.parent.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _bases(definition: ast.ClassDef) -> list[str]:
    return [base.attr if isinstance(base, ast.Attribute) else ast.unparse(base) for base in definition.bases]


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _strings(node: ast.AST) -> Iterator[str]:
    """Every string under ``node``; of an f-string its literal parts, so that ``f"hidden:{n}"`` tells its kind."""
    return (item.value for item in ast.walk(node) if isinstance(item, ast.Constant) and isinstance(item.value, str))


def _argument_texts(docstring: str) -> dict[str, str]:
    """Parameter name -> text, from the ``Args:`` section of a Google-style docstring."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", docstring, re.MULTILINE | re.DOTALL)
    if not section:
        return {}
    items = re.split(r"^(?=[*\w])", cleandoc(section[1]), flags=re.MULTILINE)
    pairs = (re.match(r"([\w, ]+?)(?: \([^)]*\))?:\s+(.*)", item, re.DOTALL) for item in items)
    return {name.strip(): " ".join(pair[2].split()) for pair in pairs if pair for name in pair[1].split(",")}
