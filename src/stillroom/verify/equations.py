"""Expressions and systems of equations that a model wrote: read by a whitelist, computed and solved exactly.

The syntax tree is Python's, and nothing else of Python: numbers, names, ``+ - * /``, ``**`` and parentheses. Decimals
are exact (0.1 is a tenth). Linear systems, which nearly all are, are solved here by elimination; others by SymPy, in a
limited process, since some of them would take it for ever.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

from stillroom.verify.limited import ERROR, NO_ANSWER, REFUSED, SECONDS, UNREADABLE, Failed, limited

LONGEST = 2000  # characters of a system; of an expression half as many
DEEPEST = 100  # levels of an expression
EQUATIONS = 50
POWER = 64  # the largest exponent
DIGITS = 400  # of any number on the way


class _WrongError(Exception):
    """What was written can't be read, is not allowed, or has no value."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.failed = Failed(reason, detail)


class _NotLinearError(Exception):
    """A product or a power of unknowns."""


@dataclass
class _Linear:
    """constant + the sum of each factor times its unknown."""

    constant: Fraction
    factors: dict[str, Fraction] = field(default_factory=dict)


def value_of(expression: str) -> Fraction | Failed:
    """The exact value of an expression of numbers.

    Args:
        expression: numbers with ``+ - * /``, ``**``, signs and parentheses.
    """
    try:
        found = _linear(_parse(expression, LONGEST // 2))
    except _WrongError as wrong:
        return wrong.failed
    except _NotLinearError:
        return Failed(REFUSED, "an unknown in it")
    return Failed(REFUSED, f"the unknown {next(iter(found.factors))}") if found.factors else found.constant


def solve(system: str, unknown: str = "ans", *, seconds: float = SECONDS) -> Fraction | Failed:
    """The value of one unknown in a system of equations, where they leave it only one.

    Args:
        system: an equation ``left = right`` a line (or between semicolons); names are unknowns. What follows a ``#`` is
            a comment.
        unknown: the one that is asked for. The others need not have one value.
        seconds: for systems that are not linear.

    Returns:
        Its value; exact, or of the nearest double where it is irrational. A `Failed` where the system can't be read,
        lacks the unknown, contradicts itself, or leaves it more than one value.
    """
    try:
        pairs = _pairs(system)
        if unknown not in {name for pair in pairs for side in pair for name in _names(side)}:
            return Failed(NO_ANSWER, f"no unknown {unknown!r}")
        try:
            return _eliminate(pairs, unknown)
        except _NotLinearError:
            found = limited("equations", {"system": system, "unknown": unknown}, seconds=seconds)
    except _WrongError as wrong:
        return wrong.failed
    if isinstance(found, Failed):
        return found
    return Fraction(found["number"]) if "number" in found else Failed(*found["failed"])


# --- reading ----------------------------------------------------------------------------------------------------------


def _parse(text: str, longest: int) -> ast.expr:
    if len(text) > longest:
        raise _WrongError(UNREADABLE, f"longer than {longest} characters")
    if _depth(text) > DEEPEST:  # before the parser, whose own stack is not deep
        raise _WrongError(UNREADABLE, f"more than {DEEPEST} parentheses in each other")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _WrongError(UNREADABLE, f"no expression: {text.strip()[:60]!r} ({type(error).__name__})") from None


def _depth(text: str) -> int:
    depth = most = 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        most = max(most, depth)
    return most


def _pairs(system: str) -> list[tuple[ast.expr, ast.expr]]:
    """Both sides of each equation."""
    if len(system) > LONGEST:
        raise _WrongError(UNREADABLE, f"longer than {LONGEST} characters")
    lines = [line.partition("#")[0].strip() for line in re.split(r"[\n;]", system)]
    lines = [line for line in lines if line]
    if not lines or len(lines) > EQUATIONS:
        raise _WrongError(UNREADABLE, f"{len(lines)} equations; there may be 1 to {EQUATIONS}")
    pairs = []
    for line in lines:
        left, equals, right = line.partition("=")
        if not equals or not left.strip() or not right.strip() or "=" in right:
            raise _WrongError(UNREADABLE, f"no equation: {line[:60]!r}")
        pairs.append((_parse(left, LONGEST), _parse(right, LONGEST)))
    return pairs


def _names(node: ast.expr) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


_OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_SIGNS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}


def _fold(
    node: ast.expr, number: Callable[[Fraction], Any], name: Callable[[str], Any], join: Callable[..., Any]
) -> Any:
    """Put together what an expression is made of; the only way from text to anything that computes.

    Raises:
        _WrongError: anything in it but numbers, names and the few operations.
    """
    stack = 0

    def walk(part: ast.expr) -> Any:
        nonlocal stack
        stack += 1
        if stack > DEEPEST * 3:
            raise _WrongError(UNREADABLE, "too many operations in each other")
        try:
            if isinstance(part, ast.Constant) and type(part.value) in (int, float):
                return number(_exact(part.value))
            if isinstance(part, ast.Name):
                return name(part.id)
            if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.USub):
                return join("-", number(Fraction(0)), walk(part.operand))
            if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.UAdd):
                return walk(part.operand)
            if isinstance(part, ast.BinOp) and type(part.op) in _SIGNS:
                return join(_SIGNS[type(part.op)], walk(part.left), walk(part.right))
        finally:
            stack -= 1
        raise _WrongError(REFUSED, f"{type(part).__name__} in an expression")

    return walk(node)


