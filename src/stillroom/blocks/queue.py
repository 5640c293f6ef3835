"""A first-in, first-out store of past vectors, as negatives for later batches (MoCo, He et al., 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

from stillroom.objectives.rows import in_float32


class Queue(nn.Module):
    """The newest ``size`` rows that were pushed.

    It starts empty and may be used so: `rows` is then [0, width]. What it holds is checkpointed with its owner.

    Args:
        size: how many rows it holds; 0 keeps none.
        width: of a row.

    Raises:
        ValueError: a negative size, or a width below 1.
    """

    stored: Tensor
    pushed: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        if size < 0 or width < 1:
            raise ValueError(f"a queue needs a size of at least 0 and a width of at least 1, not {size} and {width}")
        self.register_buffer("stored", torch.zeros(size, width))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long))

    @property
    def rows(self) -> Tensor:
        """What it holds, newest first, [up to size, width], without gradient."""
        return self.stored[: int(self.pushed)]

    def push(self, rows: Tensor) -> None:
        """Put rows [n, width] in front, the first of them foremost; the oldest beyond the size fall out.

        Where several processes train together all of them must push, and each gets the rows of all, by rank.

        Raises:
            ValueError: rows of another width.
        """
        if rows.dim() != 2 or rows.shape[1] != self.stored.shape[1]:
            raise ValueError(f"this queue holds rows of width {self.stored.shape[1]}, not {tuple(rows.shape)}")
        # A new tensor, not a write into the old one, which a loss that is not yet differentiated may still need.
        rows = _of_all_processes(in_float32(rows.detach()).to(self.stored))
        self.stored = torch.cat([rows, self.stored])[: len(self.stored)].clone()
        self.pushed = self.pushed + len(rows)


def _of_all_processes(rows: Tensor) -> Tensor:
    """The rows of every process, one process after the other; their numbers may differ."""
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return rows
    counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    most = int(max(counts))
    found = [rows.new_zeros(most, rows.shape[1]) for _ in counts]
    distributed.all_gather(found, torch.nn.functional.pad(rows, (0, 0, 0, most - len(rows))))
    return torch.cat([part[: int(count)] for part, count in zip(found, counts, strict=True)])
