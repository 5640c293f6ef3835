"""A static student: pooling by hand, weights folded, tokens kept, empty texts, and a whole run that others can load.

.venv/bin/python -m pytest tests/students/test_static.py
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from torch import nn

from stillroom.blocks.weighted_bag import WeightedBag, folded
from stillroom.errors import UserError
from stillroom.export import export_onnx
from stillroom.measuring import evaluate
from stillroom.planning import plan
from stillroom.recipe import Scratch, check
from stillroom.run import distill
from stillroom.students.open import new_model
from stillroom.students.static import first_weights, static_student, token_vectors
from stillroom.views.load import kind_of, open_model
from stillroom.views.static import StaticEncoder

TEXTS = [
    f"{what} the {n}th line of a {where}" for n in range(9) for what in ("read", "skip") for where in ("file", "list")
]
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
PLAIN = """
import json, sys
sys.modules["stillroom"] = None  # an import of it would fail
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
print(json.dumps([type(model[0]).__name__, model.encode(json.loads(sys.argv[2])).tolist()]))
"""

VECTORS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [4.0, 4.0]])
WEIGHTS = torch.tensor([1.0, 0.5, 0.25])
IDS, OFFSETS = torch.tensor([0, 1, 2, 2, 0]), torch.tensor([0, 2, 2])  # three texts; the second is empty


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    pytest.importorskip("sentence_transformers")
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    new_model(
        Scratch(architecture="bert", config=SIZES | {"initializer_range": 0.3}, vocabulary=330),
        "embeddings",
        lambda: TEXTS,
        folder,
    )
    return open_model(str(folder), "embeddings")


def made(encoder, **settings):
    model, tokenizer = static_student(encoder.model, encoder.view, corpus=lambda: TEXTS, **settings)
    return model.eval(), StaticEncoder(tokenizer)


def vectors_of(model, view, texts):
    with torch.no_grad():
        arguments = view.collate([view.encode({"text": text}) for text in texts]).arguments
        return view.emit(model, arguments, ("embedding",)).embedding


def test_a_text_is_the_mean_of_its_weighted_tokens():
    # ((1, 0) + 0.5 (0, 2)) / 2; nothing; (0.25 (4, 4) + 0.25 (4, 4) + (1, 0)) / 3
    wanted = torch.tensor([[0.5, 0.5], [0.0, 0.0], [1.0, 2 / 3]])
    assert torch.allclose(WeightedBag(VECTORS, WEIGHTS)(IDS, OFFSETS), wanted)


def test_vectors_and_weights_learn():
    table = WeightedBag(VECTORS, WEIGHTS)
    table(IDS, OFFSETS).sum().backward()
    # By the logarithm of a weight: the token's own share of each mean, summed over the width.
    assert torch.allclose(table.log_weights.grad, torch.tensor([1 / 2 + 1 / 3, 1 / 2, 2 * 2 / 3]))
    # By a vector: its weight over the text's length, once for each time that it occurs.
    assert torch.allclose(table.weight.grad[:, 0], torch.tensor([1 / 2 + 1 / 3, 0.25, 2 * 0.25 / 3]))


def test_folded_weights_give_the_same_from_a_plain_mean():
    table = WeightedBag(VECTORS, WEIGHTS)
    plain = folded(table)
    assert type(plain) is nn.EmbeddingBag and plain.mode == "mean" and plain.weight.requires_grad
    assert torch.allclose(plain.weight, torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    assert torch.allclose(plain(IDS, OFFSETS), table(IDS, OFFSETS))
    assert folded(plain) is plain


def test_first_weights_are_those_of_smooth_inverse_frequency():
    counts = torch.tensor([5, 3, 0, 1])
    assert first_weights("corpus", counts, [1, 2, 3]).tolist() == pytest.approx(
        [1e-4 / (1e-4 + 0.75), 1.0, 1e-4 / (1e-4 + 0.25)]
    )
    assert first_weights("zipf", None, [4, 7]).tolist() == pytest.approx([1e-4 / (1e-4 + 0.6), 1e-4 / (1e-4 + 0.4)])
    assert first_weights("none", None, [4, 7]).tolist() == [1.0, 1.0]


def test_a_token_goes_through_the_encoder_alone(encoder):
    tokenizer = encoder.view.tokenizer
    words = ["read", "skip"]
    ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    assert all(len(each) == 1 for each in ids)
    found = token_vectors(encoder.model, encoder.view, [number for (number,) in ids])
    assert torch.allclose(found, torch.from_numpy(encoder.model.encode(words)), atol=1e-6)


def test_a_cut_vocabulary_keeps_the_vectors_of_its_tokens(encoder):
    whole = encoder.view.tokenizer
    # As many dimensions as the encoder has: nothing but a turn around the mean, so inner products are the encoder's.
    model, view = made(encoder, dimensions=16, weights="none", vocabulary=280)
    assert len(view.tokenizer) <= 280 < len(whole)
    kept = view.tokenizer.convert_ids_to_tokens(list(range(len(view.tokenizer))))
    theirs = token_vectors(encoder.model, encoder.view, whole.convert_tokens_to_ids(kept))
    ours, centred = folded(model[0].embedding).weight, theirs - theirs.mean(0)
    assert torch.allclose(ours @ ours.T, centred @ centred.T, atol=1e-5)


def test_fewer_dimensions_keep_the_largest_part_of_the_variance(encoder):
    model, _ = made(encoder, dimensions=4, weights="none")
    theirs = token_vectors(encoder.model, encoder.view, list(range(len(encoder.view.tokenizer))))
    largest = torch.linalg.eigvalsh(torch.cov(theirs.T))[-4:].flip(0)
    ours = torch.cov(folded(model[0].embedding).weight.T)
    assert torch.allclose(ours, torch.diag(largest), atol=1e-5)


def test_random_vectors_may_be_wider_than_the_encoder(encoder):
    torch.manual_seed(0)
    model, _ = made(encoder, dimensions=64, start="random", weights="none")
    weight = folded(model[0].embedding).weight
    assert weight.shape == (len(encoder.view.tokenizer), 64)
    assert float(weight.detach().square().sum(1).mean()) == pytest.approx(1.0, abs=0.1)


def test_empty_texts_and_unknown_characters_have_a_vector(encoder):
    model, view = made(encoder, dimensions=8)
    empty, unknown, long = vectors_of(model, view, ["", "☃", "the line " * 400])
    assert empty.tolist() == [0.0] * 8
    assert torch.isfinite(unknown).all() and float(unknown.norm()) == pytest.approx(1.0, abs=1e-5)
    assert float(long.norm()) == pytest.approx(1.0, abs=1e-5)


def test_a_length_cuts_texts_on_the_right(encoder):
    _, view = made(encoder, dimensions=8)
    whole = view.encode({"anchor": "read the line", "positive": "skip"})
    view.max_length = 2
    row = view.encode({"anchor": "read the line", "positive": "skip"})
    assert row["texts"] == [whole["texts"][0][:2], whole["texts"][1][:2]] and row["shortened"]
    assert not whole["shortened"] and whole["length"] == len(whole["texts"][0])
    inputs = view.collate([row, view.encode({"text": ""}), view.encode({"text": "skip"})])
    assert inputs.arguments["offsets"].tolist() == [0, 2, 2 + len(row["texts"][1]), 2 + len(row["texts"][1])]
    assert inputs.columns["pairs"].tolist() == [[0, 1]]


def test_how_texts_are_divided_into_batches_changes_nothing(encoder):
    model, view = made(encoder, dimensions=8)
    together = vectors_of(model, view, TEXTS[:6])
    assert torch.allclose(together, torch.cat([vectors_of(model, view, [text]) for text in TEXTS[:6]]), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dimensions": 17}, "have 16 dimensions and can't be reduced to 17"),
        ({"corpus": lambda: []}, "counted in the data's texts, and there are none"),
        ({"vocabulary": 20}, "a vocabulary of 20 is too small"),
    ],
)
def test_what_cannot_be_made_is_said(encoder, settings, words):
    with pytest.raises(UserError, match=words):
        static_student(encoder.model, encoder.view, **({"corpus": lambda: TEXTS, "dimensions": 8} | settings))


# --- in a recipe ------------------------------------------------------------------------------------------------------


def recipe(encoder, folder, **changes):
    rows = [{"anchor": text, "positive": text.replace("read", "open")} for text in TEXTS]
    for name, some in (("train", rows[8:]), ("validation", rows[:8])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return check(
        {
            "name": "static",
            "task": "embeddings",
            "teacher": {"model": encoder.source, "max_length": 32},
            "student": {"static": {"dimensions": 8}},
            "data": {name: {"source": str(folder / f"{name}.jsonl")} for name in ("train", "validation")},
            "method": {"name": "embedding_match", "contrast": 0.1},
            "train": {"steps": 4, "batch_size": 8, "learning_rate": 1e-2, "device": "cpu", "save_every": 2},
            "output": str(folder / "runs"),
        }
        | changes
    )


@pytest.fixture(scope="module")
def run(encoder, tmp_path_factory):
    return distill(recipe(encoder, tmp_path_factory.mktemp("run"), against=["untrained"]))


def test_a_run_leaves_a_model_that_plain_sentence_transformers_loads(run, encoder):
    texts = ["", "read the list", "a file is skipped ☃", "the line " * 300]
    plain = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(run.model), json.dumps(texts)],
        capture_output=True, text=True, cwd="/", env=plain, check=True,
    )  # fmt: skip
    kind, found = json.loads(done.stdout.splitlines()[-1])
    opened = open_model(str(run.model), "embeddings")
    assert kind == "StaticEmbedding" and type(opened.view) is StaticEncoder and kind_of(str(run.model)) == "embeddings"
    assert torch.allclose(torch.tensor(found), vectors_of(opened.model.eval(), opened.view, texts), atol=1e-6)
    assert list(opened.model.state_dict()) == ["0.embedding.weight"]


def test_a_run_is_measured_and_reported(run):
    student, start = (
        next(one for one in run.evaluation["systems"] if one["role"] == role) for role in ("student", "start")
    )
    table = open_model(str(run.model), "embeddings").model
    assert student["parameters"] == sum(value.numel() for value in table.parameters())
    assert 0 < student["metrics"]["teacher_pairwise"] <= 1
    assert student["metrics"] != start["metrics"] and student["cost"]["throughput"] > 0
    assert "static" in run.report.read_text() and "sentence-transformers" in (run.model / "README.md").read_text()


def test_the_trained_weights_are_folded_into_the_table(run, encoder):
    started, _ = made(encoder, dimensions=8)
    trained = open_model(str(run.model), "embeddings").model[0].embedding.weight
    assert trained.shape == started[0].embedding.weight.shape
    assert not torch.allclose(trained, folded(started[0].embedding).weight, atol=1e-3)


def test_a_run_is_exported_as_a_graph(run, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    assert export_onnx(run.model, tmp_path / "static.onnx", task="embeddings").difference < 1e-5


def test_a_static_model_is_not_opened_as_another_kind_nor_cut_again(run, encoder, tmp_path):
    with pytest.raises(UserError, match="is of the kind 'embeddings' and can't be opened as 'bi-encoder'"):
        open_model(str(run.model), "bi-encoder")
    for how, words in (("cut", "nothing to cut in it"), ("static", "is static already")):
        student = {how: {"of": str(run.model), "vocabulary": 280}}
        with pytest.raises(UserError, match=words):
            distill(recipe(encoder, tmp_path, student=student))


def test_only_safetensors_are_read(run, tmp_path):
    folder = shutil.copytree(run.model, tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="no token vectors in safetensors"):
        open_model(str(folder), "embeddings")


def test_a_saved_student_is_evaluated(run, encoder, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in ["open one", "close two", "read three"]))
    found = evaluate(str(run.model), str(rows), teacher=encoder.source)
    assert [one["role"] for one in found["systems"]] == ["teacher", "student"]


def test_a_killed_run_goes_on_to_the_same_weights(run, encoder, tmp_path):
    again = recipe(encoder, tmp_path, against=["untrained"])
    distill(again)
    for file in ("run.json", "report.html"):
        (again.folder / file).unlink()
    resumed = distill(again, resume=True)
    weights = [open_model(str(one.model), "embeddings").model[0].embedding.weight for one in (run, resumed)]
    assert torch.equal(*weights)


def test_plan_tells_the_size_of_the_table(encoder, tmp_path):
    found = plan(recipe(encoder, tmp_path, student={"static": {"dimensions": 8}, "max_length": 4}))
    vocabulary = len(encoder.view.tokenizer)
    assert found.memory["student weights"] == 4 * 8 * vocabulary
    assert any("longer than student.max_length" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "bi-encoder", "method": "margin-mse"}, "student.static is for models of the kind 'embeddings'"),
        ({"teacher": None, "method": "contrastive"}, "student.static.of is 'teacher', and the recipe has no single"),
        ({"student": {"static": {"dimensions": 32}}}, "student.static.dimensions is 32"),
    ],
)
def test_plan_refuses_what_cannot_work(encoder, tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        plan(recipe(encoder, tmp_path, **changes))


def test_a_recipe_names_one_student(encoder, tmp_path):
    with pytest.raises(UserError, match="exactly one of model, new, cut and static"):
        recipe(encoder, tmp_path, student={"static": {}, "model": encoder.source})


def test_a_student_that_is_not_static_leaves_no_trace_of_it_in_a_recipe():
    assert "static" not in check({"name": "x", "student": "a", "data": "b", "method": "sft"}).decides["student"]
