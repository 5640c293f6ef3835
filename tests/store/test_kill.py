"""A writer killed at any moment: the finished store is byte for byte that of an undisturbed run.

Run: pytest tests/store/test_kill.py
"""

import os
import shutil
import signal
import time
from functools import cache
from pathlib import Path

import pytest
from tests.store.conftest import content, make_header, make_rows

from stillroom.store import Store, files, folder

ROWS = 24


class Killed(BaseException):
    """Stands for the end of the process: the code under test has no handler for it."""


def label(path, flush_every=9):
    """What a labelling run does: it goes on where the store ends."""
    writer = Store.resume(path, make_header(shard_bytes=1200))
    for number in writer.missing([f"row {number} é" for number in range(ROWS)]):
        writer.append(*row(number))
        if number % flush_every == 0:
            writer.flush()
    writer.close()


@cache
def row(number):
    return make_rows(number, number + 1)


@pytest.fixture
def undisturbed(tmp_path):
    label(tmp_path / "undisturbed")
    return content(tmp_path / "undisturbed")


def test_killed_before_and_after_every_step_on_disk(tmp_path, undisturbed, monkeypatch):
    """Of all syncs, renames and removals, each is once the last that happens, and once the first that does not."""
    left, locks = 0, []

    def step():
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    def deadly(function):
        def call(*arguments, **settings):
            step()
            result = function(*arguments, **settings)
            step()
            return result

        return call

    def lock(path, take=files.only_writer):
        locks.append(take(path))
        return locks[-1]

    monkeypatch.setattr(folder, "only_writer", lock)
    monkeypatch.setattr(files.os, "fsync", deadly(lambda descriptor: None))
    monkeypatch.setattr(Path, "replace", deadly(Path.replace))
    monkeypatch.setattr(Path, "unlink", deadly(Path.unlink))
    moments = 0
    while True:
        moments += 1
        left = moments
        try:
            label(tmp_path / "killed")
        except Killed:
            locks[-1].release()
            label(tmp_path / "killed")
            assert content(tmp_path / "killed") == undisturbed, f"killed at moment {moments}"
            shutil.rmtree(tmp_path / "killed")
        else:
            break
    assert moments > 50


@pytest.mark.parametrize("milliseconds", [5, 40, 80, 130, 200])
def test_killed_for_real(tmp_path, undisturbed, milliseconds):
    child = os.fork()
    if child == 0:
        label(tmp_path / "killed", flush_every=1)
        os._exit(0)
    time.sleep(milliseconds / 1000)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    label(tmp_path / "killed")
    assert content(tmp_path / "killed") == undisturbed
