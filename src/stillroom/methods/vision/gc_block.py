"""GC block: the global context of an image, attended to once and added everywhere.

**Paper**: Cao, Xu, Lin, Wei and Hu 2020, "Global Context Networks" (TPAMI, arXiv 2012.13375), code at
github.com/xvjiarui/GCNet. The conference paper is `gcnet`.

**Idea**: What a non-local block attends to is nearly the same for every place that asks. So attend once for the whole
image, transform the one vector in a narrow bottleneck, and add it to every place.

**Objective**: none; it is a block for any network. With x [B, C, H, W] at N = H W places,

    a = softmax over j of (w x_j + b),   context = sum_j a_j x_j,
    z_i = x_i + W2 ReLU(LN(W1 context)),

W1 to a share ``ratio`` of the channels, W2 back, some 2 C^2 ratio weights. W2 starts at 0: a new block is the identity.
Its time and memory grow with N, those of a non-local block with N^2.

``query_difference`` is the measurement behind the idea: the mean distance (1 - cos) / 2 between what two places of an
image attend to. Near 0, attention does not depend on who asks.

**Kept and changed**: the block is as in the authors' code: scores with a bias and drawn as He et al. (fan in), layer
norm over the bottleneck's channels, ``add`` after ``multiply`` where both are asked for, each from the context of the
x that came in. The block itself is `stillroom.blocks.context.GlobalContext`, since `gcnet` builds networks of it; the
three blocks that it is held against stand beside it. The authors' non-local block multiplies its scores by the square
root of their width where they meant to divide; ours leaves them (the paper) or divides. Pairs of a place with itself,
whose distance is 0, are left out of ``query_difference``.

**Use it when**: a convolutional network must know what is elsewhere in the image, and every layer should: it costs a
few per cent. Where places must be told apart by what they ask, or N is small, a non-local block can do more. To put it
into a ResNet of transformers, use ``insert_context``; it is trained with the network.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from stillroom.blocks.context import GlobalContext, NonLocal, insert_context
from stillroom.objectives.rows import in_float32

__all__ = ["GlobalContext", "NonLocal", "insert_context", "query_difference"]


def query_difference(values: Tensor) -> float:
    """How much what is attended to depends on the place that asks.

    Args:
        values: [B, N, D], one row a place: its attention over all places (D = N), or what the block gives out there.

    Returns:
        The mean of (1 - cos) / 2 over the pairs of different places of an image, in [0, 1]. 0: all attend alike.

    Raises:
        ValueError: there are no two places, or another shape.
    """
    if values.dim() != 3 or values.shape[1] < 2:
        raise ValueError(f"values have the shape [images, places, width], with two places; not {tuple(values.shape)}")
    unit = F.normalize(in_float32(values.detach()), dim=-1)
    places = unit.shape[1]
    # All N^2 cosines sum to the squared length of the sum of the unit vectors; N of them are of a place with itself.
    cosines = (unit.sum(1).square().sum(-1) - unit.square().sum((1, 2))) / (places * (places - 1))
    return float(((1 - cosines) / 2).mean())
