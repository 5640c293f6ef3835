"""The ground of segmentation: its scenes, and that it tells better from worse.

.venv/bin/python -m pytest tests/testbeds/test_segmentation.py
"""

import numpy as np
import pytest

from stillroom.data.files import load
from stillroom.reproduce import reproduce
from stillroom.testbeds import segmentation

pytestmark = pytest.mark.usefixtures("own_cache")


def test_scenes_are_not_shared_and_their_classes_are():
    parts = {part: load(segmentation.scenes(part, True)) for part in ("train", "validation", "test")}
    pictures = {part: {np.asarray(row["image"]).tobytes() for row in rows} for part, rows in parts.items()}
    assert not pictures["train"] & (pictures["test"] | pictures["validation"])
    for rows in parts.values():
        masks = np.stack([np.asarray(row["mask"]) for row in rows])
        assert masks.shape[1:] == (segmentation.SIZE, segmentation.SIZE)
        assert masks.min() == 0 and 1 <= masks.max() <= segmentation.CLASSES


def test_the_bench_runs_with_its_ablations(tmp_path):
    systems = reproduce("transkd", seeds=[0], smoke=True, folder=tmp_path)["systems"]
    assert list(systems) == ["teacher", "transkd", "sft", "forward_kl", "csf-only"]
    assert all(0 <= system["values"][0] <= 1 for system in systems.values())
    students = [system["parameters"] for name, system in systems.items() if name != "teacher"]
    assert len(set(students)) == 1 and systems["teacher"]["parameters"] > 5 * students[0]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_tells_better_from_worse(tmp_path, whole_ground):
    """The teacher segments better than a student that is trained without it, by more than its seeds differ."""
    systems = reproduce("transkd", folder=tmp_path)["systems"]
    assert systems["teacher"]["mean"] - systems["sft"]["mean"] > 2 * systems["sft"]["std"]
