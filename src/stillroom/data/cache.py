"""The user's cache folder, and things in it that are built once.

What can be made again from the same input lives here: tables read from files, functions read from the installed
packages, small models that a test bed trained. A name and a fingerprint of everything that the result depends on are
its address; what is found at the address is whole, because it was built beside it and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Where built things are kept: ``$STILLROOM_CACHE``, or the folder that the platform sets aside for caches."""
    chosen = os.environ.get("STILLROOM_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        base = "~/Library/Caches"
    elif sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "stillroom"


def fingerprint(*parts: Any) -> str:
    """16 hex digits that change when any part does. Parts are what JSON can hold, and bytes, arrays and images."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=_bytes_as_text)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _bytes_as_text(value: Any) -> str:
    if hasattr(value, "tobytes"):
        form = [str(getattr(value, name, "")) for name in ("shape", "dtype", "size", "mode")]
        value = " ".join(form).encode() + value.tobytes()
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return str(value)


def build_once(name: str, fingerprint: str, build: Callable[[Path], None]) -> Path:
    """The file or folder called ``name`` with this fingerprint, built now if it is not there yet.

    Args:
        name: what it is, as a path inside the cache folder (``pydocs/functions``).
        fingerprint: of everything that the content depends on.
        build: is given a path at which nothing exists and makes a file or a folder there. If it fails or the process
            dies, nothing is left at the final address.

    Returns:
        The path. Several processes may ask at once: one builds, the others wait for it and use what it built.
    """
    from filelock import FileLock

    target = cache_folder() / name / fingerprint
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        # Nobody else is at work here while the lock is held: what lies beside the target is from a process that died.
        for left in target.parent.glob(f"{target.name}.partial-*"):
            _remove(left)
        if not target.exists():
            _build_beside(target, build)
    return target


def _build_beside(target: Path, build: Callable[[Path], None]) -> None:
    room = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=target.parent))
    try:
        build(room / "built")
        (room / "built").replace(target)
    finally:
        _remove(room)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
