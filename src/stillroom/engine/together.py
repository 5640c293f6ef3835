"""Several processes of one run: where each of them is, and what is said when one ends before the others.

Processes that train together wait for each other, so when one is gone the others get an error from deep inside the
network library, and the launcher ends them soon after. `watched` holds a roll call then: who does not answer is named,
with the last thing that it began.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch.distributed as dist

from stillroom.errors import UserError

ANSWER = 3.0  # seconds that the others have for the roll call: they all fail within the same moment


def begin(what: str) -> None:
    """Tell the other processes what this one begins, such as ``training, step 12``."""
    if (store := _store()) is not None:
        with suppress(RuntimeError):  # whoever kept the store is gone; the next collective says so
            store.set(f"stillroom/began/{dist.get_rank()}", what)


@contextmanager
def watched() -> Iterator[None]:
    """Around all that processes do together.

    Raises:
        UserError: another process ended; its rank and what it had begun are named. Only the first of those that are
            left says so, the others exit in silence.
    """
    main = threading.current_thread() is threading.main_thread()  # only this one may handle signals
    before = signal.signal(signal.SIGTERM, _terminated) if main else None
    try:
        yield
    except (RuntimeError, _Terminated) as error:
        if not isinstance(error, _Terminated) and not _of_the_network(error):
            raise
        if main:  # the launcher ends all that are left; this one has a word to say first
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _say_who_is_gone(error)
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


class _Terminated(BaseException):
    """The launcher asked this process to end."""


def _terminated(_signal: int, _frame: Any) -> None:
    raise _Terminated


def _of_the_network(error: RuntimeError) -> bool:
    """Whether a collective failed: the library's own class, or gloo's plain errors."""
    said = str(error).lower()
    return isinstance(error, dist.DistError) or any(
        word in said for word in ("gloo", "connection", "nccl", "timed out")
    )


def _say_who_is_gone(error: BaseException) -> None:
    store = _store()
    if store is None:
        raise error if isinstance(error, Exception) else SystemExit(143)
    rank, world = dist.get_rank(), dist.get_world_size()
    try:
        store.set(f"stillroom/here/{rank}", "yes")
        gone = _silent(store, world)
        began = {number: _began(store, number) for number in gone}
    except RuntimeError:  # the process that kept the store is gone with it
        gone, began = [0], {0: "an unknown place"}
    if not gone:
        raise error if isinstance(error, Exception) else SystemExit(143)
    if rank != min(set(range(world)) - set(gone)):
        raise SystemExit(1)
    who = " and ".join(f"process {number} of {world} (in {began[number]})" for number in gone)
    raise UserError(
        f"{who} ended or no longer answers, so the run stopped; its own message, if there is one, stands above. "
        "Go on with --resume"
    ) from error


def _silent(store: Any, world: int) -> list[int]:
    """The ranks that did not answer in time."""
    until, left = time.monotonic() + ANSWER, list(range(world))
    while left and time.monotonic() < until:
        left = [number for number in left if not store.check([f"stillroom/here/{number}"])]
        time.sleep(0.05)
    return left


def _began(store: Any, number: int) -> str:
    key = f"stillroom/began/{number}"
    return str(store.get(key).decode()) if store.check([key]) else "its start"


def _store() -> Any:
    """What the processes share to find each other; None where there is one process alone."""
    if not (dist.is_available() and dist.is_initialized()):
        return None
    return dist.distributed_c10d._get_default_store()
