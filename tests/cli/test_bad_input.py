"""Wrong use: one sentence that says what is wrong and what to do, exit code 2, and nothing that was there is touched.

.venv/bin/python -m pytest tests/cli/test_bad_input.py
"""

import json
import resource
import signal
import subprocess
import sys

import pytest
from tests.cli.conftest import TINY, TRAIN, contents, new_model, sums, write_recipe, write_rows

from stillroom import catalog
from stillroom.errors import UserError
from stillroom.store import Header, Signal, Store


def refused(found, *words):
    """Exit code 2, nothing on stdout, and a last line on stderr that holds all the words."""
    assert (found.code, found.out) == (2, ""), found
    sentence = found.err.strip().splitlines()[-1]
    for word in words:
        assert word in sentence, sentence
    assert "Traceback" not in found.err


@pytest.fixture
def old(stillroom, recipe, tmp_path):
    """A finished run, which nothing that follows may touch."""
    path = recipe("old", train=TRAIN | {"steps": 1})
    assert stillroom("distill", path).code == 0
    before = contents(tmp_path / "runs")
    yield before
    assert contents(tmp_path / "runs") == before


def planned():
    return catalog.systems("language", "planned")[0].slug


# --- recipes that are wrong in themselves: refused by plan and by distill ---------------------------------------------

TOPS = [
    ("an unknown key", {"lerning_rate": 1}, ("unknown key 'lerning_rate'",)),
    ("its nearest name", {"train": {"learning_rat": 1}}, ("'train.learning_rat'", "did you mean 'learning_rate'?")),
    ("deep down", {"student": {"model": "x", "dtyp": "float32"}}, ("'student.dtyp'", "did you mean 'dtype'?")),
    ("a missing key", {"data": None}, ("'data' is missing",)),
    ("negative steps", {"train": {"steps": -5}}, ("'train.steps'", "greater than or equal to 0", "-5")),
    ("no number", {"train": {"learning_rate": "fast"}}, ("'train.learning_rate'", "valid number", "'fast'")),
    ("a batch too small", {"train": {"batch_size": 4, "micro_batch": 8}}, ("micro_batch (8)", "batch_size (4)")),
    ("shards in fp16", {"train": {"sharded": True, "precision": "fp16"}}, ("bf16 or float32",)),
    (
        "shards of another kind",
        {"task": "masked-lm", "train": {"sharded": True}},
        ("for language models", "'masked-lm'"),
    ),
    (
        "two sources",
        {"student": {"model": "x", "new": {"architecture": "llama"}}},
        ("exactly one of model, new, cut and",),
    ),
    ("an unknown method", {"method": "tiad"}, ("no method 'tiad'", "did you mean 'taid'?")),
    ("a missing parameter name", {"method": {"temperature": 2}}, ("'method.name' is missing",)),
    ("an unknown parameter", {"method": {"name": "sft", "label_smooth": 0.1}}, ("'sft' has no parameter", "smoothing")),
    ("a parameter of another type", {"method": {"name": "jsd", "beta": "half"}}, ("'jsd'", "beta can't be 'half'")),
    ("the same method twice", {"method": "sft", "against": ["sft"]}, ("'sft' is named twice",)),
    ("a teacher that is missing", {"method": "forward_kl"}, ("'forward_kl' learns from a teacher", "give")),
    ("a method of another kind", {"task": "embeddings"}, ("'sft' learns by logits", "'embeddings'", "language")),
    ("an unknown task", {"task": "languge"}, ("unknown kind of model 'languge'", "did you mean 'language'?")),
    (
        "an unknown option",
        {"student": {"model": "x", "options": {"overflw": 1}}},
        ("student.options.overflw", "overflow"),
    ),
    ("a suite of another kind", {"evaluate": ["word-similarity"]}, ("'word-similarity'", "'embeddings'", "'language'")),
    ("an unknown suite", {"evaluate": ["word-similarty"]}, ("'word-similarty'", "did you mean 'word-similarity'?")),
]


@pytest.mark.parametrize("command", ["plan", "distill"])
@pytest.mark.parametrize(("keys", "words"), [top[1:] for top in TOPS], ids=[top[0] for top in TOPS])
def test_a_recipe_that_is_wrong_in_itself(stillroom, recipe, command, keys, words):
    refused(stillroom(command, recipe(**keys)), *words)