def _exact(value: Any) -> Fraction:
    """The number as it is written, where the tree has rounded it to a double."""
    if isinstance(value, int):
        return _small(Fraction(value))
    if abs(value) > 1e100:
        raise _WrongError(REFUSED, "a number beyond 1e100")
    return Fraction(repr(value))


def _small(value: Fraction) -> Fraction:
    if max(abs(value.numerator), value.denominator) >= 10**DIGITS:
        raise _WrongError(REFUSED, f"a number of more than {DIGITS} digits")
    return value


# --- linear systems ---------------------------------------------------------------------------------------------------


def _linear(node: ast.expr) -> _Linear:
    """A linear expression.

    Raises:
        _NotLinearError: it is not linear.
        _WrongError: it is not allowed, or divides by zero.
    """
    return _fold(node, lambda value: _Linear(value), lambda name: _Linear(Fraction(0), {name: Fraction(1)}), _join)


def _join(sign: str, left: _Linear, right: _Linear) -> _Linear:
    if sign in "+-":
        factor = Fraction(1 if sign == "+" else -1)
        names = dict.fromkeys([*left.factors, *right.factors])
        summed = {
            name: _small(left.factors.get(name, Fraction(0)) + factor * right.factors.get(name, Fraction(0)))
            for name in names
        }
        constant = _small(left.constant + factor * right.constant)
        return _Linear(constant, {name: value for name, value in summed.items() if value})
    if sign == "*" and right.factors:
        left, right = right, left
    if right.factors or (sign == "**" and left.factors):
        raise _NotLinearError
    if sign == "**":
        return _Linear(_power(left.constant, right.constant))
    if sign == "/" and not right.constant:
        raise _WrongError(ERROR, "a division by zero")
    by = right.constant if sign == "*" else 1 / right.constant
    factors = {name: _small(value * by) for name, value in left.factors.items() if by}
    return _Linear(_small(left.constant * by), factors)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or abs(exponent) > POWER:
        raise _WrongError(REFUSED, f"an exponent that is not whole, or beyond {POWER}")
    if not base and exponent < 0:
        raise _WrongError(ERROR, "a division by zero")
    if max(abs(base.numerator), base.denominator) ** abs(exponent.numerator) >= 10**DIGITS:
        raise _WrongError(REFUSED, f"a number of more than {DIGITS} digits")
    return base**exponent.numerator


def _eliminate(pairs: list[tuple[ast.expr, ast.expr]], unknown: str) -> Fraction | Failed:
    """Gauss and Jordan, with exact numbers: each row becomes an unknown's value, as far as it has one."""
    rows = [_join("-", _linear(left), _linear(right)) for left, right in pairs]
    solved: dict[str, _Linear] = {}  # unknown -> the row that begins with it, whose factor is 1
    for row in rows:
        for name, known in solved.items():
            if name in row.factors:
                row = _join("-", row, _join("*", known, _Linear(row.factors[name])))
        if not row.factors:
            if row.constant:
                return Failed(NO_ANSWER, "the equations contradict each other")
            continue
        first = next(iter(row.factors))
        row = _join("/", row, _Linear(row.factors[first]))
        for name, known in solved.items():
            if first in known.factors:
                solved[name] = _join("-", known, _join("*", row, _Linear(known.factors[first])))
        solved[first] = row
    found = solved.get(unknown)
    if found is None or len(found.factors) > 1:
        return Failed(NO_ANSWER, f"the equations leave {unknown!r} open")
    return -found.constant


# --- other systems, in a limited process ------------------------------------------------------------------------------


def task(given: Mapping[str, Any]) -> Callable[[], Any]:
    """What the limited process does with a system that is not linear."""
    return partial(_solved, given["system"], given["unknown"])


def warm() -> None:
    """Have SymPy import what solving takes, once for all systems."""
    _solved("x * y = 6\nx - y = 1", "x")
    _solved("ans ** 2 = 2\nans = x", "ans")


def _solved(system: str, unknown: str) -> dict[str, Any]:
    import sympy

    def number(value: Fraction) -> Any:
        return sympy.Rational(value.numerator, value.denominator)

    def join(sign: str, left: Any, right: Any) -> Any:
        if sign == "**":
            if not (right.is_Integer and abs(right) <= POWER):
                raise _WrongError(REFUSED, f"an exponent that is not whole, or beyond {POWER}")
            return left**right
        if sign == "/" and right == 0:
            raise _WrongError(ERROR, "a division by zero")
        return {"+": left + right, "-": left - right, "*": left * right, "/": left / right if right != 0 else None}[
            sign
        ]

    try:
        sides = [[_fold(side, number, sympy.Symbol, join) for side in pair] for pair in _pairs(system)]
    except _WrongError as wrong:
        return {"failed": (wrong.failed.reason, wrong.failed.detail)}
    asked = sympy.Symbol(unknown)
    solutions = sympy.solve([left - right for left, right in sides], dict=True)
    values = {solution.get(asked, asked) for solution in solutions}
    real = [value for value in values if value.free_symbols or value.is_real]
    if len(real) != 1 or real[0].free_symbols:
        return {"failed": (NO_ANSWER, f"{len(real)} values of {unknown!r}, or an open one")}
    if real[0].is_Rational:
        return {"number": str(real[0])}
    return {"number": str(Fraction(float(real[0].evalf(17))))}
