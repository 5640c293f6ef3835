"""Logical forms over the facts: typed s-expressions with lambda, read, checked and evaluated without SQL.

    form      = (lambda VARIABLE TYPE condition)                the set of all that the condition holds of
              | (argmax VARIABLE TYPE condition number)         those with the largest number; argmin alike
              | (exists VARIABLE TYPE condition) | number | text
    condition = (RELATION term term) | (exists VARIABLE TYPE condition)
              | (and condition condition ...) | (or condition condition ...) | (not condition)
              | (= term term) | (> number number) | (< number number)
    number    = 8000000 | (FUNCTION term ...) | (count VARIABLE TYPE condition) | (sum VARIABLE TYPE condition number)
    term      = VARIABLE | TYPE:name | number | text

Variables are $0, $1, ...; a name is the English one in small letters, ``country:cote_d_ivoire``. Relations and
functions with their types are in `RELATIONS` and `FUNCTIONS`. Every form has one type, found before it is evaluated.
The evaluation tries things one after the other: those that a relation to something known leaves, or all of a type.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from stillroom.data.cldr import world
from stillroom.errors import UserError, nearest

Tree = str | list["Tree"]

TYPES = ("country", "region", "group", "currency", "language", "script", "city")
RELATIONS: dict[str, tuple[str, str]] = {
    "in": ("country", "region"),
    "located": ("country", "region"),
    "member": ("country", "group"),
    "uses": ("country", "currency"),
    "official": ("country", "language"),
    "spoken": ("country", "language"),
    "city": ("country", "city"),
    "written": ("language", "script"),
}
"""``in`` is of every region around a country, ``located`` of the smallest; ``uses`` is of today's currencies."""
FUNCTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "population": (("country",), "number"),
    "gdp": (("country",), "number"),
    "literacy": (("country",), "number"),
    "share": (("country", "language"), "number"),
    "code": (("country",), "text"),
}
"""Name -> types of its arguments, and of its value. ``share`` is 0 where the CLDR knows of no speakers."""

_BINDERS = ("lambda", "exists", "count", "argmax", "argmin", "sum")
_LONGEST, _DEEPEST, _MOST_STEPS = 2000, 20, 300_000
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class _Model:
    things: Mapping[str, Mapping[str, str]]  # type -> name -> id
    relations: Mapping[str, frozenset[tuple[str, str]]]
    related: Mapping[tuple[str, int], Mapping[str, list[str]]]  # relation, place of what is sought -> the other -> it
    functions: Mapping[str, Mapping[tuple[str, ...], Any]]


def entity(kind: str, name: str) -> str:
    """How a thing is written in a form: ``entity("country", "Côte d’Ivoire")`` is ``country:cote_d_ivoire``."""
    plain = unicodedata.normalize("NFKD", name)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter)).lower()
    return f"{kind}:{re.sub(r'[^a-z0-9]+', '_', plain).strip('_')}"


def parse(text: str) -> Tree:
    """The nested lists that a form is.

    Raises:
        UserError: the parentheses don't match, or the form is too long or too deep.
    """
    if len(text) > _LONGEST:
        raise UserError(f"a logical form may have {_LONGEST} characters; this has {len(text)}")
    stack: list[list[Tree]] = [[]]
    for token in re.findall(r"[()]|[^\s()]+", text):
        if token == "(":
            stack.append([])
            if len(stack) > _DEEPEST:
                raise UserError(f"a logical form may be {_DEEPEST} deep")
        elif token == ")":
            if len(stack) == 1 or not stack[-1]:
                raise UserError(f"the parentheses of the logical form {text!r} don't match")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    if len(stack) != 1 or len(stack[0]) != 1:
        raise UserError(f"a logical form is one expression whose parentheses match; found {text!r}")
    return stack[0][0]


