"""Programs that a model wrote: a small part of Python, read by a whitelist and run in a limited process.

What there is: numbers, lists and tuples, assignments, arithmetic, comparisons, ``if``, ``for``, ``while``,
comprehensions, and calls of a few functions by name. What there is not: imports, attributes, definitions, texts, files,
and every name that begins with two underscores. Loops may run, and end with their time.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any

from stillroom.verify.limited import ERROR, MEMORY, NO_ANSWER, REFUSED, SECONDS, UNREADABLE, Failed, limited

LONGEST = 4000  # characters of a program

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "bool": bool, "ceil": math.ceil, "divmod": divmod, "float": float, "floor": math.floor,
    "gcd": math.gcd, "int": int, "len": len, "list": list, "max": max, "min": min, "pow": pow,
    "print": lambda *_: None, "range": range, "round": round, "sorted": sorted, "sqrt": math.sqrt, "sum": sum,
    "tuple": tuple,
}  # fmt: skip
"""What a program may call."""

_ALLOWED: tuple[type[ast.AST], ...] = (
    ast.Module, ast.Assign, ast.AugAssign, ast.Expr, ast.If, ast.For, ast.While, ast.Break, ast.Continue, ast.Pass,
    ast.Constant, ast.Name, ast.Load, ast.Store, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call,
    ast.List, ast.Tuple, ast.Subscript, ast.ListComp, ast.GeneratorExp, ast.comprehension, ast.operator, ast.unaryop,
    ast.boolop, ast.cmpop,
)  # fmt: skip


def run_program(
    program: str, unknown: str = "ans", *, seconds: float = SECONDS, memory: int = MEMORY
) -> Fraction | Failed:
    """The number that a program assigns to a variable.

    Args:
        program: Python of the kind described above. Nothing in it is trusted.
        unknown: the variable.
        seconds: after which it is ended.
        memory: bytes that it may take.

    Returns:
        The variable's value at the end; a `Failed` where the program can't be read, does what is not allowed, ends in
        an error, takes too long or too much, or leaves the variable without a finite number.
    """
    given = {"program": program, "unknown": unknown}
    found = limited("program", given, seconds=seconds, memory=memory)
    if isinstance(found, Failed):
        return found
    return Fraction(found["number"]) if "number" in found else Failed(*found["failed"])


def task(given: Mapping[str, Any]) -> Callable[[], Any]:
    """What the limited process does; reading is part of it, since a text may be made to exhaust the parser."""
    return partial(_ran, given["program"], given["unknown"])


def _ran(program: str, unknown: str) -> dict[str, Any]:
    if len(program) > LONGEST:
        return _failed(UNREADABLE, f"longer than {LONGEST} characters")
    try:
        tree = ast.parse(program)
        if (why := forbidden(tree)) is not None:
            return _failed(REFUSED, why)
        code = compile(tree, "<program>", "exec")
    except (SyntaxError, ValueError, RecursionError) as error:
        return _failed(UNREADABLE, f"{type(error).__name__}: {error}"[:200])
    names: dict[str, Any] = {"__builtins__": dict(FUNCTIONS)}
    try:
        exec(code, names)
    except MemoryError:
        raise
    except Exception as error:
        return _failed(ERROR, f"{type(error).__name__}: {error}"[:200])
    return _number(names.get(unknown), unknown)


def forbidden(tree: ast.AST) -> str | None:
    """What in a program is not allowed, in a few words; None where all of it is."""
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            return type(node).__name__
        if isinstance(node, ast.Constant) and type(node.value) not in (int, float, bool):
            return f"a constant of the type {type(node.value).__name__}"
        if isinstance(node, ast.Name) and node.id.startswith("__"):
            return f"the name {node.id}"
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS):
            return "a call of something else than " + ", ".join(sorted(FUNCTIONS))
        if isinstance(node, ast.comprehension) and node.is_async:
            return "async"
    return None


def _number(value: Any, unknown: str) -> dict[str, Any]:
    if type(value) not in (int, float):
        return _failed(NO_ANSWER, f"{unknown!r} is {'missing' if value is None else 'a ' + type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        return _failed(NO_ANSWER, f"{unknown!r} is {value}")
    try:
        return {"number": str(Fraction(value))}
    except ValueError:  # too many digits to be written
        return _failed(NO_ANSWER, f"{unknown!r} has too many digits")


def _failed(reason: str, detail: str) -> dict[str, Any]:
    return {"failed": (reason, detail)}
