"""The ground of the family `vision`: its pictures, what it measures, and that it tells better from worse.

.venv/bin/python -m pytest tests/testbeds/test_vision.py
"""

import json
from pathlib import Path

import pytest
import torch

from stillroom.data.files import load
from stillroom.reproduce import reproduce
from stillroom.testbeds import vision
from stillroom.views.load import open_model

pytestmark = pytest.mark.usefixtures("own_cache")


def rows(part, smoke=True):
    return [json.loads(line) for line in Path(vision.pictures(part, smoke)).read_text().splitlines()]


def test_the_digits_of_the_test_are_never_trained_on():
    seen = {row["label"] for part in ("train", "validation") for row in rows(part)}
    unseen = {row["label"] for row in rows("test")}
    assert seen == set(vision.SEEN) and unseen == set(vision.UNSEEN) and not seen & unseen
    train, validation = ({json.dumps(row["image"]) for row in rows(part)} for part in ("train", "validation"))
    assert not train & validation and len(rows("train")) == vision.COPIES * 10 * len(vision.SEEN)


def test_all_pictures_of_the_unseen_digits_are_asked_for_once():
    everything = [row["label"] for split in ("train", "validation", "test") for row in load("digits", split=split)]
    assert len(rows("test", smoke=False)) == sum(label in vision.UNSEEN for label in everything) > 600


def test_a_picture_is_a_digit_on_a_field():
    images = torch.tensor([row["image"] for row in load("digits", split="test", limit=50)])
    fields = vision.scattered(images)
    assert fields.shape == (50, vision.FIELD, vision.FIELD) and fields.min() >= 0 and fields.max() <= 1
    assert torch.equal(fields, vision.scattered(images)) and not torch.equal(fields[0], vision.scattered(images[1:])[0])
    ink, empty = fields.flatten(1).sum(1), vision.scattered(torch.zeros(50, 8, 8)).flatten(1).sum(1)
    assert (ink > empty + 10).all()  # nothing is pushed off the field
    assert all(len(image) == vision.FIELD for image in rows("test")[0]["image"])


def test_the_share_of_right_neighbours_is_counted(monkeypatch):
    """Vectors on a line by label, but for one picture that stands beside another digit's; it is the nearest to none."""
    opened = open_model(vision.teacher(smoke=True), "image-encoder")
    labels = torch.tensor([row["label"] for row in rows("test")])
    line = 10.0 * labels + torch.linspace(0, 1, len(labels))
    line[0] = 10.0 * (labels[0] + 1) - 2
    given = iter(line.unsqueeze(1).split(128))

    def emit(self, model, arguments, needs):
        return type("S", (), {"embedding": next(given)})()

    monkeypatch.setattr(type(opened.view), "emit", emit)
    assert vision.neighbours(opened, smoke=True) == {"recall@1": pytest.approx(1 - 1 / len(labels))}


def test_the_bench_runs_with_one_method_under_several_names(tmp_path):
    result = reproduce("rkd", seeds=[0], smoke=True, folder=tmp_path)
    assert list(result["systems"]) == [
        "teacher",
        "rkd",
        "triplet",
        "rkd-distance",
        "rkd-angle",
        "dark-rank",
        "untrained",
    ]
    assert all(system["values"][0] is not None for system in result["systems"].values())
    parts = {}
    for name in ("rkd-distance", "rkd-angle", "dark-rank"):
        lines = (tmp_path / "rkd" / "seed-0" / "against" / name / "metrics.jsonl").read_text().splitlines()
        parts[name] = set(json.loads(lines[0])["parts"])
    assert parts == {"rkd-distance": {"distance"}, "rkd-angle": {"angle"}, "dark-rank": {"dark_rank"}}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_tells_better_from_worse(tmp_path, whole_ground):
    """The teacher finds more unseen digits than a student trained without it, by more than its seeds differ."""
    systems = reproduce("rkd", folder=tmp_path)["systems"]
    assert systems["teacher"]["mean"] - systems["triplet"]["mean"] > 2 * systems["triplet"]["std"]
