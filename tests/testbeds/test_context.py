"""The ground of context blocks: its boards, and that it tells better from worse.

.venv/bin/python -m pytest tests/testbeds/test_context.py
"""

import json

import pytest
import torch

from stillroom.reproduce import reproduce
from stillroom.testbeds import context

pytestmark = pytest.mark.usefixtures("own_cache")


def layouts(part):
    context.boards(part, True)
    from stillroom.data.cache import cache_folder

    found = sorted(cache_folder().glob(f"testbeds/boards-{part}*/**/layouts.json"))
    return json.loads(found[-1].read_text())


def test_no_layout_is_in_two_parts_and_answers_are_what_boards_show():
    parts = {part: layouts(part) for part in ("train", "validation", "test")}
    seen = {part: {str(layout) for _, layout in found} for part, found in parts.items()}
    assert not seen["train"] & seen["test"] and not seen["validation"] & (seen["train"] | seen["test"])
    for part, found in parts.items():
        for again, layout in found:
            corner, *others = (layout[cell] for cell in sorted(layout, key=int))
            assert len(layout) == context.SHOWN and "0" in layout
            assert (corner in others) == bool(again)
            assert len({corner, *others}) == context.SHOWN - again
        answers = context.boards(part, True).answers
        assert answers.tolist() == [again for again, _ in found] and answers.sum() * 2 == len(answers)


def test_an_emoji_stands_in_its_cell():
    images = context.boards("train", True).images
    assert images.shape[1:] == (3, 48, 48) and images.min() >= -1 and images.max() <= 1
    for (_, layout), image in zip(layouts("train"), images, strict=True):
        cells = image.unfold(1, 16, 16).unfold(2, 16, 16).reshape(3, 9, -1)
        drawn = {str(cell) for cell in range(9) if cells[:, cell].std(-1).sum() > 0.02}
        assert drawn == set(layout)


def test_networks_of_a_seed_differ_in_their_blocks_alone():
    plain, blocked = context.network("none", 3).state_dict(), context.network("gcnet", 3).state_dict()
    assert set(plain) < set(blocked)
    assert all(torch.equal(plain[name], blocked[name]) for name in plain)
    assert not torch.equal(plain["classifier.1.weight"], context.network("none", 4).state_dict()["classifier.1.weight"])


def test_the_benches_run(tmp_path):
    systems = reproduce("gcnet", seeds=[0], smoke=True, folder=tmp_path)["systems"]
    assert list(systems) == ["gcnet", "none", "none-wider", "se", "snl", "nl", "gc-average"]
    assert all(0 <= system["values"][0] <= 1 for system in systems.values())
    assert abs(systems["none-wider"]["parameters"] / systems["gcnet"]["parameters"] - 1) < 0.05
    blocks = reproduce("gc-block", seeds=[0], smoke=True, folder=tmp_path)["systems"]
    assert list(blocks) == ["gc-block", "gc-heavy", "snl", "se", "nl"]
    assert blocks["nl"]["values"][0] > blocks["gc-block"]["values"][0]
    assert 0 <= blocks["nl"]["metrics"]["attention_difference"][0] <= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_tells_better_from_worse(tmp_path, whole_ground):
    """A network that can compare far places beats one that can't, by more than seeds differ."""
    systems = reproduce("gcnet", folder=tmp_path)["systems"]
    assert systems["gcnet"]["mean"] - systems["none"]["mean"] > 2 * max(systems[n]["std"] for n in ("gcnet", "none"))