def type_of(tree: Tree, bound: Mapping[str, str] | None = None) -> str:
    """The type of a form: ``set of country``, ``number``, ``text``, ``truth``, or a type of things for a term.

    Raises:
        UserError: it has none, and why.
    """
    bound = bound or {}
    if isinstance(tree, str):
        return _type_of_word(tree, bound)
    head, rest = tree[0], tree[1:]
    if not isinstance(head, str):
        raise UserError("an expression begins with a name, not with an expression")
    if head in _BINDERS:
        return _type_of_binder(head, rest, bound)
    if head in ("and", "or", "not"):
        if (len(rest) != 1) if head == "not" else (len(rest) < 2):
            raise UserError(f"'{head}' takes {'one condition' if head == 'not' else 'two or more conditions'}")
        _expect(head, rest, ["truth"] * len(rest), bound)
        return "truth"
    if head == "=":
        _expect(head, rest, [type_of(rest[0], bound)] * 2 if rest else ["number"] * 2, bound)
        return "truth"
    signatures = {
        **dict.fromkeys("<>", (("number", "number"), "truth")),
        **{name: (types, "truth") for name, types in RELATIONS.items()},
        **FUNCTIONS,
    }
    if head not in signatures:
        raise UserError(f"there is no {head!r} in logical forms{nearest(head, (*signatures, *_BINDERS))}")
    types, result = signatures[head]
    _expect(head, rest, types, bound)
    return result


def _type_of_word(word: str, bound: Mapping[str, str]) -> str:
    if word in bound:
        return bound[word]
    if _NUMBER.fullmatch(word):
        return "number"
    kind, colon, name = word.partition(":")
    if colon and kind in TYPES:
        if name not in _model().things[kind]:
            raise UserError(f"there is no {kind} {name!r}{nearest(name, _model().things[kind])}")
        return kind
    raise UserError(f"{word!r} is neither a bound variable, nor a number, nor a thing like 'country:peru'")


def _type_of_binder(head: str, rest: list[Tree], bound: Mapping[str, str]) -> str:
    numbers = ["number"] if head in ("argmax", "argmin", "sum") else []
    if len(rest) != 3 + len(numbers):
        raise UserError(f"'{head}' takes a variable, a type, a condition{' and a number' if numbers else ''}")
    variable, kind = rest[:2]
    if not isinstance(variable, str) or not re.fullmatch(r"\$\d+", variable):
        raise UserError(f"'{head}' begins with a variable like $0")
    if not isinstance(kind, str) or kind not in TYPES:
        raise UserError(f"'{head}' names one of the types {', '.join(TYPES)} after its variable")
    _expect(head, rest[2:], ["truth", *numbers], {**bound, variable: kind})
    return {"exists": "truth", "count": "number", "sum": "number"}.get(head, f"set of {kind}")


def _expect(head: str, found: list[Tree], types: Any, bound: Mapping[str, str]) -> None:
    have = [type_of(part, bound) for part in found]
    if have != list(types):
        raise UserError(f"'{head}' takes {', '.join(types)}; found {', '.join(have) or 'nothing'}")


def answer(text: str) -> list[Any]:
    """What a form says: the ids of a set's things, sorted; or one number, text, or true or false.

    Raises:
        UserError: it is not a form, has no type, or takes too many steps.
    """
    tree = parse(text)
    kind = type_of(tree)
    if kind in TYPES:
        raise UserError(f"a logical form asks something; {text!r} only names a {kind}")
    found = _Evaluation(_model()).value(tree, {})
    return sorted(found) if kind.startswith("set of ") else [found]


