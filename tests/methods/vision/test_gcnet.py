"""GCNet: which blocks stand where, that it loads plain weights and its own, what is refused.

.venv/bin/python -m pytest tests/methods/vision/test_gcnet.py
"""

import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification

from stillroom import catalog
from stillroom.blocks.context import ContextBlock, GlobalContext, NonLocal
from stillroom.errors import UserError
from stillroom.methods.vision.gcnet import ContextNet, ContextNetConfig, context_net

SMALL = {"hidden_sizes": [16, 32, 64, 64], "depths": [1, 2, 2, 1], "embedding_size": 8}


def blocks(model):
    return {name: part for name, part in model.named_modules() if isinstance(part, ContextBlock)}


def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_blocks_stand_in_every_layer_of_the_last_three_stages_and_a_non_local_one_once_in_the_third():
    found = blocks(context_net(config=SMALL))
    assert [name.split("stages.")[1] for name in found] == [
        "1.layers.0.layer.3",
        "1.layers.1.layer.3",
        "2.layers.0.layer.3",
        "2.layers.1.layer.3",
        "3.layers.0.layer.3",
    ]
    once = blocks(context_net(block="nl", config=SMALL))
    assert [name.split("stages.")[1] for name in once] == ["2.layers.0.activation.1"]
    assert isinstance(next(iter(once.values())), NonLocal)
    assert not blocks(context_net(block="none", config=SMALL))


@pytest.mark.parametrize("block", ["gc", "nl", "snl"])
def test_a_new_network_is_the_one_without_blocks_and_reads_its_weights(block, tmp_path):
    torch.manual_seed(0)
    plain = ResNetForImageClassification(ResNetConfig(num_labels=3, layer_type="bottleneck", **SMALL)).eval()
    plain.save_pretrained(tmp_path)
    config = ContextNetConfig(block=block, num_labels=3, layer_type="bottleneck", **SMALL)
    model = ContextNet.from_pretrained(tmp_path, config=config).eval()
    assert blocks(model)
    torch.testing.assert_close(model(images()).logits, plain(images()).logits)


def test_it_is_saved_and_loaded_with_its_blocks(tmp_path):
    torch.manual_seed(0)
    model = context_net(stages=(2, 3), ratio=1 / 4, fusion=("add", "multiply"), num_labels=3, config=SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    model.save_pretrained(tmp_path)
    again = ContextNet.from_pretrained(tmp_path).eval()
    assert torch.equal(again(images()).logits, model(images()).logits)
    assert again.config.block_stages == [2, 3] and again.config.block_settings["ratio"] == 1 / 4


def test_what_is_far_changes_a_place_only_through_a_block():
    """With small features and no block, a place of the map does not see the opposite corner; with one it does."""
    near = {"hidden_sizes": [16, 16], "depths": [1, 1], "embedding_size": 8, "downsample_in_first_stage": False}
    changed = images()
    changed[..., -4:, -4:] += 1.0
    for block, moves in (("none", False), ("gc", True), ("snl", True), ("nl", True)):
        torch.manual_seed(0)
        model = context_net(block=block, stages=(1, 2), ratio=0.25, config=near).eval()
        for part in blocks(model).values():
            for parameter in part.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
        maps = [model.resnet(pixels).last_hidden_state[:, :, 0, 0] for pixels in (images(), changed)]
        assert torch.equal(*maps) is not moves, block


def test_the_networks_of_the_paper():
    config = context_net(depth=50, config={"hidden_sizes": [16, 32, 64, 64]}).config
    assert config.depths == [3, 4, 6, 3] and config.block_stages == [2, 3, 4] and config.num_labels == 1000
    made = context_net(depth=18, config={"hidden_sizes": [16, 16, 16, 16]}, num_labels=2)
    assert all(isinstance(block, GlobalContext) for block in blocks(made).values()) and len(blocks(made)) == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block": "cg"}, "there is no context block 'cg'.*there are none, gc, nl, snl, se"),
        ({"depth": 49}, "a residual network has 18, 34, 50, 101, 152 layers, not 49"),
        ({"stages": (5,), "config": SMALL}, "the model has stages 1 to 4; there is no stage 5"),
        ({"ratio": 0.001, "config": SMALL}, "has no channel; raise ratio"),
    ],
)
def test_what_can_not_be_is_refused(settings, message):
    with pytest.raises((UserError, ValueError), match=message):
        context_net(**settings)


def test_the_catalogue_finds_the_factory():
    assert catalog.load("gcnet") is context_net
