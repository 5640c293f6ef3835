"""A process apart for what a model wrote and somebody must execute: limited in time, memory, files and processes.

One worker process is started when the first task comes. It knows neither this process's memory nor its environment, and
forks a child for each task; the child gives up what it can (see `stillroom.verify.worker`), does the task, and ends. So
a task costs some milliseconds, harms nobody, and leaves nothing behind for the next one.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from stillroom.errors import UserError

UNREADABLE, REFUSED, ERROR, NO_ANSWER = "can't be read", "not allowed", "ends in an error", "no answer"
SLOW, LARGE = "takes too long", "takes too much memory"
REASONS = (UNREADABLE, REFUSED, ERROR, NO_ANSWER, SLOW, LARGE)

SECONDS, MEMORY = 2.0, 256 * 2**20


@dataclass(frozen=True)
class Failed:
    """What was written has no value.

    Attributes:
        reason: one of `REASONS`.
        detail: what exactly, in a few words.
    """

    reason: str
    detail: str = ""


def limited(task: str, given: Any, *, seconds: float = SECONDS, memory: int = MEMORY) -> Any:
    """Do a task in a process of its own.

    Args:
        task: one of `stillroom.verify.worker.TASKS`.
        given: what it is done with; plain data of JSON.
        seconds: of wall-clock time after which it is ended, above 0.
        memory: bytes that it may take beyond those of an idle process.

    Returns:
        What the task gives, as plain data of JSON; or a `Failed`.

    Raises:
        ValueError: a limit that is not above 0.
        UserError: there is no such process on this system.
    """
    if not seconds > 0 or memory < 1:
        raise ValueError(f"seconds and memory must be above 0; they are {seconds} and {memory}")
    found = _WORKER.ask({"task": task, "given": given, "seconds": seconds, "memory": memory})
    return found["value"] if "value" in found else Failed(*found["failed"])


class _Worker:
    """The worker process of this process; started again if it is gone, and after a fork."""

    def __init__(self) -> None:
        self._lock, self._owner = Lock(), 0
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self._owner != os.getpid():  # a forked copy: worker and lock are the other process's
            self._lock, self._process, self._owner = Lock(), None, os.getpid()
        line = json.dumps(asked).encode() + b"\n"
        with self._lock:
            try:
                return self._exchange(line)
            except BaseException as error:  # half an answer may be under way, so this worker is of no use any more
                self._end()
                if isinstance(error, (OSError, ValueError)):
                    return self._exchange(line)
                raise

    def _exchange(self, line: bytes) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self._process = _start()
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(line)
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    def _end(self) -> None:
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                with suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
        self._process = None


def _start() -> subprocess.Popen[bytes]:
    """A fresh interpreter that knows where packages lie, and nothing else of this one."""
    if sys.platform == "win32":
        raise UserError("programs and SQL of a model run in a limited process, which Windows does not have; use Linux")
    known = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "SYSTEMROOT", "LANG") if name in os.environ}
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    return subprocess.Popen(
        [sys.executable, "-s", "-B", "-m", "stillroom.verify.worker"],
        env=known | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


_WORKER = _Worker()
atexit.register(_WORKER._end)
