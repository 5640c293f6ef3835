"""``stillroom export``: the graph stands beside the model and gives what the model gives.

.venv/bin/python -m pytest tests/cli/test_export.py
"""

import json

import pytest
import torch
from tests.cli.conftest import TINY, new_model

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    sizes = TINY | {"max_position_embeddings": 512, "num_hidden_layers": 1}
    return new_model("embeddings", tmp_path_factory.mktemp("encoder") / "model", sizes, ["a few plain words"] * 9)


def test_the_graph_gives_the_vectors_of_the_model(stillroom, encoder, tmp_path):
    from sentence_transformers import SentenceTransformer

    told = stillroom("export", encoder, "--to", "onnx", "--out", "graph/encoder.onnx", "--json")
    assert told.code == 0, told.err
    found = json.loads(told.out)
    assert found["file"] == "graph/encoder.onnx" and found["difference"] <= 1e-3 and found["batches"] > 3
    model = SentenceTransformer(encoder, device="cpu")
    texts = ["one text", "and another, which is longer", "a"]
    inputs = {name: value for name, value in model.preprocess(texts).items() if isinstance(value, torch.Tensor)}
    session = onnxruntime.InferenceSession(str(tmp_path / "graph/encoder.onnx"))
    taken = {item.name for item in session.get_inputs()}
    (vectors,) = session.run(None, {name: value.numpy() for name, value in inputs.items() if name in taken})
    torch.testing.assert_close(torch.tensor(vectors), torch.tensor(model.encode(texts)), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere/at/all",), "there is no model folder"),
        (("ENCODER", "--to", "tflite"), "'tflite'"),
        (("ENCODER", "--out", "model.bin"), "ends with .onnx"),
    ],
)
def test_wrong_use(stillroom, encoder, tmp_path, arguments, words):
    told = stillroom("export", *(encoder if argument == "ENCODER" else argument for argument in arguments))
    assert (told.code, told.out) == (2, "") and words in told.err
    assert not list(tmp_path.glob("*.onnx*"))
