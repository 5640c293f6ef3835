"""The blocks that carry an image's context to its places: each against a slow reference, and where they stand.

.venv/bin/python -m pytest tests/blocks/test_context.py
"""

import math

import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetModel

from stillroom.blocks.context import (
    BLOCKS,
    GlobalContext,
    NonLocal,
    SimplifiedNonLocal,
    SqueezeExcitation,
    context_block,
    insert_context,
)
from stillroom.errors import UserError

C, H, W = 8, 3, 2
PLACES = [(row, column) for row in range(H) for column in range(W)]


@pytest.fixture
def x():
    return torch.randn(2, C, H, W, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def drawn(block):
    """The block with all its weights drawn, so that nothing is 0 by its start."""
    torch.manual_seed(1)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block.double()


def linear(convolution, vector):
    """A 1 x 1 convolution on one vector, number by number."""
    weight, bias = convolution.weight[:, :, 0, 0].tolist(), convolution.bias.tolist()
    return [sum(w * v for w, v in zip(row, vector, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def softmax(values):
    return [math.exp(value) / sum(map(math.exp, values)) for value in values]


def vectors(image):
    return [[float(image[c, row, column]) for c in range(C)] for row, column in PLACES]


def attended(pool, places):
    """sum_j softmax(w x_j + b)_j x_j, place by place."""
    weights = softmax([linear(pool.score, place)[0] for place in places])
    return [sum(a * place[c] for a, place in zip(weights, places, strict=True)) for c in range(C)]


def transform(layers, context):
    first, norm, _, last = layers
    hidden = linear(first, context)
    mean = sum(hidden) / len(hidden)
    spread = math.sqrt(sum((value - mean) ** 2 for value in hidden) / len(hidden) + norm.eps)
    gain, shift = norm.weight.flatten().tolist(), norm.bias.flatten().tolist()
    normed = [g * (value - mean) / spread + s for g, value, s in zip(gain, hidden, shift, strict=True)]
    return linear(last, [max(value, 0.0) for value in normed])


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def close(found, image, expected):
    """``expected(place)`` for every place of an image."""
    for (row, column), place in zip(PLACES, vectors(image), strict=True):
        torch.testing.assert_close(found[:, row, column], torch.tensor(expected(place), dtype=torch.float64))


def test_global_context_multiplies_then_adds_from_the_context_of_what_came_in(x):
    block = drawn(GlobalContext(C, ratio=0.5, fusion=("add", "multiply")))
    for image, found in zip(x, block(x).detach(), strict=True):
        context = attended(block.pool, vectors(image))
        factor = [sigmoid(value) for value in transform(block.transforms["multiply"], context)]
        term = transform(block.transforms["add"], context)
        close(found, image, lambda p, f=factor, t=term: [v * a + b for v, a, b in zip(p, f, t, strict=True)])


def test_average_pooling_is_a_plain_mean(x):
    block = drawn(GlobalContext(C, ratio=0.25, pooling="average"))
    for image, found in zip(x, block(x).detach(), strict=True):
        mean = [sum(place[c] for place in vectors(image)) / len(PLACES) for c in range(C)]
        term = transform(block.transforms["add"], mean)
        close(found, image, lambda p, t=term: [v + b for v, b in zip(p, t, strict=True)])


@pytest.mark.parametrize("scale", [False, True])
def test_non_local_attends_for_each_place_and_scaling_divides(x, scale):
    block = drawn(NonLocal(C, scale=scale))
    for image, found in zip(x, block(x).detach(), strict=True):
        places = vectors(image)
        keys, values = ([linear(part, place) for place in places] for part in (block.key, block.value))

        def expected(place, keys=keys, values=values):
            query = linear(block.query, place)
            scores = [sum(q * k for q, k in zip(query, key, strict=True)) for key in keys]
            weights = softmax([score / math.sqrt(C // 2) if scale else score for score in scores])
            pooled = [sum(a * v[c] for a, v in zip(weights, values, strict=True)) for c in range(C // 2)]
            return [v + added for v, added in zip(place, linear(block.out, pooled), strict=True)]

        close(found, image, expected)
    torch.testing.assert_close(block.weights(x).sum(-1), torch.ones(2, len(PLACES), dtype=torch.float64))


def test_simplified_non_local_and_squeeze_excitation(x):
    simple, squeeze = drawn(SimplifiedNonLocal(C)), drawn(SqueezeExcitation(C, ratio=0.5))
    for image, one, other in zip(x, simple(x).detach(), squeeze(x).detach(), strict=True):
        term = linear(simple.value, attended(simple.pool, vectors(image)))
        close(one, image, lambda p, t=term: [v + b for v, b in zip(p, t, strict=True)])
        mean = [sum(place[c] for place in vectors(image)) / len(PLACES) for c in range(C)]
        hidden = [max(value, 0.0) for value in linear(squeeze.transform[1], mean)]
        factor = [sigmoid(value) for value in linear(squeeze.transform[3], hidden)]
        close(other, image, lambda p, f=factor: [v * a for v, a in zip(p, f, strict=True)])


def test_new_blocks_leave_the_map_alone_and_a_new_factor_halves_it(x):
    x = x.float()
    for name in ("gc", "nl", "snl"):
        assert torch.equal(context_block(name, C, **({"ratio": 0.5} if name == "gc" else {}))(x), x)
    assert torch.equal(GlobalContext(C, ratio=0.5, fusion=("multiply",))(x), x / 2)


def test_a_block_that_is_reset_is_new_again(x):
    for name, made in BLOCKS.items():
        block = drawn(made(C, **({"ratio": 0.5} if name in ("gc", "se") else {})))
        block.reset_parameters()
        if name != "se":
            assert torch.equal(block(x), x), name


@pytest.fixture
def resnet():
    torch.manual_seed(0)
    config = ResNetConfig(hidden_sizes=[16, 32, 64], depths=[1, 2, 2], embedding_size=8, layer_type="bottleneck")
    return ResNetModel(config).eval()


def test_blocks_stand_at_the_end_of_every_branch_or_once_and_names_stay(resnet):
    before, image = set(resnet.state_dict()), torch.randn(1, 3, 32, 32)
    plain = resnet(image).last_hidden_state
    every = insert_context(resnet, lambda channels: GlobalContext(channels), stages=(3, 2))
    assert [block.pool.score.in_channels for block in every] == [32, 32, 64, 64]
    assert [resnet.encoder.stages[stage].layers[layer].layer[-1] for stage in (1, 2) for layer in (0, 1)] == every
    once = insert_context(resnet, lambda channels: NonLocal(channels), stages=(2,), where="once")
    assert [block.query.in_channels for block in once] == [32]
    assert before <= set(resnet.state_dict())
    torch.testing.assert_close(resnet(image).last_hidden_state, plain)
    seen = []
    once[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    resnet.encoder.stages[1].layers[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    resnet(image)
    assert len(seen) == 2 and torch.equal(seen[0], seen[1])  # the last layer reads what the block gives


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GlobalContext(8), "a bottleneck of 0.0625 of 8 channels has no channel; raise ratio"),
        (lambda: GlobalContext(16, pooling="max"), "pooling is 'attention' or 'average', not 'max'"),
        (lambda: GlobalContext(16, fusion=("mul",)), "fusion is 'add', 'multiply' or both"),
        (lambda: context_block("gcc", 16), "there is no context block 'gcc'; did you mean 'gc'"),
        (lambda: context_block("snl", 16, ratio=0.5), "'snl' can't be made so"),
        (lambda: insert_context(nn.Linear(2, 2), GlobalContext), "blocks go into a ResNet of transformers"),
    ],
)
def test_what_can_not_be_is_refused(make, message):
    with pytest.raises((ValueError, UserError), match=message):
        make()


def test_a_stage_that_is_not_there_is_refused(resnet):
    with pytest.raises(UserError, match="the model has stages 1 to 3; there is no stage 4"):
        insert_context(resnet, GlobalContext)
