"""Matching feature maps of images: where a layer looks, what is where, and how one layer flows into another.

Shapes: ``B`` images, ``C`` and ``C'`` channels of student and teacher, ``h`` x ``w`` places.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from stillroom.objectives.divergence import forward_kl
from stillroom.objectives.rows import products, select
from stillroom.signals import Reduced

PYRAMID = (4, 2, 1)


def attention_map(student: Tensor, teacher: Tensor, mask: Tensor) -> Reduced:
    """Attention transfer (Zagoruyko and Komodakis, 2017).

    Each map is the sum over channels of the squared activation, flattened and brought to length 1; the loss of an image
    is the squared distance of the two maps, in [0, 2].

    Args:
        student: [B, C, h, w].
        teacher: [B, C', h, w].
        mask: [B].

    Raises:
        ValueError: the two have different places; resize one of them first.
    """
    if student.shape[-2:] != teacher.shape[-2:]:
        raise ValueError(
            f"the maps have {tuple(student.shape[-2:])} and {tuple(teacher.shape[-2:])} places; resize one first"
        )
    difference = _attention(select(student, mask)) - _attention(select(teacher, mask))
    return Reduced(difference.square().sum(), mask.bool().sum())


def _attention(maps: Tensor) -> Tensor:
    return F.normalize(maps.square().sum(1).flatten(1), dim=-1)


def flow(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], mask: Tensor) -> Reduced:
    """The flow of the solution procedure, FSP (Yim et al., 2017): how a layer's channels go with a later layer's.

    G = F_1^T F_2 / (h w), [C_1, C_2]; the loss of an image is the mean squared difference of the two models' G.

    Args:
        student: two layers' maps, [B, C_1, h, w] and [B, C_2, h, w].
        teacher: two layers' maps with the same numbers of channels, and places of any number.
        mask: [B].

    Raises:
        ValueError: the channels differ, or the places of two layers of one model do.
    """
    ours, theirs = (_flow(*(select(maps, mask) for maps in pair)) for pair in (student, teacher))
    if ours.shape != theirs.shape:
        raise ValueError(
            f"the flows are {tuple(ours.shape[1:])} and {tuple(theirs.shape[1:])}; teacher and student need layers of "
            "the same numbers of channels"
        )
    return Reduced((ours - theirs).square().mean((1, 2)).sum(), mask.bool().sum())


def _flow(first: Tensor, second: Tensor) -> Tensor:
    if first.shape[-2:] != second.shape[-2:]:
        raise ValueError(
            f"a flow runs between layers of the same places, not {tuple(first.shape[-2:])} and "
            f"{tuple(second.shape[-2:])}; pool the first"
        )
    return products(first.flatten(2), second.flatten(2)) / (first.shape[-2] * first.shape[-1])


def pyramid_mse(student: Tensor, teacher: Tensor, mask: Tensor, *, sizes: tuple[int, ...] = PYRAMID) -> Reduced:
    """Hierarchical context loss: mean squared error of the maps and of their averages over ever larger parts.

    [MSE(s, t) + sum_k 2^-k MSE(pool s, pool t)] / (1 + sum_k 2^-k), k = 1, 2, ... counting the sizes below the map's
    own (review distillation, Chen et al., 2021).

    Args:
        student: [B, C, h, w].
        teacher: the same.
        mask: [B].
        sizes: what the maps are pooled to, in order.

    Raises:
        ValueError: two shapes, or a mask that does not fit.
    """
    ours, theirs = _alike(student, teacher, mask)
    if not len(ours):
        return Reduced(ours.sum(), mask.bool().sum())
    total, weight, weights = (ours - theirs).square().mean((1, 2, 3)), 1.0, 1.0
    for size in (size for size in sizes if size < ours.shape[2]):
        weight /= 2
        weights += weight
        difference = F.adaptive_avg_pool2d(ours - theirs, size)  # pooling is linear
        total = total + weight * difference.square().mean((1, 2, 3))
    return Reduced(total.sum() / weights, mask.bool().sum())


def channel_kl(student: Tensor, teacher: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Reduced:
    """Channel-wise distillation: each channel as a distribution over places, T^2 KL(teacher || student), over C.

    Shu et al., 2021.

    Args:
        student: [B, C, h, w].
        teacher: the same.
        mask: [B].
        temperature: divides both maps, > 0.

    Raises:
        ValueError: two shapes, a mask that does not fit, or a temperature that is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"the temperature must be above 0, not {temperature}")
    ours, theirs = ((values.flatten(2) / temperature).log_softmax(-1) for values in _alike(student, teacher, mask))
    return Reduced(temperature**2 * forward_kl(ours, theirs).sum() / student.shape[1], mask.bool().sum())


def _alike(student: Tensor, teacher: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    if student.shape != teacher.shape or student.dim() != 4:
        raise ValueError(
            f"the student's map has shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}; both must be "
            "[images, channels, height, width] of one size"
        )
    return select(student, mask), select(teacher, mask)
