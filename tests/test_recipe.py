"""Recipes: short forms, defaults, overrides, fingerprints; wrong ones are in tests/cli/test_bad_input.py.

.venv/bin/python -m pytest tests/test_recipe.py
"""

import pytest
import yaml

from stillroom import catalog
from stillroom.checks import build_method, check_group, check_labels
from stillroom.errors import UserError
from stillroom.method import Objective
from stillroom.recipe import Method, Recipe, check, read, task_of

SHORT = {"name": "r", "teacher": "big", "student": "small", "data": "rows.jsonl", "method": "taid"}


def test_the_short_form_means_the_long_one():
    long = {
        "name": "r",
        "task": "language",
        "teacher": {"model": "big"},
        "student": {"model": "small"},
        "data": {"train": [{"source": "rows.jsonl"}]},
        "method": {"name": "taid"},
    }
    assert check(SHORT) == check(long)


@pytest.mark.parametrize(
    ("data", "sources"),
    [
        ("a", ["a"]),
        (["a", {"source": "b", "limit": 3}], ["a", "b"]),
        ({"source": "a", "view": "chat"}, ["a"]),
        ({"train": "a", "validation": "v"}, ["a"]),
        ({"train": ["a", "b"]}, ["a", "b"]),
    ],
)
def test_data_may_be_named_in_many_ways(data, sources):
    found = check(SHORT | {"data": data}).data
    assert [source.source for source in found.train] == sources
    assert (found.validation is not None) == (data == {"train": "a", "validation": "v"})


@pytest.mark.parametrize(
    ("method", "task"),
    [("taid", "language"), ("forward_kl", "language"), ("distilcse", "embeddings"), ("margin-mse", "bi-encoder")],
)
def test_the_task_is_that_of_the_methods_family_unless_it_is_named(method, task):
    assert check(SHORT | {"method": method}).task == task_of(method) == task
    assert check(SHORT | {"method": {"name": method}}).task == task
    assert check(SHORT | {"method": method, "task": "image"}).task == "image"


def test_against_takes_names_a_list_or_parameters():
    names = [method.name for method in check(SHORT | {"against": "sft,untrained"}).against]
    assert names == ["sft", "untrained"]
    (jsd,) = check(SHORT | {"against": [{"name": "jsd", "beta": 0.1}]}).against
    assert (jsd.name, jsd.parameters) == ("jsd", {"beta": 0.1})


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("train.steps=7", lambda recipe: recipe.train.steps == 7),
        ("train.learning_rate=1e-3", lambda recipe: recipe.train.learning_rate == 0.001),
        ("method.start=0.5", lambda recipe: recipe.method.parameters == {"start": 0.5}),
        ("teacher.cache=true", lambda recipe: recipe.teacher.cache and recipe.teacher.model == "big"),
        ("student.max_length=64", lambda recipe: recipe.student.max_length == 64 and recipe.student.model == "small"),
        ("data.limit=5", lambda recipe: recipe.data.train[0].limit == 5),
        ("against=[sft, untrained]", lambda recipe: len(recipe.against) == 2),
        ("name=other", lambda recipe: str(recipe.folder) == "runs/other"),
        ("teacher=null", lambda recipe: recipe.teacher is None),
    ],
)
def test_overrides_reach_every_corner(tmp_path, override, found):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in SHORT.items() if key != "name"}))
    assert read(path).name == "r"
    assert found(read(path, [override]))


def test_the_resolved_recipe_is_the_recipe(tmp_path):
    recipe = check(SHORT | {"against": ["sft", {"name": "jsd", "beta": 0.2}], "train": {"steps": 3}})
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    again = read(tmp_path / "r.yaml")
    assert again == recipe and again.fingerprint == recipe.fingerprint
    assert "weight_decay: 0.01" in recipe.to_yaml()


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"name": "other"}, True),
        ({"output": "elsewhere"}, True),
        ({"against": "sft"}, True),
        ({"train": {"log_every": 3, "save_every": 9, "keep": 5, "device": "cpu"}}, True),
        ({"train": {"learning_rate": 0.1}}, False),
        ({"train": {"seed": 1}}, False),
        ({"train": {"evaluate_every": 3}}, False),  # chooses the weights that are kept
        ({"method": {"name": "taid", "start": 0.3}}, False),
        ({"teacher": {"model": "big", "top_k": 5}}, False),
        ({"data": {"source": "rows.jsonl", "split": "train"}}, False),
        ({"student": {"model": "small", "max_length": 9}}, False),
    ],
)
def test_the_fingerprint_is_of_what_weights_depend_on(change, same):
    assert (check(SHORT | change).fingerprint == check(SHORT).fingerprint) == same


