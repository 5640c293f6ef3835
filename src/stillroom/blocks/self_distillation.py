"""A model taught by its own moving average: the head, the centre and the temperatures of DINO and its heirs.

The teacher is a `stillroom.blocks.ema.EMA` of the student. Both end in a head that gives K logits, which stand for
prototypes nobody named. So that the teacher does not give the same answer to everything, its logits are centred (no
prototype may always win) and sharpened (not all may win alike).

Shapes: ``...`` any leading sizes, ``K`` prototypes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from stillroom.objectives.divergence import soft_cross_entropy

Schedule = Callable[[float], float]


class PrototypeHead(nn.Module):
    """Three linear layers with GELU to a bottleneck of unit length, and its cosines with K directions.

    Args:
        width: of what comes in.
        prototypes: K.
        hidden: width of the two layers between.
        bottleneck: width of what is compared with the directions.
    """

    def __init__(self, width: int, prototypes: int = 8192, *, hidden: int = 2048, bottleneck: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.directions = Directions(bottleneck, prototypes)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, vectors: Tensor, *, frozen: bool = False) -> Tensor:
        """[..., width] -> [..., K]; ``frozen`` lets no gradient into the directions."""
        return self.directions(self.embed(vectors), frozen=frozen)

    def embed(self, vectors: Tensor) -> Tensor:
        """[..., width] -> the bottleneck [..., bottleneck], of length 1."""
        return F.normalize(self.layers(vectors), dim=-1)


class Directions(nn.Module):
    """A linear layer whose rows have length 1: weight normalisation with its lengths fixed.

    Args:
        width: of what comes in.
        count: of rows.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(count, width), std=0.02))

    def forward(self, vectors: Tensor, *, frozen: bool = False) -> Tensor:
        """[..., width] -> [..., count]."""
        weight = self.weight.detach() if frozen else self.weight
        return F.linear(vectors, F.normalize(weight, dim=-1))


class Centre(nn.Module):
    """The moving average of a teacher's logits, which is taken off them before the softmax.

    Logits are added as micro-batches come, and the centre moves once an optimiser step, over all processes; so within a
    step it is one and the same.

    Args:
        prototypes: K.
        momentum: how much of it stays at each step, in [0, 1].

    Raises:
        ValueError: the momentum is outside [0, 1].
    """

    value: Tensor

    def __init__(self, prototypes: int, *, momentum: float = 0.9) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"a momentum lies in [0, 1], not at {momentum}")
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(prototypes))
        self._waiting: list[tuple[Tensor, int]] = []

    @torch.no_grad()
    def add(self, logits: Tensor) -> None:
        """Take in raw logits [n, K] of this step; in eval mode they are left."""
        if self.training:
            self._waiting.append((logits.detach().to(self.value).sum(0), len(logits)))

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the mean of what was added. Call it once an optimiser step; all processes must."""
        total = torch.cat([self.value.new_zeros(1), torch.zeros_like(self.value)])
        for logits, count in self._waiting:
            total += torch.cat([logits.new_tensor([count]), logits])
        self._waiting = []
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            distributed.all_reduce(total)
        if total[0] > 0:
            self.value.lerp_(total[1:] / total[0], 1 - self.momentum)


def prototype_cross_entropy(
    student: Tensor, teacher: Tensor, centre: Tensor, *, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """-sum_k t_k log s_k, with t = softmax((teacher - centre) / T_t) and s = softmax(student / T_s): [..., K] -> [...].

    Args:
        student: [..., K], not centred.
        teacher: [..., K], or what broadcasts to it; no gradient goes there.
        centre: [K].
        student_temperature: T_s, > 0.
        teacher_temperature: T_t, > 0.

    Raises:
        ValueError: a temperature that is not positive.
    """
    if min(student_temperature, teacher_temperature) <= 0:
        raise ValueError(f"temperatures must be > 0; they are {student_temperature} and {teacher_temperature}")
    wanted = ((teacher.detach() - centre) / teacher_temperature).log_softmax(-1)
    return soft_cross_entropy((student / student_temperature).log_softmax(-1), wanted)


def warm_up(start: float, end: float, share: float) -> Schedule:
    """A value that goes from ``start`` to ``end`` over the first ``share`` of the training, in a straight line."""
    return lambda progress: end if progress >= share else start + (end - start) * progress / share
