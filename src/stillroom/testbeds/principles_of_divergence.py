"""Under which divergence: a student with one mode before a teacher with two.

The teacher is a distribution over 60 classes in a row, a mixture of two bells far apart, whose places, widths and
shares the seed draws. The student has two parameters, the place and the width of one bell, and is fitted from several
starts by gradient descent; the fit with the lowest divergence counts. What is measured is the share of the student's
mass on classes where the teacher has next to none, and how much of it belongs to the bell that it reaches less.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.objectives import Divergence, forward_kl, jsd, reverse_kl, skew_forward_kl, skew_reverse_kl
from stillroom.testbeds.base import Bench, entry

SLUG = "survey-llm-kd"
CLASSES, STARTS = 60, 9
STEPS = {False: 600, True: 3}
LOW = 0.05  # next to none: below this share of the teacher's likeliest class
FITTED: dict[str, Divergence] = {
    SLUG: reverse_kl,
    "forward_kl": forward_kl,
    "jsd": jsd(0.5),
    "skew_forward_kl": skew_forward_kl(0.1),
    "skew_reverse_kl": skew_reverse_kl(0.1),
}


class Bell(nn.Module):
    """Discrete bells on a row of classes: log-probabilities [..., CLASSES] of places and widths [...]."""

    def __init__(self, places: Tensor, widths: Tensor) -> None:
        super().__init__()
        self.places, self.log_widths = nn.Parameter(places), nn.Parameter(widths.log())

    def forward(self) -> Tensor:
        """Every bell's log-probabilities."""
        distance = torch.arange(CLASSES, dtype=torch.float64) - self.places.unsqueeze(-1)
        return (-0.5 * (distance / self.log_widths.exp().unsqueeze(-1)).square()).log_softmax(-1)


def teacher(seed: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities of two bells mixed, [CLASSES], and those of each bell, [2, CLASSES]."""
    draw = torch.Generator().manual_seed(seed)
    one, two, first, second, share = torch.rand(5, generator=draw, dtype=torch.float64)
    with torch.no_grad():
        bells = Bell(torch.stack([10 + 8 * one, 42 + 8 * two]), torch.stack([2 + first, 2 + second]))()
    shares = torch.stack([0.4 + 0.2 * share, 0.6 - 0.2 * share])
    return torch.logsumexp(bells + shares.log().unsqueeze(-1), 0), bells


def fitted(divergence: Divergence, target: Tensor, smoke: bool) -> tuple[Bell, float]:
    """The nearest bell over all starts, and the seconds."""
    began = time.perf_counter()
    bell = Bell(
        torch.linspace(5, CLASSES - 6, STARTS, dtype=torch.float64), torch.full((STARTS,), 5.0, dtype=torch.float64)
    )
    optimizer = torch.optim.Adam(bell.parameters(), 0.1)
    for _ in range(STEPS[smoke]):
        optimizer.zero_grad()
        divergence(bell(), target.expand(STARTS, -1)).sum().backward()
        optimizer.step()
    with torch.no_grad():
        best = divergence(bell(), target.expand(STARTS, -1)).argmin()
        return Bell(bell.places[best], bell.log_widths[best].exp()), time.perf_counter() - began


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """How each divergence places the student."""
    target, bells = teacher(seed)
    empty = target.exp() < LOW * target.exp().max()
    own = bells.argmax(0)  # the bell that a class belongs to
    entries = []
    for name, divergence in FITTED.items():
        model, seconds = fitted(divergence, target, smoke)
        log_probs = model().detach()
        sides = torch.stack([log_probs.exp()[own == side].sum() for side in (0, 1)])
        metrics = {"unsupported_mass": float(log_probs.exp()[empty].sum()), "smaller_side": float(sides.min())}
        entries.append(entry(name, "student" if name == SLUG else "baseline", model, metrics, seconds))
    return entries


DIVERGENCES = Bench(
    claim="Before a teacher with two modes, reverse KL puts less of a student's mass where the teacher has none.",
    metric="unsupported_mass",
    higher_is_better=False,
    versus="forward_kl",
    measure=measure,
)