TAUGHT = [
    ("planned but not built", {"method": None}, ("not built yet", "stillroom methods")),
    ("a value outside its range", {"method": {"name": "jsd", "temperature": -1}}, ("temperature must be > 0", "-1")),
    ("an endpoint that gives no logits", {"endpoint": "http://127.0.0.1:1/v1"}, ("needs logits", "text only")),
    ("a cache of what must be live", {"cache": True, "method": "gkd"}, ("'gkd' asks its", "teacher.cache=false")),
    ("a group without a rule", {"group": {"a": "x"}, "model": None}, ("route (a column) or mix (weights)",)),
    ("a mix of others", {"group": {"a": "x"}, "model": None, "mix": {"b": 1}}, ("a weight >= 0 for each of a",)),
    ("a cached group", {"group": {"a": "x"}, "model": None, "mix": {"a": 1}, "cache": True}, ("neither endpoint nor",)),
]  # fmt: skip


@pytest.mark.parametrize("command", ["plan", "distill", "label"])
@pytest.mark.parametrize(("keys", "words"), [case[1:] for case in TAUGHT], ids=[case[0] for case in TAUGHT])
def test_a_teacher_that_cannot_give_what_is_asked(stillroom, recipe, shop, command, keys, words):
    method = keys.get("method", "forward_kl") or planned()
    teacher = {"model": shop.teacher} | {key: value for key, value in keys.items() if key != "method"}
    refused(stillroom(command, recipe(teacher=teacher, method=method)), *words)


@pytest.mark.parametrize("command", ["plan", "distill"])
def test_two_tokenizers_and_a_method_that_needs_one(stillroom, recipe, shop, command, tmp_path):
    found = stillroom(command, recipe(teacher=shop.stranger, method="forward_kl"))
    refused(found, "tokenizers of teacher (277 tokens) and student (300)", "'forward_kl'", "teacher_texts")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", ("is not YAML",)),
        ("- a list\n", ("must be a mapping", "teacher, student, data")),
        ("", ("must be a mapping",)),
    ],
)
def test_a_recipe_that_cannot_be_read(stillroom, tmp_path, text, words):
    (tmp_path / "recipe.yaml").write_text(text)
    refused(stillroom("distill", "recipe.yaml"), "recipe.yaml", *words)


def test_a_recipe_that_is_not_there(stillroom, recipe):
    recipe("chat")
    refused(stillroom("distill", "chta.yaml"), "no recipe chta.yaml", "did you mean 'chat.yaml'?")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.steps", ("--set needs key=value", "'train.steps'")),
        ("train.stesp=1", ("'train.stesp'", "did you mean 'steps'?")),
        ("train.steps.x=1", ("--set train.steps.x", "'steps' is not a mapping")),
        ("name=../elsewhere", ("'name'", "'../elsewhere'")),
    ],
)
def test_an_override_that_is_wrong(stillroom, recipe, override, words):
    refused(stillroom("plan", recipe(), "--set", override), *words)


# --- data -------------------------------------------------------------------------------------------------------------

LINES = [
    ("a missing field", '{"prompt": "2 plus 2 is"}', ("bad.jsonl line 3", "'completion' is missing")),
    (
        "another type",
        '{"prompt": "2", "completion": 4}',
        ("bad.jsonl line 3", "'completion' must be a string", "number"),
    ),
    ("an empty answer", '{"prompt": "2", "completion": ""}', ("bad.jsonl line 3", "'completion' is empty")),
    ("no JSON", '{"prompt": ', ("bad.jsonl line 3",)),
    ("no object", "[1]", ("bad.jsonl line 3", "an object with named columns", "a list")),
]


@pytest.mark.parametrize("command", ["plan", "distill", "check"])
@pytest.mark.parametrize(("line", "words"), [case[1:] for case in LINES], ids=[case[0] for case in LINES])
def test_a_row_that_is_wrong_is_named_by_file_and_line(stillroom, recipe, tmp_path, command, line, words):
    good = [json.dumps(row) for row in sums(3)]
    (tmp_path / "bad.jsonl").write_text("\n".join([*good[:2], line, good[2]]) + "\n")
    target = "bad.jsonl" if command == "check" else recipe(data="bad.jsonl")
    refused(stillroom(command, target), *words)


@pytest.mark.parametrize("command", ["plan", "distill"])
def test_data_that_are_not_there_empty_or_of_another_format(stillroom, recipe, shop, tmp_path, command):
    refused(stillroom(command, recipe(data="rowz.jsonl")), "rowz.jsonl", "no such file")
    (tmp_path / "empty.jsonl").write_text("")
    refused(stillroom(command, recipe(data="empty.jsonl")), "empty.jsonl holds no rows")
    write_rows(tmp_path / "pairs.jsonl", [{"anchor": "a", "positive": "b"}])
    refused(stillroom(command, recipe(data="pairs.jsonl")), "'pair'", "text or completion or chat")
    refused(stillroom(command, recipe(data={"source": "pydocs", "view": "chats"})), "no view 'chats'", "'chat'?")
    assert not list(tmp_path.glob("runs/*/*.json*"))