@pytest.mark.parametrize(
    ("keys", "teacher", "student"),
    [
        ({}, "big", "small"),
        ({"teacher": {"group": {"de": "a", "fr": "b"}, "route": "language"}}, "de + fr", "small"),
        ({"student": {"cut": {"layers": [0]}}}, "big", "cut of the teacher"),
        ({"student": {"cut": {"of": "x/y"}}}, "big", "cut of x/y"),
        ({"student": {"new": {"architecture": "llama"}}}, "big", "new"),
    ],
)
def test_what_teacher_and_student_are_called(keys, teacher, student):
    recipe = check(SHORT | keys)
    assert (recipe.teacher.title, recipe.student.title) == (teacher, student)


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ({}, "either model or group"),
        ({"model": "a", "group": {"b": "c"}}, "either model or group"),
        ({"group": {"a": "x", "b": "y"}, "mix": {"a": 1, "b": -1}}, "a weight >= 0 for each of a, b"),
        ({"group": {"a": "x"}, "mix": {"a": 0}}, "one above 0"),
        ({"group": {"a": "x"}, "route": "r", "mix": {"a": 1}}, "either route"),
        ({"group": {"a": "x"}, "route": "r", "endpoint": "http://x"}, "neither endpoint nor cache"),
        ({"model": "a", "nucleus": 0.9, "codec": "topk16"}, "leave out nucleus, or take codec: packed"),
        ({"model": "a", "epsilon_cutoff": 0.1, "codec": "topk8"}, "leave out epsilon_cutoff"),
        ({"model": "a", "nucleus": 1.5}, "less than 1"),
        ({"model": "a", "sampled": 9, "top_k": 5, "nucleus": 0.5}, "leave out top_k and nucleus"),
        ({"model": "a", "sampled": 0}, "greater than or equal to 1"),
    ],
)
def test_teachers_that_can_not_be(teacher, words):
    with pytest.raises(UserError, match=words):
        check(SHORT | {"teacher": teacher})


def test_a_recipe_of_draws_is_read_again_with_all_its_defaults():
    recipe = check(SHORT | {"teacher": {"model": "a", "sampled": 9}})
    assert check(yaml.safe_load(recipe.to_yaml())) == recipe


# --- methods by name and parameters -----------------------------------------------------------------------------------


def build(**method):
    return build_method(Method(**method))


def test_parameters_are_read_as_the_method_types_them():
    assert build(name="forward_kl", temperature="1e-1").temperature == 0.1  # YAML takes 1e-1 for a text
    assert isinstance(build(name="forward_kl", temperature=2).temperature, float)
    with pytest.raises(UserError, match=r"'forward_kl': temperature can't be 'hot': .*number"):
        build(name="forward_kl", temperature="hot")
    with pytest.raises(UserError, match="scale_by_t2 can't be 'perhaps'"):
        build(name="forward_kl", scale_by_t2="perhaps")


def test_a_parameter_that_must_be_given(monkeypatch):
    class Needy(Objective):
        def __init__(self, *, depth: int) -> None:
            super().__init__()
            self.depth = depth

    monkeypatch.setattr(catalog, "resolve", lambda name: Needy)
    with pytest.raises(UserError, match=r"'needy' needs the parameter 'depth'; write method\.depth"):
        build(name="needy")
    assert build(name="needy", depth=3).depth == 3


def test_what_is_not_trained_with_says_so(monkeypatch):
    monkeypatch.setattr(catalog, "resolve", lambda name: print)
    with pytest.raises(UserError, match=r"'printer' is not trained with; `stillroom show printer`"):
        build(name="printer")


def test_labels_and_groups_that_do_not_fit():
    check_labels([{"label": [0, 1, 2]}], 3)
    with pytest.raises(UserError, match="row 2 has the label -1, and the student has classes 0 to 2"):
        check_labels([{"label": [0]}, {"label": [0, -1]}], 3)

    class View:
        def __init__(self, fingerprint):
            self.fingerprint = fingerprint

    check_group({"a": View("x"), "b": View("x")})
    with pytest.raises(UserError, match="'a' and 'c' read rows differently"):
        check_group({"a": View("x"), "b": View("x"), "c": View("y")})


def test_every_key_of_a_recipe_is_documented():
    """The reference is made of these docstrings."""

    def models(model, seen):
        from stillroom.recipe import _models

        if model not in seen:
            seen.add(model)
            for field in model.model_fields.values():
                for inner in _models(field.annotation):
                    models(inner, seen)
        return seen

    for model in models(Recipe, set()):
        told = "".join(kind.__doc__ or "" for kind in model.__mro__)  # what a kind shares is told where it is shared
        for name in model.model_fields:
            assert model.__name__ in ("Method",) or f"{name}:" in told or f"``{name}``" in told, (
                f"{model.__name__}.{name}"
            )
