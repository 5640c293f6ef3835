"""Models with two towers: what is read is what their processors make, what is emitted what they say; loading elsewhere.

.venv/bin/python -m pytest tests/views/test_image_text.py
"""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor, pipeline

from stillroom.data.files import load
from stillroom.data.rows import recognise
from stillroom.errors import UserError
from stillroom.measuring.held_out import first_of_all, held_out
from stillroom.recipe import Scratch
from stillroom.students.open import new_model
from stillroom.views.image_text import ImageText, patches_of
from stillroom.views.load import kind_of, open_model

TEXTS = ["a dog", "a red apple to the left of a dog", "two cats on a blue background"]
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
PIXELS = {"image_size": 12, "patch_size": 4}
SHAPES = {
    "clip": {"text_config": TOWER, "vision_config": TOWER | PIXELS, "projection_dim": 8},
    "siglip": {"text_config": TOWER | {"max_position_embeddings": 64}, "vision_config": TOWER | PIXELS},
}


def picture(seed, size=(20, 16)):
    levels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((size[1], size[0]))


ROWS = [{"image": picture(seed), "text": text} for seed, text in enumerate(TEXTS)]


@pytest.fixture(scope="module", params=sorted(SHAPES))
def folder(request, tmp_path_factory):
    """A model as it is saved, with its processor."""
    plain, saved = (tmp_path_factory.mktemp(request.param) / part for part in ("plain", "saved"))
    torch.manual_seed(0)
    scratch = Scratch(architecture=request.param, config=SHAPES[request.param], vocabulary=300)
    new_model(scratch, "image-text", lambda: TEXTS, plain)
    opened = open_model(str(plain), "image-text")
    with torch.no_grad():
        opened.model.logit_scale.fill_(1.5)
        if request.param == "siglip":
            opened.model.logit_bias.fill_(-2.0)
    opened.view.save(opened.model, saved)
    return saved


@pytest.fixture
def opened(folder):
    found = open_model(str(folder), "image-text")
    found.model.eval()
    return found


def batch(opened, rows=ROWS):
    return opened.view.collate([opened.view.encode(row) for row in rows])


def test_what_is_read_is_what_the_saved_processor_makes(opened, folder):
    processor = AutoProcessor.from_pretrained(folder)
    padding = {"padding": "max_length", "max_length": 64} if opened.view.whole_window else {"padding": True}
    wanted = processor(images=[row["image"] for row in ROWS], text=TEXTS, return_tensors="pt", **padding)
    found = batch(opened).arguments
    torch.testing.assert_close(found["pixel_values"], wanted["pixel_values"], atol=1e-6, rtol=1e-6)
    assert torch.equal(found["input_ids"], wanted["input_ids"])
    assert ("attention_mask" in found) is not opened.view.whole_window


@torch.no_grad()
def test_vectors_scale_and_bias_are_the_models_own(opened):
    arguments = batch(opened).arguments
    found = opened.view.emit(opened.model, arguments, ("tower:image", "tower:text", "scale", "bias"))
    wanted = opened.model(**arguments)
    pictures, texts = (torch.nn.functional.normalize(found.towers[side], dim=-1) for side in ("image", "text"))
    torch.testing.assert_close(found.scale * pictures @ texts.T + found.bias, wanted.logits_per_image)
    assert float(found.scale) == pytest.approx(np.exp(1.5))
    assert not torch.allclose(found.towers["image"].norm(dim=-1), torch.ones(3), atol=1e-2)


@torch.no_grad()
def test_only_what_is_asked_for_is_run(opened):
    arguments = batch(opened).arguments
    texts = {name: value for name, value in arguments.items() if name != "pixel_values"}
    assert set(opened.view.emit(opened.model, texts, ("tower:text",)).towers) == {"text"}
    tapped = opened.view.emit(opened.model, arguments, ("tap:vision_model.embeddings",))
    assert not tapped.towers and set(tapped.taps) == {"vision_model.embeddings"}
    with pytest.raises(ValueError, match="gives no hidden:1; ask for tower:image"):
        opened.view.emit(opened.model, arguments, ("hidden:1",))


@torch.no_grad()
def test_neighbours_in_a_batch_change_nothing(opened):
    alone, together = (
        opened.view.emit(opened.model, batch(opened, rows).arguments, ("tower:text",)).towers["text"][0]
        for rows in (ROWS[:1], ROWS)
    )
    torch.testing.assert_close(alone, together)


