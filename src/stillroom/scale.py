"""The same work on many workers: Ray Data hands out the pieces, brings the results back in order, and replaces workers.

Ray is used as it is: it finds its cluster by itself (``RAY_ADDRESS``), or starts one on this machine. A worker that
dies is started anew, and what it had not finished is done again by whoever is free.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from stillroom.errors import need

Item = TypeVar("Item")
Made = TypeVar("Made")

PIECES = 4  # items that are handed out together: what is done again when a worker dies


_workers: ContextVar[int | None] = ContextVar("workers", default=None)


@contextmanager
def with_workers(number: int | None) -> Iterator[None]:
    """Within it, language models that write rows do so on workers: so many, 0 for as many as there is room for."""
    before = _workers.set(number)
    try:
        yield
    finally:
        _workers.reset(before)


def workers_asked_for() -> int | None:
    """How many workers `with_workers` asks for here; None for none."""
    return _workers.get()


class _Worker:
    """Lives in a process of its own; what is slow to make (a model) is made once."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]], items: Any) -> None:
        import ray

        self.work, self.items = make(), ray.get(items[0])

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"made": pickle.dumps(self.work(self.items[int(row["id"])]))}


def on_ray(
    make: Callable[[], Callable[[Item], Made]], items: Sequence[Item], *, workers: int | None = None, gpus: float = 0.0
) -> Iterator[Made]:
    """What workers make of each item, in the items' order.

    Args:
        make: makes the function that a worker applies to items; called once in every worker.
        items: what there is to do; small (names, places), as every worker is given all of them.
        workers: processes, each with one core, wherever in the cluster there is room; None for as many as it has room
            for.
        gpus: of each worker.

    Raises:
        UserError: ray is not installed.
    """
    need("ray", "scale")
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    if workers is None:
        room = ray.cluster_resources()
        workers = max(int(room.get("GPU", 0) / gpus if gpus else room["CPU"]), 1)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    pieces = max(-(-len(items) // PIECES), min(workers, len(items)), 1)
    numbers = ray.data.range(len(items), override_num_blocks=pieces)
    worker: Any = _Worker  # Ray takes a class for its instances, which its types do not say
    made = numbers.map(
        worker,
        fn_constructor_args=(make, [ray.put(list(items))]),  # in a list, or ray would fetch it into the plan
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
        num_gpus=gpus,
    )
    for row in made.iter_rows():
        yield pickle.loads(row["made"])
