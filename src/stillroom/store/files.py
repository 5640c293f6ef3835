"""Files that survive a kill or a power cut: written whole or not at all, and by one process at a time."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from weakref import WeakSet

from filelock import FileLock, Timeout

from stillroom.errors import UserError

log = logging.getLogger(__name__)

TEMPORARY = ".tmp"
_ours: WeakSet[FileLock] = WeakSet()


def write_durably(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` so that a reader finds the old file or the new one, never half of it.

    The bytes reach the disk under a temporary name before they get their own; the folder is synced last, since the
    new name is the folder's data and not the file's.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names inside ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def only_writer(path: Path) -> FileLock:
    """Take the lock that makes this process the only writer of ``path``; a killed process lets go of it by itself.

    While another process writes there, such as a run beside this one that has the same teacher, this one waits: what
    the other pays for serves both.

    Raises:
        UserError: this process writes there already, and would wait for itself.
    """
    lock = FileLock(path.with_name(path.name + ".lock"))
    if any(own.is_locked and own.lock_file == lock.lock_file for own in _ours):
        raise UserError(f"{path} is being written by this process already; close it first, or use another path")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process, which writes %s", path)
        lock.acquire(poll_interval=0.2)
    _ours.add(lock)
    return lock
