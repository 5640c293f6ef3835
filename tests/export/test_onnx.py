"""Graphs of tiny real models and of a real encoder run in ONNX Runtime and give what the model gives, or are refused.

Run: pytest tests/export/test_onnx.py
"""

import copy
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.export.plain import files, plainly
from torch import nn

from stillroom.errors import UserError
from stillroom.export import check_parity, export_onnx
from stillroom.export import onnx as export
from stillroom.export import parity as parity_module


def run(file, inputs):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]


def signature(file):
    """Axes of inputs and outputs by name; a free axis by its name, a fixed one by its size."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return {item.name: item.shape for item in (*session.get_inputs(), *session.get_outputs())}


def test_an_encoder(bert, bert_tokenizer, texts, tmp_path):
    bert.train()
    parity = export_onnx(bert, tmp_path / "bert.onnx", processor=bert_tokenizer, examples=texts)
    assert bert.training
    bert.eval()
    assert 0 < parity.difference < 1e-5
    assert parity.batches == 4  # of 1, 2, 3 and 1 texts
    assert signature(tmp_path / "bert.onnx") == {
        "input_ids": ["batch", "length"],
        "token_type_ids": ["batch", "length"],
        "attention_mask": ["batch", "length"],
        "last_hidden_state": ["batch", "length", 16],
    }
    # Shapes that the export never saw.
    for rows, length in ((1, 1), (5, 3), (2, 64)):
        ids = torch.randint(len(bert_tokenizer), (rows, length))
        inputs = {"input_ids": ids, "token_type_ids": ids % 2, "attention_mask": torch.ones_like(ids)}
        inputs["attention_mask"][-1, length // 2 + 1 :] = 0
        found, wanted = run(tmp_path / "bert.onnx", inputs), bert(**inputs).last_hidden_state.detach().numpy()
        real = inputs["attention_mask"].bool().numpy()
        assert np.abs(found - wanted)[real].max() < 1e-5
    assert files(tmp_path) == {"bert.onnx"}


def test_a_language_model_from_its_folder_padded_on_the_left(llama, llama_tokenizer, texts, tmp_path):
    tokenizer = copy.deepcopy(llama_tokenizer)
    tokenizer.padding_side = "left"
    llama.bfloat16().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    parity = export_onnx(tmp_path / "model", tmp_path / "out" / "llama.onnx", task="language", examples=texts)
    assert parity.difference < 1e-5
    assert signature(tmp_path / "out" / "llama.onnx") == {
        "input_ids": ["batch", "length"],
        "attention_mask": ["batch", "length"],
        "logits": ["batch", "length", 120],
    }
    inputs = dict(tokenizer(["keep the heart and cut the heads"] * 4, return_tensors="pt"))
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    wanted = llama.float()(**inputs).logits.detach().numpy()
    assert np.abs(run(tmp_path / "out" / "llama.onnx", inputs) - wanted).max() < 1e-5
    assert tokenizer.pad_token is None


def test_a_whole_pipeline_runs_where_there_is_no_stillroom(sentence_encoder, texts, tmp_path):
    parity = export_onnx(sentence_encoder, tmp_path / "encoder.onnx", examples=texts)
    assert parity.difference < 1e-5
    assert signature(tmp_path / "encoder.onnx")["sentence_embedding"] == ["batch", 8]
    code = """
