"""The ground of learning without labels: its pictures, what it measures, and that it tells better from worse.

.venv/bin/python -m pytest tests/testbeds/test_objects.py
"""

import pytest
import torch
from torch.nn import functional as F

from stillroom.reproduce import reproduce
from stillroom.testbeds import objects

pytestmark = pytest.mark.usefixtures("own_cache")


def test_pictures_are_not_shared_and_emoji_are():
    parts = {part: objects._rows(part, True) for part in ("train", "test")}
    pictures = {part: {row["image"].tobytes() for row in rows} for part, rows in parts.items()}
    assert not pictures["train"] & pictures["test"]
    assert parts["train"].features["label"].names == parts["test"].features["label"].names
    assert len(parts["train"].features["label"].names) == objects.KINDS


def test_patches_that_show_an_emoji_are_told_by_its_mask():
    there = objects.shown(True)
    side = objects.SIZE // objects.PATCH
    assert there.shape == (objects.PICTURES[True]["test"], side**2)
    row = objects._rows("test", True)[0]
    mask = torch.tensor(list(row["mask"].getdata())).reshape(objects.SIZE, objects.SIZE) > 0
    patch = mask[: objects.PATCH, objects.PATCH : 2 * objects.PATCH]
    assert bool(there[0, 1]) == (float(patch.float().mean()) >= 0.5)


def test_the_nearest_patch_of_another_picture_is_counted():
    """Four pictures of two emoji; the second patch of the last looks like the other emoji, the third does not count."""
    towards = {"a": [1.0, 0.0, 0.0], "b": [0.0, 1.0, 0.0], "same": [0.0, 0.0, 1.0]}
    looks = [["a", "a", "same"], ["a", "a", "same"], ["b", "b", "same"], ["b", "a", "same"]]
    patches = torch.tensor([[towards[look] for look in picture] for picture in looks])
    there = torch.tensor([[True, True, False]] * 4)
    found = objects.patch_purity(F.normalize(patches, dim=-1), torch.tensor([0, 0, 1, 1]), there)
    assert found == pytest.approx(7 / 8)


def test_the_bench_runs_with_both_halves(tmp_path):
    systems = reproduce("ibot", seeds=[0], smoke=True, folder=tmp_path)["systems"]
    assert list(systems) == ["ibot", "dino", "patches-only", "untrained"]
    assert all(0 <= value[0] <= 1 for system in systems.values() for value in system["metrics"].values() if value[0])
    assert len({system["parameters"] for system in systems.values()}) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_tells_better_from_worse(tmp_path, whole_ground):
    """What is learnt from pictures alone finds emoji better than what the weights knew at the start."""
    systems = reproduce("ibot", folder=tmp_path)["systems"]
    for name in ("ibot", "dino"):
        assert systems[name]["mean"] - systems["untrained"]["mean"] > 2 * systems[name]["std"]
