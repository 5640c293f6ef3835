"""What a whole image tells each of its places: the global context block, and the three blocks that it came from.

All four have one form, z_i = F(x_i, delta(sum_j alpha_ij x_j)): weights alpha pool the image into a context, delta
transforms it, F brings it back to every place (Cao et al., 2019). All but `SqueezeExcitation` are the identity when
they are made, so that they can be put into a network that was trained without them.

Shapes: ``B`` images, ``C`` channels, ``N`` = height x width places; [B, C, height, width] -> the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from stillroom.errors import UserError, nearest

Pooling = Literal["attention", "average"]
Fusion = Literal["add", "multiply"]


class ContextBlock(nn.Module):
    """The common base: a module that knows how its weights begin."""

    def reset_parameters(self) -> None:
        """Bring the weights back to where they begin."""
        raise NotImplementedError


class AttentionPooling(nn.Module):
    """One vector an image: softmax over places of a linear score, and the weighted sum (the query-free attention).

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, height, width] -> [B, C, 1, 1]."""
        return torch.einsum("bcn,bn->bc", x.flatten(2), self.weights(x))[:, :, None, None]

    def weights(self, x: Tensor) -> Tensor:
        """How much each place counts, [B, N]; every row sums to 1."""
        return self.score(x).flatten(1).softmax(-1)


class GlobalContext(ContextBlock):
    """The global context block: one pooled vector, a bottleneck with layer norm, added to or scaling every place.

    Args:
        channels: C of the feature map.
        ratio: width of the bottleneck as a share of the channels, above 0; 1/16 is the light block, 1/4 the heavy one.
        pooling: ``attention``, or ``average`` over all places.
        fusion: ``add`` (x + t(context)), ``multiply`` (x * sigmoid(t(context))) or both, each with a transform of its
            own from the context of the x that came in; multiplication comes first. A new ``multiply`` halves x.

    Raises:
        ValueError: the bottleneck would have no channel, or an unknown pooling or fusion.
    """

    def __init__(
        self,
        channels: int,
        *,
        ratio: float = 1 / 16,
        pooling: Pooling = "attention",
        fusion: Sequence[Fusion] = ("add",),
    ) -> None:
        super().__init__()
        width = bottleneck_width(channels, ratio)
        if pooling not in ("attention", "average"):
            raise ValueError(f"pooling is 'attention' or 'average', not {pooling!r}")
        if not fusion or not set(fusion) <= {"add", "multiply"}:
            raise ValueError(f"fusion is 'add', 'multiply' or both, not {tuple(fusion)}")
        self.pool: nn.Module = AttentionPooling(channels) if pooling == "attention" else nn.AdaptiveAvgPool2d(1)
        self.transforms = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Conv2d(channels, width, kernel_size=1),
                    nn.LayerNorm([width, 1, 1]),
                    nn.ReLU(),
                    nn.Conv2d(width, channels, kernel_size=1),
                )
                for name in ("multiply", "add")
                if name in fusion
            }
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scores as He et al. (fan in), the last map of every transform at 0."""
        if isinstance(self.pool, AttentionPooling):
            nn.init.kaiming_normal_(self.pool.score.weight, mode="fan_in")
            _zero(self.pool.score.bias)
        for transform in self.transforms.values():
            first, norm, _, last = cast(Any, transform)
            first.reset_parameters()
            norm.reset_parameters()
            _zero(last.weight, last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The map with its context in every place."""
        context = self.pool(x)
        out = x
        if "multiply" in self.transforms:
            out = out * self.transforms["multiply"](context).sigmoid()
        if "add" in self.transforms:
            out = out + self.transforms["add"](context)
        return out


class NonLocal(ContextBlock):
    """The non-local block (Wang et al., 2018), embedded Gaussian: every place attends to all others, N x N weights.

    Args:
        channels: C.
        ratio: width of queries, keys and values as a share of the channels.
        scale: divide the scores by the square root of that width, as later attention does.
    """

    def __init__(self, channels: int, *, ratio: float = 0.5, scale: bool = False) -> None:
        super().__init__()
        width = bottleneck_width(channels, ratio)
        self.factor = width**-0.5 if scale else 1.0
        self.query, self.key, self.value = (nn.Conv2d(channels, width, kernel_size=1) for _ in range(3))
        self.out = nn.Conv2d(width, channels, kernel_size=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The output map at 0."""
        for part in (self.query, self.key, self.value):
            part.reset_parameters()
        _zero(self.out.weight, self.out.bias)

    def weights(self, x: Tensor) -> Tensor:
        """What each place (second axis) attends to (third), [B, N, N]; every row sums to 1."""
        scores = self.query(x).flatten(2).transpose(1, 2) @ self.key(x).flatten(2)
        return (scores * self.factor).softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        """The map with what each place attended to added."""
        found = self.weights(x) @ self.value(x).flatten(2).transpose(1, 2)
        return x + self.out(found.transpose(1, 2).reshape(len(x), -1, *x.shape[2:]))


class SimplifiedNonLocal(ContextBlock):
    """The non-local block with one attention for all places: x + W sum_j softmax(w x)_j x_j.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = AttentionPooling(channels)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scores as He et al. (fan in), the value map at 0."""
        nn.init.kaiming_normal_(self.pool.score.weight, mode="fan_in")
        _zero(self.pool.score.bias, self.value.weight, self.value.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The map with its context in every place."""
        return x + self.value(self.pool(x))


class SqueezeExcitation(ContextBlock):
    """Squeeze and excitation (Hu et al., 2018): the mean over places, a bottleneck, and a factor for each channel.

    Args:
        channels: C.
        ratio: width of the bottleneck as a share of the channels.
    """

    def __init__(self, channels: int, *, ratio: float = 1 / 16) -> None:
        super().__init__()
        width = bottleneck_width(channels, ratio)
        self.transform = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, width, 1), nn.ReLU(), nn.Conv2d(width, channels, 1)
        )

    def reset_parameters(self) -> None:
        """Both maps as torch draws them."""
        self.transform[1].reset_parameters()  # type: ignore[operator]
        self.transform[3].reset_parameters()  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """The map, each channel scaled by a number in (0, 1)."""
        return x * self.transform(x).sigmoid()


def bottleneck_width(channels: int, ratio: float) -> int:
    """How many channels a share of them is.

    Raises:
        ValueError: none.
    """
    width = int(channels * ratio)
    if width < 1:
        raise ValueError(f"a bottleneck of {ratio:g} of {channels} channels has no channel; raise ratio")
    return width


BLOCKS: dict[str, Callable[..., ContextBlock]] = {
    "gc": GlobalContext,
    "nl": NonLocal,
    "snl": SimplifiedNonLocal,
    "se": SqueezeExcitation,
}


def context_block(name: str, channels: int, **settings: object) -> ContextBlock:
    """A block by its name: ``gc``, ``nl``, ``snl`` or ``se``.

    Raises:
        UserError: there is none of that name, or it does not take these settings.
    """
    if name not in BLOCKS:
        raise UserError(f"there is no context block {name!r}{nearest(name, BLOCKS)}; there are {', '.join(BLOCKS)}")
    try:
        return BLOCKS[name](channels, **settings)
    except TypeError as error:
        raise UserError(f"the context block {name!r} can't be made so: {error}") from None


def insert_context(
    model: nn.Module,
    make: Callable[[int], nn.Module],
    *,
    stages: Sequence[int] = (2, 3, 4),
    where: Literal["every", "once"] = "every",
) -> list[nn.Module]:
    """Put blocks into a ResNet of transformers, in place.

    Args:
        model: with an ``encoder.stages`` of residual layers (`ResNetModel` and whatever holds one).
        make: from a number of channels to a block.
        stages: which stages get blocks, from 1.
        where: ``every`` puts one at the end of every residual branch (after its last convolution and norm, before the
            sum); ``once`` puts one before the last residual layer of each stage, as non-local networks do (after it,
            where it is the only one). The names of the weights that were there stay as they are.

    Returns:
        The blocks, in the order in which they are run.

    Raises:
        UserError: the model has no such stages.
    """
    found = next((module for name, module in model.named_modules() if name.endswith("encoder")), None)
    all_stages = getattr(found, "stages", None)
    if all_stages is None:
        raise UserError(f"{type(model).__name__} has no encoder with stages; blocks go into a ResNet of transformers")
    if beyond := [stage for stage in stages if not 1 <= stage <= len(all_stages)]:
        raise UserError(f"the model has stages 1 to {len(all_stages)}; there is no stage {beyond[0]}")
    blocks: list[nn.Module] = []
    for stage in sorted(set(stages)):
        layers = all_stages[stage - 1].layers
        for layer in [layers[-2 if len(layers) > 1 else -1]] if where == "once" else layers:
            convolutions = [part.convolution for part in layer.layer if hasattr(part, "convolution")]
            blocks.append(make(convolutions[-1].out_channels))
            if where == "once":
                layer.activation = nn.Sequential(layer.activation, blocks[-1])
            else:
                layer.layer.append(blocks[-1])
    return blocks


def _zero(*parameters: Tensor | None) -> None:
    for parameter in parameters:
        if parameter is not None:
            nn.init.zeros_(parameter)