class _Evaluation:
    def __init__(self, model: _Model) -> None:
        self._model, self._steps = model, 0

    def value(self, tree: Tree, bound: dict[str, str]) -> Any:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise UserError("the logical form takes too many steps; use fewer variables in each other")
        if isinstance(tree, str):
            return self._word(tree, bound)
        head, rest = str(tree[0]), tree[1:]
        if head in _BINDERS:
            return self._binder(head, rest, bound)
        if head in ("and", "or"):
            return (all if head == "and" else any)(self.value(part, bound) for part in rest)
        if head == "not":
            return not self.value(rest[0], bound)
        values = tuple(self.value(part, bound) for part in rest)
        if head == "=":
            return values[0] == values[1]
        if head in "<>":
            return values[0] < values[1] if head == "<" else values[0] > values[1]
        if head in RELATIONS:
            return values in self._model.relations[head]
        return self._model.functions[head].get(values, 0)

    def _word(self, word: str, bound: Mapping[str, str]) -> Any:
        if word in bound:
            return bound[word]
        if _NUMBER.fullmatch(word):
            return float(word) if "." in word else int(word)
        kind, _, name = word.partition(":")
        return self._model.things[kind][name]

    def _binder(self, head: str, rest: list[Tree], bound: dict[str, str]) -> Any:
        variable, kind, condition = str(rest[0]), str(rest[1]), rest[2]
        tried = self._candidates(variable, kind, condition, bound)
        found = (key for key in tried if self.value(condition, {**bound, variable: key}))
        if head == "exists":
            return any(True for _ in found)
        if head == "count":
            return sum(1 for _ in found)
        if head == "lambda":
            return list(found)
        numbers = {key: self.value(rest[3], {**bound, variable: key}) for key in found}
        if head == "sum":
            return sum(numbers.values())
        best = (max if head == "argmax" else min)(numbers.values(), default=None)
        return [key for key, number in numbers.items() if number == best]

    def _candidates(self, variable: str, kind: str, condition: Tree, bound: dict[str, str]) -> Iterable[str]:
        """What may fulfil the condition: where it relates the variable to something known, only what that leaves."""
        parts = condition[1:] if isinstance(condition, list) and condition[0] == "and" else [condition]
        for part in parts:
            if isinstance(part, list) and part[0] in RELATIONS and variable in part[1:]:
                first, second = part[1:]
                known = second if first == variable else first
                if known != variable and isinstance(known, str) and (known in bound or not known.startswith("$")):
                    place = 0 if first == variable else 1
                    return self._model.related[str(part[0]), place].get(self._word(known, bound), ())
        return self._model.things[kind].values()


@cache
def _model() -> _Model:
    tables = world().tables
    listed = {kind: tables[name] for kind, name in zip(TYPES, _TABLES, strict=True)}
    things: dict[str, dict[str, str]] = {}
    for kind, rows in listed.items():
        things[kind] = {entity(kind, name).partition(":")[2]: key for key, name, *_ in rows}
        if len(things[kind]) != len(rows):
            raise AssertionError(f"two things of the type {kind} have one name")
    people = {row[0]: row for row in tables["countries"]}
    languages = tables["country_languages"]
    relations = {
        "in": tables["country_regions"],
        "located": [(row[0], row[3]) for row in people.values()],
        "member": tables["country_groups"],
        "uses": [row[:2] for row in tables["country_currencies"] if row[3] is None],
        "official": [row[:2] for row in languages if row[3] == "official"],
        "spoken": [row[:2] for row in languages],
        "city": [(country, zone) for zone, _, country in tables["cities"]],
        "written": [(language, script) for language, _, script in tables["languages"]],
    }
    functions = {
        "population": {(key,): row[4] for key, row in people.items()},
        "gdp": {(key,): row[5] for key, row in people.items()},
        "literacy": {(key,): row[6] for key, row in people.items()},
        "code": {(key,): row[2] for key, row in people.items()},
        "share": {row[:2]: row[2] for row in languages},
    }
    pairs = {name: frozenset((row[0], row[1]) for row in rows) for name, rows in relations.items()}
    related: dict[tuple[str, int], dict[str, list[str]]] = {}
    for name, found in pairs.items():
        for place in (0, 1):
            sought = related.setdefault((name, place), {})
            for pair in sorted(found):
                sought.setdefault(pair[1 - place], []).append(pair[place])
    return _Model(things, pairs, related, functions)


_TABLES = ("countries", "regions", "groups", "currencies", "languages", "scripts", "cities")