import json, sys
sys.modules["torch"] = None
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(json.dumps(session.run(None, json.loads(sys.argv[2]))[0].tolist()))
"""
    tokens = {
        name: value.tolist() for name, value in sentence_encoder.preprocess(texts).items() if torch.is_tensor(value)
    }
    vectors = np.array(plainly(code, tmp_path / "encoder.onnx", json.dumps(tokens)))
    assert np.abs(vectors - sentence_encoder.encode(texts)).max() < 1e-5
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)


@pytest.mark.slow
def test_the_real_minilm_on_texts_of_its_own(minilm, tmp_path):
    parity = export_onnx(minilm, tmp_path / "minilm.onnx", task="embeddings")
    assert parity.difference < 1e-5
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(minilm), device="cpu")
    texts = ["A man is eating food.", "Someone eats.", "The stock market fell " * 30]
    inputs = {name: value for name, value in model.preprocess(texts).items() if torch.is_tensor(value)}
    assert np.abs(run(tmp_path / "minilm.onnx", inputs) - model.encode(texts)).max() < 1e-5


def test_a_table_of_word_vectors(bert_tokenizer, texts, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    model = SentenceTransformer(modules=[StaticEmbedding(bert_tokenizer, embedding_dim=8)], device="cpu")
    assert export_onnx(model, tmp_path / "static.onnx", examples=texts).difference < 1e-6
    inputs = {name: value for name, value in model.preprocess(texts).items() if torch.is_tensor(value)}
    assert np.abs(run(tmp_path / "static.onnx", inputs) - model.encode(texts)).max() < 1e-6


def test_pairs_for_a_reranker(bert_tokenizer, tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=120, num_labels=1, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    model = BertForSequenceClassification(config).eval()
    pairs = [("cut the heads", "yes"), ("slowly", "what is left behind"), ("yes", "a column of copper"), ("a", "b")]
    export_onnx(model, tmp_path / "reranker.onnx", processor=bert_tokenizer, examples=pairs)
    assert signature(tmp_path / "reranker.onnx")["logits"] == ["batch", 1]
    first = dict(bert_tokenizer(*zip(*pairs[:1], strict=True), return_tensors="pt"))
    swapped = first | {"token_type_ids": 1 - first["token_type_ids"]}
    wanted = model(**first).logits.item()
    assert run(tmp_path / "reranker.onnx", first).item() == pytest.approx(wanted, abs=1e-5)
    assert run(tmp_path / "reranker.onnx", swapped).item() != pytest.approx(wanted, abs=1e-5)


def test_images_with_free_sizes_where_the_examples_have_them(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    examples = [{"input": torch.randn(2, 3, 12, 16)}, {"input": torch.randn(3, 3, 9, 16)}]
    export_onnx(model, tmp_path / "free.onnx", examples=examples)
    assert signature(tmp_path / "free.onnx") == {"input": ["batch", 3, "height", 16], "output": ["batch", 2]}


def test_weights_beyond_the_limit_of_one_file_lie_beside_the_graph(tmp_path, monkeypatch):
    examples = [{"input": torch.randn(rows, 300)} for rows in (2, 3)]
    model = nn.Linear(300, 300)
    with monkeypatch.context() as smaller:
        smaller.setattr(export, "ONE_FILE_LIMIT", 1000)
        export_onnx(model, tmp_path / "large.onnx", examples=examples)
    assert files(tmp_path) == {"large.onnx", "large.onnx.data"}
    inputs = {"input": torch.randn(7, 300)}
    assert np.abs(run(tmp_path / "large.onnx", inputs) - model(**inputs).detach().numpy()).max() < 1e-5
    export_onnx(model, tmp_path / "large.onnx", examples=examples)
    assert files(tmp_path) == {"large.onnx"}


# --- graphs that must be refused --------------------------------------------------------------------------------------


def test_a_tampered_graph_is_refused(tmp_path):
    model, examples = nn.Linear(3, 2), [{"input": torch.randn(rows, 3)} for rows in (2, 3)]
    export_onnx(model, tmp_path / "linear.onnx", examples=examples)
    assert check_parity(tmp_path / "linear.onnx", lambda inputs: model(**inputs), examples).difference < 1e-6
    first_is_off = check_parity(
        tmp_path / "linear.onnx", lambda inputs: model(**inputs) + (5e-4 if len(inputs["input"]) == 2 else 0), examples
    )
    assert first_is_off.difference == pytest.approx(5e-4, abs=1e-6)
    graph = onnx.load(tmp_path / "linear.onnx")
    bias = next(tensor for tensor in graph.graph.initializer if list(tensor.dims) == [2])
    for added, allowed in ((5e-4, True), (2e-3, False), (float("nan"), False)):
        values = model.bias.detach().numpy() + np.array([0, added], dtype=np.float32)
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        onnx.save(graph, tmp_path / "linear.onnx")
        if allowed:
            found = check_parity(tmp_path / "linear.onnx", lambda inputs: model(**inputs), examples)
            assert found.difference == pytest.approx(added, abs=1e-6)
        else:
            with pytest.raises(UserError, match=r"is not the model: .*'input': \(2, 3\).* differ by (0\.002|nan)"):
                check_parity(tmp_path / "linear.onnx", lambda inputs: model(**inputs), examples)


class Stepped(nn.Module):
    """Takes another path for longer inputs, which tracing one length does not see."""

    def forward(self, x):
        return x * 2 if x.shape[1] > 8 else x


class Exported(nn.Module):
    """Computes something else while it is traced."""

    def forward(self, x):
        return x + 1 if torch.compiler.is_exporting() else x


@pytest.mark.parametrize("model", [Stepped(), Exported()])
def test_a_graph_that_is_not_the_model_leaves_no_file(model, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"an older graph")
    examples = [{"x": torch.ones(2, 6, 3)}, {"x": torch.ones(3, 4, 3)}, {"x": torch.ones(1, 20, 3)}]
    with pytest.raises(UserError, match=r"is not the model: .* differ by 1"):
        export_onnx(model, tmp_path / "model.onnx", examples=examples)
    assert (tmp_path / "model.onnx").read_bytes() == b"an older graph"
    assert files(tmp_path) == {"model.onnx"}


def test_what_can_not_be_traced_is_said_in_one_line(tmp_path):
    class Moody(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    examples = [{"x": torch.ones(2, 3)}, {"x": torch.ones(3, 3)}]
    with pytest.raises(UserError, match="Moody can't be traced") as failed:
        export_onnx(Moody(), tmp_path / "model.onnx", examples=examples)
    assert "\n" not in str(failed.value)
    assert not files(tmp_path)


def test_padded_places_do_not_count():
    wanted, found = np.zeros((2, 3, 4)), np.zeros((2, 3, 4))
    found[1, 2] = 7
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    assert parity_module._difference(found, wanted, mask) == 0
    assert parity_module._difference(found, wanted, torch.ones_like(mask)) == 7
    assert parity_module._difference(found, wanted, None) == 7
    assert parity_module._difference(found[:1], wanted, None) == float("inf")


def test_bad_input(bert, bert_tokenizer, tmp_path):
    file = tmp_path / "model.onnx"
    with pytest.raises(UserError, match=r"ends with \.onnx"):
        export_onnx(bert, tmp_path / "folder")
    with pytest.raises(UserError, match="say what kind of model"):
        export_onnx(tmp_path, file)
    with pytest.raises(UserError, match="tokenizer as processor"):
        export_onnx(bert, file)
    with pytest.raises(UserError, match="'input_ids' must differ in number of rows and in length"):
        export_onnx(bert, file, processor=bert_tokenizer, examples=["yes", "yes", "yes"])
    with pytest.raises(UserError, match="'input' must differ in number of rows"):
        export_onnx(nn.Linear(3, 2), file, examples=[{"input": torch.ones(2, 3)}] * 2)
    with pytest.raises(UserError, match="two rows"):
        export_onnx(nn.Linear(3, 2), file, examples=[{"input": torch.ones(rows, 3)} for rows in (0, 1)])
    assert not files(tmp_path)
