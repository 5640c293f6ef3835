"""What is read off a method's file without importing it, and that a real import says the same.

.venv/bin/python -m pytest tests/test_source.py
"""

import inspect

import pytest

from stillroom import catalog, source
from stillroom.source import LABELS, Source

METHOD = '''"""Interpolated teachers.

**Paper**: Writer and Other 2025, "A title".

**Idea** Start near the student.
Then move.

**Objective** The divergence

    L = KL(p || q)

with p [B, T, V].

**Kept and changed** Nothing.

**Use it when** the gap is wide.
"""

from stillroom.signals import Needs
from stillroom.testing_base import Base as Start

__all__ = ["Moved", "helper"]


class Moved(Start):
    """Moves.

    Args:
        start: where it starts,
            in [0, 1].
        rate, end (float): both positive.

    Raises:
        ValueError: they are not.
    """

    needs = Needs(student=("logits", "hidden:-1"), teacher=tuple(f"tap:{name}" for name in ("a", "b")))


def helper(values, *, scale: float = 1e-4):
    """Not the method.

    Args:
        scale: of the values.
    """
'''

BASE = '''"""A base inside the package."""

from stillroom.method import Objective


class Base(Objective):
    """A base."""

    def __init__(self, *, start: float = 0.4, rate: "float | None" = None, end: float) -> None:
        super().__init__()
'''


@pytest.fixture
def moved(tmp_path, monkeypatch):
    package = tmp_path / "stillroom"
    package.mkdir()
    (package / "testing_base.py").write_text(BASE)
    (package / "method.py").write_text("from torch import nn\n\nclass Objective(nn.Module):\n    pass\n")
    (package / "moved.py").write_text(METHOD)
    monkeypatch.setattr(source, "PACKAGE", package)
    return Source(package / "moved.py")


def test_paragraphs_keep_their_order_and_their_indented_equation(moved):
    assert tuple(moved.paragraphs) == LABELS
    assert moved.paragraphs["Paper"] == 'Writer and Other 2025, "A title".'
    assert moved.paragraphs["Idea"] == "Start near the student.\nThen move."
    assert moved.paragraphs["Objective"] == "The divergence\n\n    L = KL(p || q)\n\nwith p [B, T, V]."
    assert moved.title == "Interpolated teachers."


def test_the_method_is_the_first_name_and_its_kind_the_base_in_the_end(moved):
    assert (moved.name, moved.kind) == ("Moved", "objective")


def test_parameters_of_an_inherited_constructor_with_their_texts(moved):
    found = [(p.name, p.annotation, p.default, p.text) for p in moved.parameters]
    assert found == [
        ("start", "float", "0.4", "where it starts, in [0, 1]."),
        ("rate", "'float | None'", "None", "both positive."),
        ("end", "float", None, "both positive."),
    ]


def test_needs_are_the_kinds_of_signal_also_out_of_f_strings(moved):
    assert moved.needs == ("hidden", "logits", "tap")


def test_a_function_is_a_method_too(moved):
    moved.path.write_text(METHOD.replace('["Moved", "helper"]', '["helper"]'))
    function = Source(moved.path)
    assert function.kind == "function"
    assert [(p.name, p.default, p.text) for p in function.parameters] == [("scale", "0.0001", "of the values.")]


def test_a_base_from_outside_the_package_is_named_and_brings_no_parameters(moved):
    moved.path.write_text('from torch import nn\n\n__all__ = ["M"]\n\nclass M(nn.Module):\n    """M."""\n')
    assert Source(moved.path).kind == "network"
    assert Source(moved.path).parameters == ()


def test_a_file_without_all_is_refused_by_name(moved):
    moved.path.write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"moved\.py has no __all__"):
        _ = Source(moved.path).name


BUILT = [system for system in catalog.systems() if system.state != "planned"]


@pytest.mark.parametrize("system", BUILT, ids=lambda system: system.slug)
def test_every_built_method_has_the_five_paragraphs_and_a_text_for_each_parameter(system):
    assert tuple(system.source.paragraphs) == LABELS
    assert all(system.source.paragraphs.values())
    assert [p.name for p in system.source.parameters if not p.text] == []


@pytest.mark.parametrize("system", BUILT, ids=lambda system: system.slug)
def test_the_source_says_what_the_imported_method_says(system):
    method = catalog.load(system.slug)
    signature = inspect.signature(method)
    real = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert [p.name for p in system.source.parameters] == real
    declared = getattr(method, "needs", None)
    if declared is not None:
        kinds = {need.partition(":")[0] for need in (*declared.student, *declared.teacher)}
        assert kinds <= set(system.source.needs)
