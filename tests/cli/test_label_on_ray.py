"""Labelling by workers of Ray: the store of one process, byte for byte, also when a worker is killed at its work.

.venv/bin/python -m pytest tests/cli/test_label_on_ray.py
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from tests.cli.conftest import TRAIN, sums, write_rows

pytest.importorskip("ray", reason="labelling by workers needs ray: pip install 'stillroom[scale]'")

LABEL = [sys.executable, "-m", "stillroom", "label"]


def label(recipe, cache, *options, meanwhile=None):
    """One command in a process of its own, with one thread: sums are then taken in one order everywhere."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "STILLROOM_CACHE": str(cache)}
    command = [*LABEL, str(recipe), *options]
    launched = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if meanwhile is not None:
        threading.Thread(target=meanwhile, args=(launched,), daemon=True).start()
    out, err = launched.communicate(timeout=240)
    assert launched.returncode == 0, err[-3000:]
    return content(cache), out


def content(cache):
    (store,) = [path for path in (Path(cache) / "signals").iterdir() if path.is_dir()]
    return {path.name: path.read_bytes() for path in store.iterdir()}


@pytest.fixture
def rows(recipe, shop, tmp_path):
    """A recipe of 1,500 batches of one row."""
    file = write_rows(tmp_path / "many.jsonl", ({"id": str(n)} | row for n, row in enumerate(sums(1500))))
    keys = {"teacher": {"model": shop.teacher, "cache": True, "top_k": 8}, "method": "forward_kl", "data": file}
    return recipe("many", train=TRAIN | {"micro_batch": 1}, **keys)


def workers_of(launched):
    """Ray's processes that do the work, below the command."""
    below = psutil.Process(launched.pid).children(recursive=True)
    return [process for process in below if "MapWorker" in " ".join(process.cmdline())]


def test_workers_make_the_store_of_one_process(rows, tmp_path):
    alone, _ = label(rows, tmp_path / "alone")
    by_two, told = label(rows, tmp_path / "two", "--engine", "ray", "--workers", "2")
    assert by_two == alone and "1,500 rows" in told


def test_a_killed_worker_loses_nothing(rows, tmp_path):
    killed, replaced = [], threading.Event()

    def kill(launched):
        while launched.poll() is None and not replaced.is_set():
            found = workers_of(launched)
            if len(found) == 2 and not killed:
                time.sleep(2)  # both have opened their teacher and are at work
                found[0].send_signal(signal.SIGKILL)
                killed.extend(process.pid for process in found)
            elif len(found) == 2 and {process.pid for process in found} - set(killed):
                replaced.set()  # so there was work left for a new one
            time.sleep(0.05)

    alone, _ = label(rows, tmp_path / "alone")
    left, _ = label(rows, tmp_path / "left", "--engine", "ray", "--workers", "2", meanwhile=kill)
    assert replaced.is_set() and left == alone


def test_workers_without_ray_are_refused(stillroom, recipe):
    refused = stillroom("label", recipe(), "--workers", "2")
    assert refused.code == 2 and "--engine ray" in refused.err