@torch.no_grad()
def test_a_tower_that_reads_all_patches_in_another_order_sees_the_same(opened):
    arguments = batch(opened).arguments
    whole = opened.view.emit(opened.model, arguments, ("tower:image",)).towers["image"]
    assert patches_of(opened.model) == 9
    mixed = arguments | {"patches": torch.stack([torch.randperm(9) for _ in ROWS])}
    torch.testing.assert_close(opened.view.emit(opened.model, mixed, ("tower:image",)).towers["image"], whole)
    few = arguments | {"patches": torch.zeros(3, 1, dtype=torch.long)}
    assert not torch.allclose(opened.view.emit(opened.model, few, ("tower:image",)).towers["image"], whole)


def test_a_picture_is_the_same_however_it_comes(opened):
    file = io.BytesIO()
    ROWS[0]["image"].save(file, "png")
    levels = np.asarray(ROWS[0]["image"])
    forms = [ROWS[0]["image"], file.getvalue(), levels, levels.tolist(), levels / 255, levels.transpose(2, 0, 1)]
    found = {opened.view.encode({"image": form, "text": "x"})["pixels"] for form in forms}
    assert len(found) == 1
    grey = opened.view.encode({"image": levels[..., 0], "text": "x"})
    pixels = np.frombuffer(grey["pixels"], np.uint8).reshape(3, 12, 12)
    assert np.array_equal(pixels[0], pixels[1]) and np.array_equal(pixels[0], pixels[2])
    with pytest.raises(UserError, match=r"shape \[4, 5, 2\]"):
        opened.view.encode({"image": np.zeros((4, 5, 2)), "text": "x"})


def test_long_texts_are_cut_and_keep_their_end(folder):
    view = ImageText.read(folder, max_length=5)
    row = view.encode({"image": ROWS[0]["image"], "text": "a dog and a dog and a dog"})
    assert len(row["input_ids"]) == 5 and row["input_ids"][-1] == view.tokenizer.eos_token_id and row["shortened"]


def test_a_saved_model_loads_without_stillroom(opened, folder):
    assert kind_of(str(folder)) == "image-text"
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    assert type(model) is type(opened.model) and type(processor).__name__.startswith(("CLIP", "Siglip"))
    classify = pipeline("zero-shot-image-classification", model=str(folder))
    found = classify(ROWS[0]["image"], candidate_labels=["dog", "apple"], hypothesis_template="a {}")
    assert {one["label"] for one in found} == {"dog", "apple"}


def test_a_view_that_was_saved_reads_alike(opened, folder, tmp_path):
    opened.view.save(opened.model, tmp_path / "again")
    again = ImageText.read(tmp_path / "again")
    assert again.fingerprint == opened.view.fingerprint != ImageText.read(folder, max_length=7).fingerprint


def test_held_out_pairs_are_searched_both_ways(opened):
    from datasets import Dataset

    rows = Dataset.from_list([{"image": np.asarray(row["image"]).tolist(), "text": row["text"]} for row in ROWS])
    found = held_out(opened, opened, rows)
    assert found["teacher_pairwise"] == pytest.approx(1)
    assert found.keys() == {"teacher_pairwise", "image_to_text@1", "text_to_image@1"}


def test_the_nearest_is_right_where_it_says_the_same():
    """Pictures 0 and 2 show the same; picture 1 finds caption 0, and caption 2 finds picture 0."""
    similarities = torch.tensor([[0.9, 0.1, 0.8], [0.7, 0.5, 0.1], [0.3, 0.1, 0.2]])
    found = first_of_all(similarities, ["a dog", "a cat", "a dog"])
    assert found == {"image_to_text@1": pytest.approx(2 / 3), "text_to_image@1": 1.0}


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_of_pictures_and_captions_are_read_from_a_file(tmp_path):
    ROWS[0]["image"].save(tmp_path / "dog.png")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"image": "dog.png", "text": "a dog"}) + "\n")
    found = load(str(tmp_path / "rows.jsonl"))
    assert recognise(found.column_names) == "image-text" and found[0]["image"].size == ROWS[0]["image"].size
    (tmp_path / "rows.jsonl").write_text(json.dumps({"image": "cat.png", "text": "a cat"}) + "\n")
    with pytest.raises(UserError, match=r"line 1: there is no image 'cat\.png'"):
        load(str(tmp_path / "rows.jsonl"))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"image": "dog.png", "text": " "}) + "\n")
    with pytest.raises(UserError, match="'text' is empty"):
        load(str(tmp_path / "rows.jsonl"))
