"""A workshop for the commands: tiny models made from nothing, rows of sums, and the command line in this process."""

import hashlib
import io
import json
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import SimpleNamespace

import pytest
import yaml

TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = {**TINY, "num_hidden_layers": 1}
TRAIN = {"steps": 6, "batch_size": 8, "learning_rate": 0.01, "device": "cpu"}


def sums(count):
    for number in range(count):
        a, b = number % 17, (number * 7) % 23
        yield {"prompt": f"{a} plus {b} is", "completion": f" {a + b}" + " in all" * (number % 3)}


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def new_model(kind, folder, config, texts=(), **scratch):
    """An untrained model; with a tokenizer trained on texts, unless it takes one."""
    from stillroom.recipe import Scratch
    from stillroom.students.open import new_model

    architecture = "bert" if kind != "language" else "llama"
    settings = {"architecture": architecture, "config": config, "vocabulary": 300} | scratch
    new_model(Scratch(**settings), kind, lambda: texts, folder)
    return str(folder)


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """Where models and rows lie: teacher, student (same tokenizer), stranger (another one), rows and held-out rows."""
    folder = tmp_path_factory.mktemp("shop")
    texts = [row["prompt"] + row["completion"] for row in sums(60)]
    teacher = new_model("language", folder / "teacher", TINY, texts)
    return SimpleNamespace(
        folder=folder,
        teacher=teacher,
        student=new_model("language", folder / "student", SMALL, tokenizer=teacher),
        stranger=new_model("language", folder / "stranger", TINY, ["quite another text " * 3], vocabulary=320),
        rows=write_rows(folder / "rows.jsonl", sums(60)),
        held_out=write_rows(folder / "held-out.jsonl", list(sums(90))[60:]),
    )


@contextmanager
def working_in(folder):
    """Run command lines in a folder, with a cache of its own and no hub."""
    from stillroom.cli import app

    def call(*arguments):
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = app.run([str(argument) for argument in arguments])
        return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("STILLROOM_CACHE", str(folder / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield call


@pytest.fixture
def stillroom(tmp_path):
    """One command line, run in this process in an empty folder; gives code, out, err."""
    with working_in(tmp_path) as call:
        yield call


def write_recipe(folder, shop, name="recipe", **keys):
    """A recipe file: a language student with the method sft, but for the keys that are given; None leaves one out."""
    content = {
        "task": "language",
        "student": {"model": shop.student, "max_length": 32},
        "data": {"train": shop.rows, "validation": shop.held_out},
        "method": "sft",
        "train": TRAIN,
    } | keys
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return str(path)


@pytest.fixture
def recipe(shop, tmp_path):
    def write(name="recipe", **keys):
        return write_recipe(tmp_path, shop, name, **keys)

    return write


def contents(folder):
    """Path -> hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
