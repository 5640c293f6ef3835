"""The cache: built once, whole or not at all, whoever else is building.

Run: pytest tests/data/test_data_cache.py
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stillroom.data import build_once, cache_folder, fingerprint


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def left_behind(cache):
    return sorted(path.name for path in cache.rglob("*") if ".partial-" in path.name)


def test_files_and_folders_are_built_once(cache):
    calls = []

    def file(path):
        calls.append(path)
        path.write_text("whole")

    def folder(path):
        path.mkdir()
        (path / "part").write_text("whole")

    assert build_once("a/file", "f1", file) == build_once("a/file", "f1", file) == cache / "a" / "file" / "f1"
    assert len(calls) == 1
    build_once("a/file", "f2", file)
    assert len(calls) == 2
    assert (build_once("folder", "f1", folder) / "part").read_text() == "whole"
    assert not left_behind(cache)


def test_a_failed_build_leaves_nothing(cache):
    def broken(path):
        path.mkdir()
        (path / "half").write_text("half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        build_once("thing", "f", broken)
    assert not (cache / "thing" / "f").exists()
    assert not left_behind(cache)
    assert build_once("thing", "f", lambda path: path.write_text("whole")).read_text() == "whole"


BUILDER = """
import sys, time
from pathlib import Path
from stillroom.data import build_once

def build(path):
    path.mkdir()
    (path / "first").write_text("first")
    with open(sys.argv[1], "a") as log:
        log.write("built\\n")
    time.sleep(float(sys.argv[2]))
    (path / "last").write_text("last")

folder = build_once("slow", "f", build)
assert (folder / "first").exists() and (folder / "last").exists()
"""


def builder(log, seconds):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", BUILDER, str(log), str(seconds)], env=environment)


def test_processes_that_build_at_once_share_one_build(cache, tmp_path):
    log = tmp_path / "log"
    together = [builder(log, 0.5) for _ in range(3)]
    assert [process.wait() for process in together] == [0, 0, 0]
    assert log.read_text() == "built\n"
    assert not left_behind(cache)


def test_what_a_killed_build_left_is_no_harm_and_is_removed(cache, tmp_path):
    log = tmp_path / "log"
    killed = builder(log, 60)
    deadline = time.monotonic() + 30
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (cache / "slow" / "f").exists()
    assert left_behind(cache)
    assert builder(log, 0).wait() == 0
    assert not left_behind(cache)


def test_fingerprints_tell_contents_apart():
    assert fingerprint("a", 1) == fingerprint("a", 1)
    assert fingerprint({"x": 1, "y": 2}) == fingerprint({"y": 2, "x": 1})
    different = [fingerprint(value) for value in ("1", 1, ["1"], b"1", np.array([1.0]), np.array([[1.0]]), None, "ü")]
    assert len(set(different)) == len(different)
    assert all(len(value) == 16 for value in different)


def test_the_folder_is_the_platforms_or_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("STILLROOM_CACHE", "~/mine")
    assert cache_folder() == Path.home() / "mine"
    monkeypatch.delenv("STILLROOM_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "stillroom"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "stillroom"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "stillroom"
