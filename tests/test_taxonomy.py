"""Axes and tags: what is refused, that every system is tagged, and that tags agree with what the code declares.

.venv/bin/python -m pytest tests/test_taxonomy.py
"""

import ast
from collections import Counter
from functools import reduce
from importlib import import_module

import pytest

from stillroom import catalog
from stillroom.errors import UserError
from stillroom.taxonomy import NOTHING, Axis, Value, checked, conditions, holds, union

AXES = union(
    [
        Axis("colour", "Which?", (Value("red", "Red."), Value("dark-blue", "Blue."), Value(NOTHING, "None."))),
        Axis("size", "How large?", (Value("large", "Large."),), base=False),
    ]
)


def test_tags_come_in_the_order_of_axes_and_values():
    tags = checked("x", {"size": ["large"], "colour": ["dark-blue", "red"]}, AXES)
    assert list(tags.items()) == [("colour", ("red", "dark-blue")), ("size", ("large",))]
    assert checked("x", {"colour": ["none"]}, AXES) == {"colour": ("none",)}


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"color": ["red"]}, "x is tagged on an unknown axis 'color'; did you mean 'colour'"),
        ({"colour": ["blue"]}, "x has an unknown value 'blue' on the axis 'colour'; did you mean 'dark-blue'"),
        ({"colour": ["red", "red"]}, "x has a value twice"),
        ({"colour": ["red", "none"]}, "'none' beside others"),
        ({"size": ["large"]}, "x has no value on the axis 'colour'"),
    ],
)
def test_tags_that_are_on_no_axis_are_refused(tags, message):
    with pytest.raises(ValueError, match=message):
        checked("x", tags, AXES)


def test_an_axis_needs_names_of_their_own_in_lower_case():
    with pytest.raises(ValueError, match="'a' needs values, each with a name of its own"):
        Axis("a", "?", (Value("b", "B."), Value("b", "B again.")))
    with pytest.raises(ValueError, match="'White box' must be lower case"):
        Value("White box", "")


def test_two_axes_of_one_name_put_their_values_together():
    more = union([AXES["colour"], Axis("colour", "Other words?", (Value("green", "Green."),))])["colour"]
    assert (more.names, more.question) == (("red", "dark-blue", "none", "green"), "Which?")


def test_a_condition_holds_when_every_axis_has_one_of_its_values():
    wanted = conditions({"colour": "red", "size": ["large"]}, AXES)
    assert holds({"colour": ("red", "dark-blue"), "size": ("large",)}, wanted)
    assert not holds({"colour": ("red",)}, wanted)
    with pytest.raises(UserError, match="'large' is on the axis 'size'"):
        conditions({"colour": "large"}, AXES)


def test_tags_and_catalogue_name_the_same_systems(monkeypatch, tmp_path):
    (tmp_path / "taxonomy.toml").write_text('[nobody]\nknowledge = ["response"]\n')
    monkeypatch.setattr(catalog, "PACKAGE", tmp_path)
    monkeypatch.setattr(catalog, "_tags", catalog._tags.__wrapped__)
    with pytest.raises(ValueError, match="must name the same systems"):
        _ = catalog.find("taid").tags


@pytest.mark.parametrize("system", catalog.systems(), ids=lambda system: system.slug)
def test_every_system_answers_every_base_axis_and_the_answers_fit_together(system):
    tags = system.tags
    assert {name for name, axis in catalog.axes().items() if axis.base} <= set(tags)
    distils = tags["knowledge"] != (NOTHING,)
    for axis in ("scheme", "technique"):
        assert (tags[axis] != (NOTHING,)) == distils, axis
    if not distils:
        assert tags["transfer"] == tags["elicitation"] == tags["algorithm"] == (NOTHING,)
    if distils and tags["access"] == (NOTHING,):
        assert set(tags["scheme"]) <= {"self", "online"}  # whoever has another model for a teacher must reach it
    if tags["transfer"] == ("hint-based",):
        assert {"feature", "relation"} & set(tags["knowledge"])
    if "chain-of-thought" in tags["transfer"]:
        assert "alignment" in tags["skill"] or "generation" in tags["skill"]
    assert ("quantised" in tags["technique"]) == ("quantised" in tags["architecture"])
    assert ("searched" in tags["technique"]) == ("searched" in tags["architecture"])


BUILT = [system for system in catalog.systems() if system.state != "planned"]
INSIDE, NUMBERS = {"hidden", "attentions", "tap"}, {"logits", "embedding", "scores"}


def asked_of_the_teacher(system):
    """The kinds of signal that the file's ``Needs(...)`` calls ask the teacher for, and those of a default instance."""
    calls = [node for node in ast.walk(system.source.tree) if isinstance(node, ast.Call)]
    needs = [call for call in calls if getattr(call.func, "id", getattr(call.func, "attr", "")) == "Needs"]
    teacher = [word.value for call in needs for word in call.keywords if word.arg == "teacher"]
    texts = [node.value for part in teacher for node in ast.walk(part) if isinstance(node, ast.Constant)]
    if system.source.kind == "objective" and all(p.default is not None for p in system.source.parameters):
        plain = catalog.load(system.slug)().needs.teacher
        texts = [*texts, *plain] if plain else []  # a teacher that only another setting asks is not needed
    return {text.partition(":")[0] for text in texts if isinstance(text, str)} & (INSIDE | NUMBERS | {"text"})


@pytest.mark.parametrize("system", BUILT, ids=lambda system: system.slug)
def test_what_a_built_method_asks_of_a_teacher_is_what_its_access_says(system):
    """Where the student is its own teacher, or both are trained, nothing has to be had."""
    asked, access = asked_of_the_teacher(system), set(system.tags["access"])
    if {"self", "online"} & set(system.tags["scheme"]):
        access |= {"white-box", "grey-box", "black-box"}
    if asked & INSIDE:
        assert "white-box" in access
    if asked & NUMBERS:
        assert {"white-box", "grey-box"} & access
    if asked == {"text"}:
        assert "black-box" in access


def test_the_check_of_access_sees_what_files_declare():
    assert asked_of_the_teacher(catalog.find("gkd")) == {"logits"}
    assert asked_of_the_teacher(catalog.find("uld")) == {"logits", "text"}
    assert asked_of_the_teacher(catalog.find("minilmv2")) == {"hidden"}


REFERENCES = [value.reference for axis in catalog.axes().values() for value in axis.values if value.reference]


@pytest.mark.parametrize("name", REFERENCES)
def test_a_reference_implementation_is_there(name):
    module, _, rest = name.rpartition(".")
    assert callable(reduce(getattr, rest.split("."), import_module(module)))


def test_each_kind_of_knowledge_and_each_scheme_has_a_reference_implementation():
    for axis in ("knowledge", "scheme"):
        assert all(value.reference for value in catalog.axes()[axis].values if value.name != NOTHING)


def test_every_value_has_a_sentence_and_no_two_axes_share_one():
    texts = Counter(value.text for axis in catalog.axes().values() for value in axis.values)
    assert all(text.endswith(".") for text in texts)
    assert [text for text, count in texts.items() if count > 1 and len(text.split()) > 8] == []
