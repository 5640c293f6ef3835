"""The model card: front matter the Hub reads, code that runs as it stands, nothing claimed that isn't known.

.venv/bin/python -m pytest tests/report/test_card.py
"""

import json
import re

import pytest
import yaml
from tests.report.folders import RECIPE, RUN, write, write_complete, write_hostile, write_minimal

from stillroom.errors import UserError
from stillroom.report import write_card
from stillroom.report.card import ARCHITECTURES, kind_of

FENCE = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.M | re.S)


def card(folder, config=None):
    """The card's front matter, body and code blocks by language."""
    (folder / "model").mkdir(exist_ok=True)
    if config is not None:
        (folder / "model" / "config.json").write_text(json.dumps(config))
    text = write_card(folder).read_text("utf-8")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body, {match[2]: match[3] for match in FENCE.finditer(body)}


def test_a_complete_card(tmp_path):
    folder = write_complete(tmp_path)
    (folder / "model").mkdir()
    (folder / "model" / "modules.json").write_text("[]")
    front, body, code = card(folder)
    assert front == {
        "library_name": "sentence-transformers",
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "pipeline_tag": "sentence-similarity",
        "license": "apache-2.0",
        "tags": ["distillation", "knowledge-distillation", "stillroom", "margin-mse", "retrieval"],
    }
    plain = body.replace("\N{NARROW NO-BREAK SPACE}", " ").replace("\N{NO-BREAK SPACE}", " ")
    assert "keeps 94.1 % of the teacher’s nDCG@10" in plain
    assert "| margin-mse (student) | 0.670 | 94.1 % | 0.921 | 5.02 | 22.7 M | 90.9 MB |" in plain
    assert "48,213 rows, 9,120,344 tokens, of which 71.3 % were trained on" in plain
    assert "“Improving Efficient Neural Ranking Models" in plain
    assert yaml.safe_load(code["yaml"]) == RECIPE and code["sh"].strip() == RUN["command"]
    assert re.findall("^## (.*)$", body, re.M) == ["Use", "Measured", "Data", "Recipe", "Limits"]
    rows = [line for line in body.splitlines() if line.startswith("|")]
    assert len(rows) == 8 and len({row.count("|") for row in rows}) == 1


def test_what_is_not_known_is_not_claimed(tmp_path):
    front, body, code = card(write_minimal(tmp_path))
    assert front == {"tags": ["distillation", "knowledge-distillation", "stillroom"]}
    assert re.findall("^## (.*)$", body, re.M) == ["Limits"] and code == {}


@pytest.mark.parametrize("student", ["runs/a", "runs/a/model", "/home/me/model", "./model", "new", "a/b/c"])
def test_a_folder_is_no_base_model(tmp_path, monkeypatch, student):
    (tmp_path / "runs" / "a" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    front, _, _ = card(write(tmp_path / "run", run=RUN | {"student": student}))
    assert "base_model" not in front


def test_a_student_cut_of_the_teacher_is_based_on_it(tmp_path):
    recipe = RECIPE | {"student": {"cut": {"of": "teacher", "layers": [0, 2]}}}
    front, _, _ = card(write(tmp_path, run=RUN | {"student": "cut of the teacher"}, recipe=recipe))
    assert front["base_model"] == "intfloat/e5-large-v2"


@pytest.mark.parametrize(
    ("architecture", "loader", "task"),
    [
        ("Qwen3ForCausalLM", "AutoModelForCausalLM", "text-generation"),
        ("GPT2LMHeadModel", "AutoModelForCausalLM", "text-generation"),
        ("BertModel", "AutoModel", "feature-extraction"),
        ("BertForMaskedLM", "AutoModelForMaskedLM", "fill-mask"),
        ("ViTForImageClassification", "AutoModelForImageClassification", "image-classification"),
        ("WhisperForConditionalGeneration", "AutoModelForSpeechSeq2Seq", "automatic-speech-recognition"),
        ("T5ForConditionalGeneration", "AutoModelForSeq2SeqLM", "text-generation"),
        ("CLIPModel", "AutoModel", "zero-shot-image-classification"),
    ],
)
def test_architectures(tmp_path, architecture, loader, task):
    front, _, code = card(write(tmp_path), {"architectures": [architecture]})
    assert front["library_name"] == "transformers" and front["pipeline_tag"] == task
    assert f"{loader}.from_pretrained" in code["python"]


def test_a_model_that_no_library_loads_has_no_snippet(tmp_path):
    front, _, code = card(write(tmp_path), {"architectures": ["Homemade"]})
    assert "library_name" not in front and "python" not in code


def test_every_loader_exists():
    import transformers

    assert [loader for loader, _ in ARCHITECTURES.values() if not hasattr(transformers, loader)] == []


def make_language_model(folder):
    from tests.servers import make_tiny_llama

    return make_tiny_llama(folder)


def make_classifier(folder):
    from tests.servers import make_tiny_llama
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    make_tiny_llama(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)


def make_sentence_encoder(folder):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tests.servers import make_tiny_llama
    from transformers import AutoTokenizer

    make_tiny_llama(folder / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu").save(str(folder))


@pytest.mark.parametrize("make", [make_language_model, make_classifier, make_sentence_encoder])
def test_the_code_runs_as_it_stands(tmp_path, make):
    folder = write(tmp_path)
    make(folder / "model")
    _, _, code = card(folder)
    scope = {}
    exec(code["python"].replace("path/to/model", str(folder / "model")), scope)
    assert scope.get("text") is not None or scope.get("label") or scope.get("likeness") is not None


def test_hostile_text(tmp_path):
    front, body, code = card(write_hostile(tmp_path), {"architectures": ["<b>ForCausalLM"]})
    assert set(front) == {"library_name", "pipeline_tag", "license", "tags"}
    outside = FENCE.sub("", body)
    assert "<script" not in outside and "<img" not in outside and "](http" not in outside.replace("\\]", "")
    assert re.findall("^## (.*)$", outside, re.M) == ["Use", "Measured", "Data", "Recipe", "Limits"]
    assert re.findall("^# ", outside, re.M) == ["# "] and "\n---\n" not in outside
    rows = [line for line in outside.splitlines() if line.startswith("|")]
    assert len(rows) == 8 and len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert "x" * 10_000 in code["yaml"]


def test_a_fence_in_the_recipe_does_not_end_the_code_block(tmp_path):
    folder = write(tmp_path)
    (folder / "recipe.yaml").write_text("note: |\n  ```\n  <script>\n")
    _, body, code = card(folder)
    assert code["yaml"] == "note: |\n  ```\n  <script>\n" and "````yaml" in body


def test_no_model(tmp_path):
    with pytest.raises(UserError, match="holds no model to describe"):
        write_card(write_minimal(tmp_path))


def test_kind_of_a_reranker(tmp_path):
    (tmp_path / "config.json").write_text(
        '{"architectures": ["BertForSequenceClassification"], "sentence_transformers": {}}'
    )
    assert kind_of(tmp_path).task == "text-ranking" and "CrossEncoder" in kind_of(tmp_path).snippet
