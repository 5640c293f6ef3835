"""The process in which tasks are done: ``python -m stillroom.verify.worker``, a task a line in, an answer a line out.

Each task is done by a child that is forked for it. Before it reads what a model wrote, the child

- is ended by the kernel after its seconds of wall-clock or of processor time,
- can take no more than its memory,
- writes no file, leaves no core, and holds nothing but the pipe for its answer;

and where what was written is executed (``sealed``), it moreover opens no file and starts no process; where it runs as
root, which such limits do not bind, it becomes nobody first.
"""

from __future__ import annotations

import json
import math
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from stillroom.verify.limited import ERROR, LARGE, SLOW

NOBODY = 65534
LONGEST = 2**20  # bytes of an answer
_GRACE = 1.0  # seconds beyond its own after which a child that the kernel did not end is killed


class Task(NamedTuple):
    """A module with a function ``task``, whether what that is given is executed, and whether the module has a ``warm``.

    The function gets what the task is done with, and gives the function that does it: the first runs before the limits
    are set, so that it can open a file; only the second reads what a model wrote. ``warm`` runs once, in the worker, so
    that each child finds imported what it needs.
    """

    module: str
    sealed: bool
    warm: bool = False


TASKS = {
    "program": Task("stillroom.verify.programs", sealed=True),
    "equations": Task("stillroom.verify.equations", sealed=False, warm=True),
    "sql": Task("stillroom.verify.sql", sealed=True),
}


_WARM = set[str]()


def main() -> None:
    """Answer until there are no more questions."""
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(_answer(json.loads(line)) + b"\n")
        sys.stdout.buffer.flush()


def _answer(asked: dict[str, Any]) -> bytes:
    task = TASKS[asked["task"]]
    module = import_module(task.module)
    if task.warm and asked["task"] not in _WARM:
        module.warm()
        _WARM.add(asked["task"])
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        _child(module.task, asked, task.sealed, into)
    os.close(into)
    answer = _read(out, asked["seconds"] + _GRACE)
    os.close(out)
    for kill in (os.killpg, os.kill):  # all that the child may have started, and itself where it has no group yet
        with suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    try:
        json.loads(answer)
    except ValueError:  # it was ended before it could answer
        return json.dumps({"failed": _why(status, answer)}).encode()
    return answer


def _read(out: int, seconds: float) -> bytes:
    """What comes through the pipe, up to its end, the longest answer, or the last moment."""
    found, last = b"", time.monotonic() + seconds
    while len(found) <= LONGEST and select.select([out], [], [], max(last - time.monotonic(), 0))[0]:
        piece = os.read(out, 2**16)
        if not piece:
            break
        found += piece
    return found


def _why(status: int, answer: bytes) -> tuple[str, str]:
    ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if len(answer) > LONGEST:
        return LARGE, f"the answer is longer than {LONGEST} bytes"
    if ended in (signal.SIGALRM, signal.SIGXCPU, signal.SIGKILL):
        return SLOW, ""
    return ERROR, f"the process ended by {signal.Signals(ended).name}" if ended else "the process ended early"


def _child(prepare: Callable[[Any], Callable[[], Any]], asked: dict[str, Any], sealed: bool, into: int) -> None:
    """Do the task, write the answer, end. Nothing of what is written here comes back to the worker's code."""
    try:
        os.setsid()
        for number in (signal.SIGALRM, signal.SIGXCPU, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, asked["seconds"])
        do = prepare(asked["given"])
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        _confine(asked["seconds"], asked["memory"], sealed)
        found = {"value": do()}
    except MemoryError:
        found = {"failed": (LARGE, "")}
    except BaseException as error:
        found = {"failed": (ERROR, f"{type(error).__name__}: {error}"[:200])}
    try:
        _write(into, json.dumps(found).encode())
    finally:
        os._exit(0)


def _write(into: int, answer: bytes) -> None:
    while answer:
        answer = answer[os.write(into, answer) :]


def _confine(seconds: float, memory: int, sealed: bool) -> None:
    """Give up for good what the task does not need."""
    processor = math.ceil(seconds) + 1
    _lower(resource.RLIMIT_CPU, processor)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_AS, _size() + memory)
    if not sealed:
        return
    if os.geteuid() == 0:
        with suppress(OSError):  # there is no nobody in some containers; the other limits stand
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
    _lower(resource.RLIMIT_NPROC, 0)
    _lower(resource.RLIMIT_NOFILE, 0)


def _lower(which: int, value: int) -> None:
    with suppress(ValueError, OSError):  # lower already, or not to be limited here
        resource.setrlimit(which, (value, value))


def _size() -> int:
    """Bytes of address space that this process has."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # no Linux
        return 2**30


if __name__ == "__main__":
    main()