@pytest.mark.parametrize("command", ["plan", "distill"])
def test_a_label_outside_the_classes(stillroom, recipe, tmp_path, command):
    rows = [{"text": f"text {number}", "label": number % 3} for number in range(12)]
    student = {"new": {"architecture": "bert", "vocabulary": 300, "config": TINY | {"num_labels": 2}}}
    path = recipe(task="text-classifier", student=student, data=write_rows(tmp_path / "labels.jsonl", rows))
    refused(stillroom(command, path), "row 3 has the label 2", "classes 0 to 1", "num_labels")


def test_completions_longer_than_the_window_are_counted_and_said(stillroom, recipe, tmp_path):
    rows = [*sums(10), *({"prompt": f"{n} is", "completion": " and so on" * 40} for n in range(3))]
    path = recipe(data=write_rows(tmp_path / "long.jsonl", rows), train=TRAIN | {"steps": 1})
    planned = stillroom("plan", path)
    assert planned.code == 0 and "3 of 13 rows are longer than student.max_length and are shortened" in planned.err
    assert json.loads(stillroom("plan", path, "--json").out)["counts"]["shortened"] == 3
    assert stillroom("distill", path).code == 0
    assert json.loads((tmp_path / "runs/recipe/run.json").read_text())["counts"]["shortened"] == 3
    assert "rows shortened</dt><dd>3" in (tmp_path / "runs/recipe/report.html").read_text()

    drop = ["--set", "student.options.overflow=drop", "--set", "name=dropped"]
    planned = stillroom("plan", path, *drop)
    assert planned.code == 0 and "3 of 13 rows are dropped: longer than 32 tokens" in planned.err
    assert stillroom("distill", path, *drop).code == 0
    counts = json.loads((tmp_path / "runs/dropped/run.json").read_text())["counts"]
    assert (counts["rows"], counts["dropped"]) == (10, {"longer than 32 tokens": 3})
    assert "longer than 32 tokens" in (tmp_path / "runs/dropped/report.html").read_text()


def test_no_row_that_fits_is_refused(stillroom, recipe, tmp_path):
    rows = [{"prompt": f"{n} is", "completion": " and so on" * 40} for n in range(3)]
    path = recipe(data=write_rows(tmp_path / "long.jsonl", rows))
    drop = ["--set", "student.options.overflow=drop"]
    refused(stillroom("distill", path, *drop), "no row of the data is left", "3 rows longer than 32 tokens")


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["plan", "distill"])
def test_a_model_folder_that_is_not_there(stillroom, recipe, shop, command):
    refused(stillroom(command, recipe(student=shop.student + "s")), "no model folder", "did you mean")
    refused(stillroom(command, recipe(teacher=str(shop.folder), method="forward_kl")), "has no config.json", "folder")
    refused(stillroom(command, recipe(student="nobody/nothing")), "nobody/nothing is neither a folder", "network")


def test_a_model_without_weights_or_with_torn_ones(stillroom, recipe, tmp_path, shop):
    folder = tmp_path / "torn"
    new_model("language", folder, TINY, tokenizer=shop.teacher)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(stillroom("distill", recipe(student="torn")), "torn can't be opened", "'language'")
    weights.unlink()
    refused(stillroom("distill", recipe(student="torn")), "torn can't be opened", "'language'")
    refused(stillroom("evaluate", "torn", "--data", shop.rows), "torn can't be opened")


@pytest.mark.parametrize("command", ["plan", "distill"])
def test_an_architecture_that_is_not_known_or_has_no_such_setting(stillroom, recipe, command):
    new = {"new": {"architecture": "lama", "vocabulary": 300}}
    refused(stillroom(command, recipe(student=new)), "no architecture 'lama'", "did you mean 'llama'?")
    new = {"new": {"architecture": "llama", "vocabulary": 300, "config": {"hidden_sise": 8}}}
    refused(stillroom(command, recipe(student=new)), "no setting 'hidden_sise'", "did you mean 'hidden_size'?")
    new = {"new": {"architecture": "llama", "vocabulary": 300, "config": {"hidden_size": 10}}}
    refused(stillroom(command, recipe(student=new)), "no llama with these settings", "multiple")


@pytest.mark.parametrize("command", ["plan", "distill"])
def test_a_package_that_is_missing_names_its_extra(stillroom, recipe, tmp_path, monkeypatch, command):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sentence_transformers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    student = {"new": {"architecture": "bert", "vocabulary": 300, "config": TINY}}
    path = recipe(
        task="embeddings",
        method={"name": "distilcse", "stage": 2},
        student=student,
        data=write_rows(tmp_path / "pairs.jsonl", [{"anchor": f"a {n}", "positive": f"b {n}"} for n in range(8)]),
    )
    found = stillroom(command, path)
    if command == "plan":  # needs the tokenizer alone
        assert found.code == 0, found.err
    else:
        refused(found, "'sentence_transformers'", 'pip install "stillroom[embeddings]"')


