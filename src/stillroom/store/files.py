"""Files that survive a kill or a power cut: written whole or not at all, and by one process at a time."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout

from stillroom.errors import UserError

TEMPORARY = ".tmp"


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

    Raises:
        UserError: another process holds it.
    """
    lock = FileLock(path.with_name(path.name + ".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{path} is being written by another process; wait for it to end, or use another path"
        ) from None
    return lock
