"""stillroom distils large models into small ones, and measures what survived.

The public API is seven verbs, imported when they are first used, so that ``import stillroom`` costs nothing::

    run = stillroom.distill(teacher=..., student=..., data=..., method="taid")

A verb may also be a subpackage: ``stillroom.evaluate(...)`` runs, and ``from stillroom.evaluate import ...`` reaches
its parts.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillroom.api import distill as distill
    from stillroom.api import label as label
    from stillroom.api import plan as plan

__version__ = "0.1.0"

_VERBS = {
    "distill": "stillroom.api:distill",
    "plan": "stillroom.api:plan",
    "label": "stillroom.api:label",
    "evaluate": "stillroom.measuring:evaluate",
    "reproduce": "stillroom.reproduce:reproduce",
    "export": "stillroom.export:export_onnx",
    "methods": "stillroom.catalog:systems",
}
__all__ = [*_VERBS]


def _function(verb: str) -> Any:
    module, _, name = _VERBS[verb].partition(":")
    return getattr(import_module(module), name)


class _Verb(ModuleType):
    """A submodule that can be called by its own name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _function(self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Package(ModuleType):
    """This package: a submodule that the import system hangs into it becomes a verb, whoever imported it first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _VERBS and isinstance(value, ModuleType):
            value.__class__ = _Verb
        super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name not in _VERBS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    submodule = f"{__name__}.{name}"
    return import_module(submodule) if find_spec(submodule) else _function(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Package