# --- runs, checkpoints and caches that are there ----------------------------------------------------------------------


def test_a_run_that_is_there_is_not_overwritten(stillroom, recipe, old):
    refused(stillroom("distill", recipe("old")), "runs/old already holds a finished run", "--set name=")


def test_a_checkpoint_of_another_recipe_is_not_resumed(stillroom, recipe, old):
    again = recipe("old", train=TRAIN | {"steps": 1, "learning_rate": 0.5})
    found = stillroom("distill", again, "--resume")
    refused(found, "another recipe", "train.learning_rate was 0.01 and is 0.5", "runs/old/recipe.yaml")


def test_other_parameters_of_a_method_it_is_held_against_are_another_recipe(stillroom, recipe, shop):
    keys = {"teacher": shop.teacher, "method": "sft", "train": TRAIN | {"steps": 1}}
    assert stillroom("distill", recipe(against=[{"name": "jsd", "beta": 0.5}], **keys)).code == 0
    found = stillroom("distill", recipe(against=[{"name": "jsd", "beta": 0.9}], **keys), "--resume")
    refused(found, "against.jsd.beta was 0.5 and is 0.9")
    more = [{"name": "jsd", "beta": 0.5}, {"name": "reverse_kl", "temperature": 2.0}]
    assert stillroom("distill", recipe(against=more, **keys), "--resume").code == 0


def test_rows_that_changed_since_the_checkpoint_are_not_trained_on(stillroom, recipe, tmp_path):
    rows = tmp_path / "mine.jsonl"
    path = recipe(data=write_rows(rows, sums(20)), train=TRAIN | {"steps": 1})
    assert stillroom("distill", path).code == 0
    write_rows(rows, sums(21))
    refused(stillroom("distill", path, "--resume"), "the rows are not those", "step-000001")


def test_a_folder_of_something_else_is_left_alone(stillroom, recipe, tmp_path):
    (tmp_path / "runs/recipe").mkdir(parents=True)
    (tmp_path / "runs/recipe/thesis.txt").write_text("years")
    for extra in ((), ("--resume",)):
        refused(stillroom("distill", recipe(), *extra), "holds something that is not a run")
    assert contents(tmp_path / "runs") == contents(tmp_path / "runs") and len(contents(tmp_path / "runs")) == 1


def test_a_recipe_that_failed_before_it_trained_is_simply_run_again(stillroom, recipe, tmp_path, old):
    assert stillroom("distill", recipe("new", data="none.jsonl")).code == 2
    assert not (tmp_path / "runs/new").exists()


@pytest.mark.parametrize("kind", ["unknown key", "missing rows", "no teacher"])
def test_an_earlier_run_is_untouched_by_an_error(stillroom, recipe, kind, old):
    keys = {"unknown key": {"stduent": 1}, "missing rows": {"data": "none.jsonl"}, "no teacher": {"method": "jsd"}}
    for extra in ((), ("--resume",)):
        assert stillroom("distill", recipe("old", **keys[kind]), *extra).code == 2


def test_a_store_of_another_teacher_is_refused_field_by_field(tmp_path):
    signals = {"embedding": Signal(codec="float16", shape=(4,))}
    Store.create(tmp_path / "store", Header(signals=signals, teacher="ours", tokenizer="aa", temperature=2.0)).close()
    with pytest.raises(UserError) as told:
        Store.open(tmp_path / "store", {"teacher": "theirs", "tokenizer": "bb", "temperature": 2.0})
    for word in ("teacher is 'ours' in the store and 'theirs' here", "tokenizer is 'aa'", "label again"):
        assert word in str(told.value)
    assert "temperature" not in str(told.value)


def test_a_disk_that_fills_up_while_the_model_is_saved(stillroom, recipe, shop, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = recipe(train=TRAIN | {"save_every": 0, "evaluate_every": 0, "steps": 1})
    assert stillroom("plan", path).code == 0  # rows and tokens are in the cache from here on
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        found = stillroom("distill", path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    refused(found, "could not be written", "make room")
    left = contents(tmp_path / "runs")
    assert not [name for name in left if "model" in name or ".partial" in name]


# --- one real process -------------------------------------------------------------------------------------------------


def test_the_exit_code_and_the_one_line_of_a_real_process(tmp_path, shop):
    path = write_recipe(tmp_path, shop, train={"steps": -1})
    command = [sys.executable, "-m", "stillroom", "distill", path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "'train.steps'" in done.stderr
