"""The public API: what `import stillroom` offers, and that verbs which are packages are both.

.venv/bin/python -m pytest tests/test_api.py
"""

import subprocess
import sys
from types import ModuleType

import pytest

import stillroom
from stillroom.api import make_recipe
from stillroom.errors import UserError

KEYS = {"teacher": "big/Teacher-4B", "student": "small/Student-0.6B", "data": "chat.jsonl", "method": "taid"}


@pytest.mark.parametrize("verb", stillroom.__all__)
def test_every_verb_is_there_and_can_be_called(verb):
    assert callable(stillroom._function(verb))
    assert callable(getattr(stillroom, verb))
    assert verb in dir(stillroom)


def test_a_package_is_a_verb_whichever_way_it_was_imported_first():
    for first in ("import stillroom.methods", "from stillroom.methods import baselines", "import stillroom"):
        code = f"{first}\nimport stillroom\nassert len(stillroom.methods(family='graphs')) == 4"
        subprocess.run([sys.executable, "-c", code], check=True)


def test_a_verb_is_still_the_package():
    import stillroom.methods.baselines as baselines

    assert isinstance(stillroom.methods, ModuleType)
    assert stillroom.methods.baselines is baselines


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'stillroom' has no attribute 'destill'"):
        _ = stillroom.destill


def test_keys_make_a_recipe():
    recipe = make_recipe(None, (), KEYS)
    assert (recipe.name, recipe.task) == ("taid-Student-0.6B", "language")
    assert (recipe.teacher.model, recipe.method.name) == ("big/Teacher-4B", "taid")
    named = make_recipe(
        None, (), KEYS | {"name": "mine", "task": "embeddings", "method": {"name": "sft", "label_smoothing": 0.1}}
    )
    assert (named.name, named.task, named.method.parameters) == ("mine", "embeddings", {"label_smoothing": 0.1})


def test_a_file_makes_a_recipe_and_overrides_change_it(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text("task: language\nteacher: t\nstudent: s\ndata: d.jsonl\nmethod: sft\n")
    recipe = make_recipe(path, ("train.steps=7",), {})
    assert (recipe.name, recipe.train.steps) == ("small", 7)


@pytest.mark.parametrize(
    ("recipe", "overrides", "keys", "message"),
    [
        (None, (), {}, "either a recipe file or"),
        ("a.yaml", (), KEYS, "either a recipe file or"),
        (None, ("train.steps=1",), KEYS, "overrides change a recipe file"),
        (None, (), KEYS | {"metod": "x"}, "did you mean 'method'"),
    ],
)
def test_what_makes_no_recipe_is_refused(recipe, overrides, keys, message):
    with pytest.raises(UserError, match=message):
        make_recipe(recipe, overrides, keys)
