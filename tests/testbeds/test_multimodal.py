"""The ground of the family `multimodal`: its scenes, what it measures, and that it tells better from worse.

.venv/bin/python -m pytest tests/testbeds/test_multimodal.py
"""

from collections import Counter

import pytest
import torch

from stillroom.data.files import load
from stillroom.errors import UserError
from stillroom.reproduce import reproduce
from stillroom.testbeds import multimodal, scenes, tiny_clip
from stillroom.views.load import open_model

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(autouse=True)
def installed(own_cache):
    try:
        scenes.scenes("test", 1)
    except UserError as missing:
        pytest.skip(str(missing))


def test_no_combination_is_in_two_splits_and_all_show_the_same_emoji():
    seen = {}
    for split in ("train", "validation", "test"):
        rows = scenes.scenes(split, 200)
        shown = zip(rows["background"], rows["names"], strict=True)
        seen[split] = {(background, *sorted(names)) for background, names in shown}
        assert rows.features["labels"].feature.names == scenes.objects(1).features["label"].names
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]


def test_each_caption_of_the_test_is_of_one_picture():
    rows = load(scenes.captioned("test", True))
    assert len(rows) == len(set(rows["text"])) == 16 and all(rows["clean"])
    assert rows[0]["image"].size == (scenes.SIZE, scenes.SIZE)


def test_corrupted_captions_are_those_of_other_pictures():
    clean, noisy = (load(scenes.captioned("train", True, share)) for share in (0.0, 0.4))
    changed = [one != other for one, other in zip(clean["text"], noisy["text"], strict=True)]
    assert sum(changed) == round(0.4 * len(clean)) and changed == [not mark for mark in noisy["clean"]]
    assert Counter(clean["text"]) == Counter(noisy["text"]) and all(clean["clean"])
    assert clean[0]["image"].tobytes() == noisy[0]["image"].tobytes()


def test_captions_that_say_the_same_are_not_exchanged():
    texts = ["a dog"] * 5 + [f"{n} cats" for n in range(5)]
    moved = scenes.exchanged(texts, 1.0)
    assert sorted(moved) == sorted(moved.values()) == list(range(10))
    assert all(texts[place] != texts[other] for place, other in moved.items())


def test_teacher_and_student_read_alike_and_share_a_space():
    teacher = open_model(tiny_clip.teacher(smoke=True), "image-text")
    words = teacher.view.tokenizer("a triangular ruler to the right of a sushi on a purple background")["input_ids"]
    assert words[0] == teacher.view.tokenizer.bos_token_id and words[-1] == teacher.view.tokenizer.eos_token_id
    assert tiny_clip.TEACHER["projection_dim"] == tiny_clip.STUDENT["projection_dim"] == 64


def test_an_emoji_is_named_by_the_nearest_prompt(monkeypatch):
    """Names at the corners of a cube, whatever the colour; every picture beside its own name but the first."""
    pictures, names = scenes.objects(8), scenes.objects(1).features["label"].names
    corners = torch.eye(len(names))
    shown = corners[torch.tensor(pictures["label"])] + 0.3
    shown[0] = corners[pictures["label"][0] - 1]
    monkeypatch.setattr(multimodal, "text_vectors", lambda opened, texts: corners.repeat_interleave(8, 0))
    monkeypatch.setattr(multimodal, "tower_vectors", lambda opened, rows: {"image": shown})
    assert multimodal._zero_shot(None, 8) == pytest.approx(7 / 8)


def test_what_is_kept_of_the_corrupted_is_counted(monkeypatch):
    """A reference that knows the corrupted pairs keeps none of them; one that loves them keeps no other."""
    batch = multimodal.CURATED[True]["batch"]
    corrupted = ~torch.tensor(load(scenes.captioned("train", True, multimodal.CORRUPTED))["clean"])[:batch]
    reference = torch.diag(100.0 * corrupted)
    for sign in (1, -1):
        losses = iter([[torch.zeros(batch, batch)], [sign * reference]])
        monkeypatch.setattr(multimodal, "_losses", lambda *_, losses=losses: next(losses))
        found = multimodal.kept_of_corrupted(None, smoke=True)["corrupted_kept"]
        assert found <= 1 / 16 if sign == 1 else found >= 15 / 16  # the first of sixteen is drawn by chance


@pytest.mark.parametrize("slug", sorted(multimodal.BENCHES))
def test_every_bench_runs(slug, tmp_path):
    bench = multimodal.BENCHES[slug]
    result = reproduce(slug, seeds=[0], smoke=True, folder=tmp_path)
    assert {"teacher", slug, bench.versus, "untrained"} <= set(result["systems"])
    assert all(0 <= system["values"][0] <= 1 for system in result["systems"].values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_tells_better_from_worse(tmp_path, whole_ground):
    """The teacher finds more scenes than a student that is trained without it, by more than its seeds differ."""
    found = reproduce("clip-kd", folder=tmp_path)["systems"]
    assert found["teacher"]["mean"] - found["clip"]["mean"] > 3 * found["clip"]["std"]
