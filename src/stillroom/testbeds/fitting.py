"""Training the small networks of a bench that measures: a loop of a few lines, for models of a few thousand weights.

Recipes train everything that is more. Here many small students are trained in seconds each, on rows that are tensors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn


def batches(rows: int, size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """The places of ``steps`` batches, [size] each, drawn from one permutation after another."""
    draw = torch.Generator().manual_seed(seed)
    left = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(left) < size:
            left = torch.randperm(rows, generator=draw)
        yield left[:size]
        left = left[size:]


def fit(
    models: nn.Module,
    loss: Callable[[Tensor], Tensor],
    *,
    rows: int,
    steps: int,
    seed: int,
    batch: int = 64,
    learning_rate: float = 3e-3,
) -> float:
    """Train until the last step with Adam and a rate that falls along a cosine, and give the seconds that it took.

    Args:
        models: whatever is to be trained.
        loss: of the rows at these places [batch], a scalar with gradient.
        rows: how many there are; no fewer than a batch.
        steps: of the optimiser.
        seed: of the order of the rows.
        batch: rows a step.
        learning_rate: at the start.
    """
    began = time.perf_counter()
    optimizer = torch.optim.Adam(models.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    models.train()
    for places in batches(rows, min(batch, rows), steps, seed):
        optimizer.zero_grad()
        loss(places).backward()
        optimizer.step()
        schedule.step()
    models.eval()
    return time.perf_counter() - began


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A model whose first weights are those of this seed, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
