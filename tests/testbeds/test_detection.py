"""The ground of open-vocabulary detection: what is labelled, what is shown, and that it tells better from worse.

.venv/bin/python -m pytest tests/testbeds/test_detection.py
"""

import pytest
import torch

from stillroom.blocks.regions import iou
from stillroom.reproduce import reproduce
from stillroom.testbeds import detection

pytestmark = pytest.mark.usefixtures("own_cache")


def test_novel_objects_are_there_and_never_labelled():
    rows = detection.scenes("train", True)
    labels = {label for row in rows for label in row["labels"]}
    assert any(not detection.base()[label] for label in labels) and int(detection.base().sum()) == 30
    for row in rows:
        image = detection._image(row)
        assert detection.base()[image.labels].all() and len(image.boxes) == len(image.labels)
        assert len(image.objects) == len(image.object_boxes) == len(image.proposals) > 0
        assert len(image.blocks) == len(image.block_boxes) > 1


def test_proposals_cover_every_object_and_other_places():
    for row in detection.scenes("test", True):
        proposals, boxes = torch.tensor(row["proposals"]), torch.tensor(row["boxes"]).float()
        assert len(proposals) == detection.PROPOSALS * len(boxes) + detection.ANYWHERE
        assert proposals.min() >= 0 and proposals.max() <= detection.SIZE
        assert (iou(boxes, proposals).max(-1).values > 0.5).all()
        covers, labels = detection.shown(row)
        assert labels[covers][0] == row["labels"][0]


def test_scores_are_counted_for_base_and_novel_objects_apart():
    perfect = []
    for row in detection.scenes("test", True):
        _, labels = detection.shown(row)
        scores = torch.nn.functional.one_hot(labels, detection.KINDS).float()
        scores[~detection.base()[labels]] = 0.0
        scores[~detection.base()[labels], 0] = 1.0
        perfect.append(scores)
    assert detection.accuracies(perfect, "test", True) == {"novel_accuracy": 0.0, "base_accuracy": 1.0}


def test_the_bench_runs(tmp_path):
    systems = reproduce("oadp", seeds=[0], smoke=True, folder=tmp_path)["systems"]
    assert list(systems) == [*detection.DETECTORS, *detection.CROPS]
    assert all(0 <= value[0] <= 1 for system in systems.values() for value in system["metrics"].values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_tells_better_from_worse(tmp_path, whole_ground):
    """CLIP names novel objects better than a detector that learnt from labels alone, by more than its seeds differ."""
    systems = reproduce("oadp", folder=tmp_path)["systems"]
    assert systems["clip-adaptive"]["mean"] - systems["no-distillation"]["mean"] > 2 * systems["no-distillation"]["std"]
