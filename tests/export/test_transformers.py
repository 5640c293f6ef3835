"""Saved folders load with the plain libraries and hold the model alone; whatever goes wrong, the older model survives.

Run: pytest tests/export/test_transformers.py
"""

import copy
import resource
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.export.plain import files, plainly
from torch import nn

from stillroom.errors import UserError
from stillroom.export import save_clean

LOAD = """
import json, sys
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM, AutoTokenizer
language, pipeline, text = sys.argv[1:]
model, told = AutoModelForCausalLM.from_pretrained(language, output_loading_info=True)
logits = model(**AutoTokenizer.from_pretrained(language)(text, return_tensors="pt")).logits.tolist()
vectors = SentenceTransformer(pipeline, device="cpu").encode([text]).tolist()
print(json.dumps([{name: list(keys) for name, keys in told.items()}, logits, vectors]))
"""


def test_folders_load_with_the_plain_libraries(llama, llama_tokenizer, sentence_encoder, tmp_path):
    """One process for both, since it is the imports that take long."""
    llama_tokenizer = copy.deepcopy(llama_tokenizer)
    llama_tokenizer.model_input_names = ["input_ids", "attention_mask"]
    save_clean(llama, tmp_path / "saved" / "language", llama_tokenizer)
    save_clean(sentence_encoder, tmp_path / "saved" / "pipeline")
    text = "keep the heart"
    told, logits, vectors = plainly(LOAD, tmp_path / "saved" / "language", tmp_path / "saved" / "pipeline", text)
    assert told == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": [], "error_msgs": []}
    assert torch.equal(torch.tensor(logits), llama(**llama_tokenizer(text, return_tensors="pt")).logits)
    assert torch.allclose(torch.tensor(vectors), torch.tensor(sentence_encoder.encode([text])), atol=1e-6)

    assert "lm_head.weight" not in load_file(
        tmp_path / "saved" / "language" / "model.safetensors"
    )  # tied: written once
    own = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert files(tmp_path / "saved" / "language") == own
    assert not [name for name in files(tmp_path / "saved") if name.endswith((".bin", ".md"))]
    assert str(tmp_path) not in (tmp_path / "saved" / "language" / "config.json").read_text()


def test_any_other_module_is_written_as_safetensors(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    save_clean(model, tmp_path / "model", own_keys=["0.weight", "0.bias", "2.weight", "2.bias"])
    assert files(tmp_path / "model") == {"model.safetensors"}
    assert torch.equal(load_file(tmp_path / "model" / "model.safetensors")["2.weight"], model[2].weight)


def test_expert_weights_that_the_library_renames_on_disk_are_not_taken_for_foreign(tmp_path):
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=20,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=2,
    )
    model = MixtralForCausalLM(config)
    save_clean(model, tmp_path / "model")
    assert set(load_file(tmp_path / "model" / "model.safetensors")) != set(model.state_dict())


def refused(model, folder, message, **options):
    """Saving fails with the message, and an older model in the folder is what it was."""
    older = nn.Linear(2, 2)
    save_clean(older, folder)
    before = (files(folder.parent), (folder / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match=message) as failed:
        save_clean(model, folder, **options)
    assert "\n" not in str(failed.value)
    assert (files(folder.parent), (folder / "model.safetensors").read_bytes()) == before


def test_a_projector_left_in_the_student_is_refused(llama, sentence_encoder, tmp_path):
    llama.model.layers[0].projector = nn.Linear(16, 4)
    refused(llama, tmp_path / "model", r"holds model\.layers\.0\.projector\.bias.*belong to the objective")
    sentence_encoder[0].auto_model.projector = nn.Linear(16, 4)
    refused(sentence_encoder, tmp_path / "model", r"holds 0\.model\.projector\.bias")
    plain = nn.Sequential(nn.Linear(3, 4))
    keys = list(plain.state_dict())
    plain.projector = nn.Linear(4, 1)
    refused(plain, tmp_path / "model", r"holds projector\.bias, projector\.weight", own_keys=keys)


def test_a_foreign_module_in_a_pipeline_is_refused(sentence_encoder, tmp_path):
    sentence_encoder.projector = nn.Linear(8, 4)
    refused(sentence_encoder, tmp_path / "model", "projector is no module of sentence-transformers")


def test_a_missing_part_is_refused(llama, tmp_path):
    del llama.model.layers[1].mlp
    refused(llama, tmp_path / "model", r"lacks model\.layers\.1\.mlp\.down_proj\.weight.* its architecture needs")


def test_shapes_that_the_config_does_not_tell_are_refused(llama, tmp_path):
    llama.model.layers[0].mlp.down_proj = nn.Linear(8, 16, bias=False)
    refused(llama, tmp_path / "model", "does not load back.*its config must say so")


def test_an_adapter_is_refused(llama, tmp_path):
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(llama, LoraConfig(target_modules=["q_proj"]))
    refused(adapted, tmp_path / "model", r"merge it first: model = model\.merge_and_unload")
    save_clean(adapted.merge_and_unload(), tmp_path / "merged")


def test_pickles_are_refused(tmp_path):
    class Careless(nn.Linear):
        def save_pretrained(self, folder):
            torch.save(self.state_dict(), folder / "pytorch_model.bin")

    refused(Careless(2, 2), tmp_path / "model", r"pytorch_model\.bin is not safetensors")


@pytest.fixture
def full_disk():
    """No file may grow beyond 20 kB, which to a program looks like a full disk."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("kind", ["plain", "transformers"])
def test_the_older_model_survives_a_full_disk(kind, bert, tmp_path, full_disk):
    save_clean(nn.Linear(2, 2), tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    full_disk()
    with pytest.raises(UserError, match=r"could not be written.*make room"):
        save_clean(nn.Linear(100, 100) if kind == "plain" else bert, tmp_path / "model")
    assert files(tmp_path) == {"model/model.safetensors"}
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


def test_a_newer_model_replaces_the_older_one_whole(bert, tmp_path):
    save_clean(bert, tmp_path / "model")
    save_clean(nn.Linear(2, 2), tmp_path / "model")
    assert files(tmp_path) == {"model/model.safetensors"}


def test_a_save_that_was_killed_between_its_renames_is_mended(bert, tmp_path):
    save_clean(nn.Linear(2, 2), tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / ".model.older")
    (tmp_path / ".model.partial").mkdir()
    bert.projector = nn.Linear(2, 2)
    with pytest.raises(UserError, match="projector"):
        save_clean(bert, tmp_path / "model")
    assert files(tmp_path) == {"model/model.safetensors"}


def test_the_older_model_comes_back_when_the_new_one_can_not_take_its_place(tmp_path, monkeypatch):
    save_clean(nn.Linear(2, 2), tmp_path / "model")
    rename = Path.rename

    def failing(path, target):
        if path.name.endswith(".partial"):
            raise PermissionError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UserError, match="could not take its place"):
        save_clean(nn.Linear(3, 3), tmp_path / "model")
    assert files(tmp_path) == {"model/model.safetensors"}


def test_folders_that_hold_something_else_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds something that is not a model"):
        save_clean(nn.Linear(2, 2), tmp_path)
    with pytest.raises(UserError, match="is a file"):
        save_clean(nn.Linear(2, 2), tmp_path / "thesis.tex")
    assert files(tmp_path) == {"thesis.tex"}
    (tmp_path / "empty").mkdir()
    save_clean(nn.Linear(2, 2), tmp_path / "empty")


def test_a_place_that_can_not_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="could not be written"):
        save_clean(nn.Linear(2, 2), tmp_path / "file" / "model")
