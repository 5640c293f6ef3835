"""Digits: splits of fixed size that share no image and hold the same part of each digit.

Run: pytest tests/data/test_data_digits.py
"""

from collections import Counter

import numpy as np
from sklearn.datasets import load_digits

from stillroom.data import check, load, recognise

SPLITS = ("train", "validation", "test")


def test_all_images_are_in_one_split_with_their_label():
    raw = load_digits()
    label_of = {
        image.tobytes(): label for image, label in zip(raw.data.astype("float32") / 16, raw.target, strict=True)
    }
    assert len(label_of) == 1797, "no image occurs twice"
    seen = []
    for split in SPLITS:
        table = load("digits", split=split).with_format("numpy")
        keys = [np.asarray(image, dtype="float32").tobytes() for image in table["image"]]
        assert [label_of[key] for key in keys] == list(table["label"])
        seen += keys
    assert sorted(seen) == sorted(label_of)


def test_splits_have_their_share_of_each_digit():
    totals = Counter(load_digits().target.tolist())
    for split, part in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
        counts = Counter(load("digits", split=split)["label"])
        assert all(abs(counts[digit] - part * totals[digit]) <= 1 for digit in range(10))


def test_rows_are_labelled_images():
    table = load("digits", limit=5)
    assert recognise(table.column_names) == "labelled-image"
    check(table[0], "labelled-image", "digits row 1", classes=table.features["label"].names)
    assert np.array(table["image"][:]).shape == (5, 8, 8)
    assert table["id"][:] == load("digits", limit=5)["id"][:] != load("digits", limit=5, seed=1)["id"][:]
