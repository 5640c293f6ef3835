"""Hidden patches: how many, in which shapes.

.venv/bin/python -m pytest tests/blocks/test_patch_masks.py
"""

import random

import pytest
import torch

from stillroom.blocks.patch_masks import patch_mask


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)


def test_blocks_hide_at_most_what_was_asked_and_nearly_that():
    counts = [int(patch_mask(14, 14, 60).sum()) for _ in range(100)]
    assert max(counts) <= 60 and sum(counts) / len(counts) > 50


def test_any_patches_are_exactly_so_many():
    masks = torch.stack([patch_mask(6, 6, 9, "random") for _ in range(400)])
    assert (masks.sum((1, 2)) == 9).all()
    assert (masks.float().mean(0) - 0.25).abs().max() < 0.12  # everywhere alike


def test_blocks_hold_together_where_random_patches_do_not():
    def touching(shape):
        masks = torch.stack([patch_mask(14, 14, 40, shape) for _ in range(50)])
        return float((masks[:, :, 1:] & masks[:, :, :-1]).float().sum() / masks.float().sum())

    assert touching("block") > 2 * touching("random")


def test_ends_and_what_is_refused():
    assert not patch_mask(4, 4, 0).any() and patch_mask(4, 4, 16, "random").all()
    with pytest.raises(ValueError, match="a grid of 4 x 4 patches can't hide 17"):
        patch_mask(4, 4, 17)
    with pytest.raises(ValueError, match="'block' or 'random', not 'blocks'"):
        patch_mask(4, 4, 3, "blocks")
