"""The global context block: how much places differ in what they attend to, and what a block costs.

.venv/bin/python -m pytest tests/methods/vision/test_gc_block.py
"""

import math

import pytest
import torch

from stillroom import catalog
from stillroom.methods.vision.gc_block import GlobalContext, NonLocal, query_difference


def test_the_difference_is_the_mean_over_pairs_of_places():
    values = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    pairs = [
        (1 - cosine(image[i], image[j])) / 2 for image in values.tolist() for i in range(5) for j in range(5) if i != j
    ]
    assert query_difference(values) == pytest.approx(sum(pairs) / len(pairs), rel=1e-9)


def test_its_ends():
    assert query_difference(torch.ones(2, 6, 3)) == pytest.approx(0, abs=1e-6)
    assert query_difference(torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])) == pytest.approx(1)


def test_attention_that_ignores_the_query_shows_as_zero():
    """With a constant query every place of a non-local block attends alike: the finding that the block rests on."""
    torch.manual_seed(0)
    block, x = NonLocal(8), torch.randn(2, 8, 4, 4)
    assert query_difference(block.weights(x)) > 1e-4
    torch.nn.init.zeros_(block.query.weight)
    assert query_difference(block.weights(x)) == pytest.approx(0, abs=1e-6)


def test_what_has_no_pairs_is_refused():
    with pytest.raises(ValueError, match=r"with two places; not \(2, 1, 4\)"):
        query_difference(torch.ones(2, 1, 4))


def test_its_weights_grow_with_the_ratio_and_are_some_2_c_squared_r():
    def count(ratio):
        return sum(parameter.numel() for parameter in GlobalContext(256, ratio=ratio).parameters())

    # W1 and W2 with biases, layer norm, the score with its bias.
    assert count(1 / 16) == 2 * 256 * 16 + 16 + 256 + 2 * 16 + 257
    assert count(1 / 4) > 3.5 * count(1 / 16)


def test_the_catalogue_finds_the_block():
    assert catalog.load("gc-block") is GlobalContext
    assert {p.name for p in catalog.find("gc-block").source.parameters} == {"ratio", "pooling", "fusion"}
