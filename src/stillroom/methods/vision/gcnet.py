"""GCNet: a residual network whose every layer sees the global context.

**Paper**: Cao, Xu, Lin, Wei and Hu 2019, "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond"
(ICCV Workshops 2019, arXiv 1904.11492), code at github.com/xvjiarui/GCNet.

**Idea**: Non-local and squeeze-excitation blocks are one thing in three steps: pool the image into a context, transform
it, bring it back to every place. Take the best of each: pool by attention that no place asks for, transform in a
bottleneck with layer norm, add. That is cheap enough for every layer.

**Objective**: none of its own; the network is trained as any classifier or backbone. A block in the three steps is

    z_i = F(x_i, delta(sum_j alpha_j x_j))

    block   alpha                        delta              F
    nl      softmax, for each place i    W_z W_v            add
    snl     softmax, one for all         W_v                add
    se      1 / N                        W2 ReLU(W1 .)      scale by its sigmoid
    gc      softmax, one for all         W2 ReLU(LN(W1 .))  add

``gc``, ``snl`` and ``se`` stand at the end of every residual branch of the flagged stages, before the sum; ``nl`` once,
before the last layer of the last flagged stage but one (c4 of c3, c4, c5), as in the paper's baselines.

**Kept and changed**: depths, stages and ratios are the paper's. The network is a `ResNetForImageClassification` of
transformers with blocks in it: it is saved and loaded as one (``ContextNet.from_pretrained``), and weights of a plain
ResNet load into it, its blocks then being new. Plain transformers do not know the blocks, so loading needs this class.
Detection heads, deformable convolutions and synchronised batch norm of the paper's recipes are outside it.

**Use it when**: an image model must use what is far from a place, at about the cost of squeeze-excitation. Compare it
at like numbers of parameters: ``ratio`` decides how many are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from stillroom.blocks.context import BLOCKS, ContextBlock, Fusion, Pooling, context_block, insert_context
from stillroom.errors import UserError, nearest

__all__ = ["context_net", "ContextNet", "ContextNetConfig"]  # noqa: RUF022 - the method comes first

# Depth -> layers of each stage, kind of layer, widths.
DEPTHS: dict[int, dict[str, Any]] = {
    18: {"depths": [2, 2, 2, 2], "layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]},
    34: {"depths": [3, 4, 6, 3], "layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]},
    50: {"depths": [3, 4, 6, 3], "layer_type": "bottleneck", "hidden_sizes": [256, 512, 1024, 2048]},
    101: {"depths": [3, 4, 23, 3], "layer_type": "bottleneck", "hidden_sizes": [256, 512, 1024, 2048]},
    152: {"depths": [3, 8, 36, 3], "layer_type": "bottleneck", "hidden_sizes": [256, 512, 1024, 2048]},
}
NO_BLOCK = "none"


class ContextNetConfig(ResNetConfig):
    """A ResNet's configuration, with the blocks in it.

    ``block`` is ``none``, ``nl``, ``snl``, ``se`` or ``gc``; ``block_stages`` are counted from 1; ``block_settings``
    are those of the block (`stillroom.blocks.context`).
    """

    model_type = "context-resnet"

    def __init__(
        self,
        block: str = "gc",
        block_stages: Sequence[int] = (2, 3, 4),
        block_settings: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.block, self.block_stages, self.block_settings = block, list(block_stages), dict(block_settings or {})
        super().__init__(**settings)


class ContextNet(ResNetForImageClassification):
    """A ResNet classifier with context blocks; made by `context_net`, or loaded by ``from_pretrained``."""

    config_class = ContextNetConfig

    def __init__(self, config: ContextNetConfig) -> None:
        super().__init__(config)
        if config.block == NO_BLOCK:
            return
        stages, once = config.block_stages, config.block == "nl"
        insert_context(
            self,
            lambda channels: context_block(config.block, channels, **config.block_settings),
            stages=sorted(stages)[-2:][:1] if once else stages,
            where="once" if once else "every",
        )

    def initialize_weights(self) -> None:
        """Blocks that a checkpoint lacks begin as blocks do, not as a ResNet's convolutions do."""
        new = [block for block in self.modules() if isinstance(block, ContextBlock) and not _loaded(block)]
        super().initialize_weights()
        for block in new:
            block.reset_parameters()


def _loaded(block: nn.Module) -> bool:
    """Whether transformers has read all of a block's weights from a checkpoint."""
    return all(getattr(parameter, "_is_hf_initialized", False) for parameter in block.parameters())


def context_net(
    *,
    depth: int = 50,
    block: str = "gc",
    stages: Sequence[int] = (2, 3, 4),
    ratio: float = 1 / 16,
    pooling: Pooling = "attention",
    fusion: Sequence[Fusion] = ("add",),
    num_labels: int = 1000,
    config: dict[str, Any] | None = None,
) -> ContextNet:
    """A residual network with context blocks, untrained.

    Args:
        depth: 18, 34, 50, 101 or 152 layers.
        block: ``gc``, ``se``, ``snl``, ``nl`` or ``none``.
        stages: the stages that get blocks, from 1; 2 to 4 are c3 to c5.
        ratio: width of the bottleneck of ``gc`` and ``se`` as a share of the channels, above 0: 1/16 or 1/4.
        pooling: of ``gc``: ``attention`` or ``average``.
        fusion: of ``gc``: ``add``, ``multiply`` or both.
        num_labels: classes, at least 1.
        config: further settings of `ResNetConfig` (``depths``, ``hidden_sizes``, ...), which go before those of depth.

    Raises:
        UserError: an unknown depth or block, or a stage that there is not.
        ValueError: a bottleneck without a channel.
    """
    if depth not in DEPTHS:
        raise UserError(f"a residual network has {', '.join(map(str, DEPTHS))} layers, not {depth}")
    if block != NO_BLOCK and block not in BLOCKS:
        known = (NO_BLOCK, *BLOCKS)
        raise UserError(f"there is no context block {block!r}{nearest(block, known)}; there are {', '.join(known)}")
    own: dict[str, Any] = {"ratio": ratio} if block in ("gc", "se") else {}
    if block == "gc":
        own |= {"pooling": pooling, "fusion": list(fusion)}
    settings: dict[str, Any] = DEPTHS[depth] | {"num_labels": num_labels} | (config or {})
    return ContextNet(ContextNetConfig(block=block, block_stages=stages, block_settings=own, **settings))
