"""Pictures whose every pixel has a class: what is read, what counts, where logits stand, what is saved.

.venv/bin/python -m pytest tests/views/test_segmentation_view.py
"""

import io

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image
from PIL import Image as Pictures
from transformers import AutoModelForSemanticSegmentation, ViTImageProcessorPil

from stillroom.data.files import load
from stillroom.errors import UserError
from stillroom.evaluate.segmentation import Confusion
from stillroom.measuring.held_out import held_out
from stillroom.recipe import Scratch
from stillroom.students.open import new_model
from stillroom.views.load import kind_of, open_model
from stillroom.views.segmentation import ImageSegmenter

CONFIG = {
    "num_labels": 3,
    "hidden_sizes": [8, 8, 8, 8],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 1, 1],
    "decoder_hidden_size": 8,
}
MASK = np.array([[0, 1], [2, 255]], dtype=np.uint8)


def png(mask):
    file = io.BytesIO()
    Pictures.fromarray(mask).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def opened(tmp_path):
    torch.manual_seed(0)
    new_model(Scratch(architecture="segformer", config=CONFIG), "segmentation", list, tmp_path)
    return open_model(str(tmp_path), "segmentation", size=32)


@pytest.mark.parametrize("mask", [MASK, MASK.tolist(), Pictures.fromarray(MASK), png(MASK)])
def test_a_mask_is_the_same_however_it_comes_and_is_enlarged_without_new_classes(mask):
    classes = ImageSegmenter(size=4).classes(mask)
    assert classes.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 255, 255], [2, 2, 255, 255]]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((2, 2, 3), dtype=np.uint8), r"a mask has the shape \[2, 2, 3\]"),
        ([[0.0, 0.5]], "classes are whole numbers from 0 to 254, and 255 where there is none"),
        ([[0, 300]], "a mask has numbers from 0 to 300"),
        (b"no picture", "a mask can't be decoded"),
    ],
)
def test_what_is_no_mask_is_refused(mask, message):
    with pytest.raises(UserError, match=message):
        ImageSegmenter(size=2).classes(mask)


def test_pixels_stand_row_by_row_and_those_without_a_class_do_not_count():
    view = ImageSegmenter(size=2)
    inputs = view.collate([view.encode({"image": np.zeros((2, 2, 3), dtype=np.uint8), "mask": MASK})])
    assert inputs.labels.tolist() == [[0, 1, 2, 255]] and inputs.mask.tolist() == [[True, True, True, False]]
    assert inputs.arguments["pixel_values"].shape == (1, 3, 2, 2)


def test_logits_are_the_models_own_brought_to_the_pixels(opened):
    pixels = torch.randn(2, 3, 32, 32)
    opened.model.eval()
    signals = opened.view.emit(opened.model, {"pixel_values": pixels}, ("logits", "hidden:all"))
    coarse = opened.model(pixels).logits
    wanted = torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear")
    assert signals.logits.shape == (2, 32 * 32, 3)
    torch.testing.assert_close(signals.logits[1, 5 * 32 + 7], wanted[1, :, 5, 7])
    assert [tuple(signals.hidden[stage].shape[2:]) for stage in range(4)] == [(8, 8), (4, 4), (2, 2), (1, 1)]


def test_what_is_saved_loads_with_plain_transformers(opened, tmp_path):
    opened.view.save(opened.model, tmp_path / "saved")
    assert kind_of(str(tmp_path / "saved")) == "segmentation"
    plain = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "saved").eval()
    processor = ViTImageProcessorPil.from_pretrained(tmp_path / "saved")
    picture = Pictures.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    found = plain(**processor(picture, return_tensors="pt")).logits
    own = opened.view.collate([opened.view.encode({"image": picture, "mask": np.zeros((32, 32), dtype=np.uint8)})])
    torch.testing.assert_close(opened.model.eval()(**own.arguments).logits, found, atol=1e-4, rtol=1e-4)
    assert open_model(str(tmp_path / "saved"), "segmentation").view.fingerprint == opened.view.fingerprint


def test_rows_come_from_files_and_are_measured(opened, tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {
            "image": {"bytes": png(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)), "path": None},
            "mask": {"bytes": png(np.full((8, 8), n % 3, dtype=np.uint8)), "path": None},
        }
        for n in range(6)
    ]
    Dataset.from_list(rows, features=Features(image=Image(), mask=Image())).to_parquet(tmp_path / "rows.parquet")
    found = load(str(tmp_path / "rows.parquet"))
    assert found[1]["mask"].size == (8, 8) and np.asarray(found[1]["mask"]).max() == 1
    opened.model.eval()
    torch.nn.init.zeros_(opened.model.decode_head.classifier.weight)
    with torch.no_grad():
        opened.model.decode_head.classifier.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    # Everywhere the second class: IoU 1/3 of the second, 0 of the others.
    measured = held_out(opened, opened, found)
    assert measured == {
        "mean_iou": pytest.approx(1 / 9),
        "pixel_accuracy": pytest.approx(1 / 3),
        "label_loyalty": pytest.approx(1.0),
    }


def test_files_of_a_row_are_found_from_its_folder(tmp_path):
    (tmp_path / "a.png").write_bytes(png(np.zeros((2, 2, 3), dtype=np.uint8)))
    (tmp_path / "m.png").write_bytes(png(MASK))
    (tmp_path / "rows.jsonl").write_text('{"image": "a.png", "mask": "m.png"}\n')
    assert np.asarray(load(str(tmp_path / "rows.jsonl"))[0]["mask"]).tolist() == MASK.tolist()
    (tmp_path / "rows.jsonl").write_text('{"image": "a.png", "mask": "n.png"}\n')
    with pytest.raises(UserError, match=r"rows.jsonl line 1: there is no mask 'n.png' in"):
        load(str(tmp_path / "rows.jsonl"))


def test_the_mean_over_classes_is_that_of_scikit_learn():
    from sklearn.metrics import accuracy_score, jaccard_score

    rng = np.random.default_rng(0)
    truth, chosen = rng.integers(0, 4, 500), rng.integers(0, 5, 500)
    confusion = Confusion()
    for part in (slice(0, 100), slice(100, 500)):
        confusion.add(torch.from_numpy(truth[part]), torch.from_numpy(chosen[part]), 6)
    wanted = jaccard_score(truth, chosen, labels=[0, 1, 2, 3], average="macro")
    assert confusion.mean_iou == pytest.approx(wanted) and confusion.accuracy == accuracy_score(truth, chosen)
    assert confusion.iou[4] == 0 and confusion.iou[5].isnan()
    with pytest.raises(ValueError, match="there are classes 0 to 5; a pixel has 7"):
        confusion.add(torch.tensor([7]), torch.tensor([0]), 6)
