"""`stillroom distill` as two real processes: with shared-out weights to the results of one; and when one is killed.

.venv/bin/python -m pytest tests/cli/test_several_processes.py
"""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from tests.cli.conftest import TRAIN


def process_of(launched, rank):
    """The process with this rank, once it trains."""
    for child in psutil.Process(launched.pid).children(recursive=True):
        if child.environ().get("RANK") == str(rank):
            return child
    raise AssertionError(f"no process of rank {rank}")


def steps(metrics):
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29597"]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def test_a_run_with_shared_out_weights_ends_where_one_process_does(recipe, shop, stillroom, tmp_path):
    keys = {"teacher": shop.teacher, "method": "forward_kl", "against": ["sft"]}
    two = recipe("two", train=TRAIN | {"sharded": True}, **keys)
    command = [*LAUNCH, "-m", "stillroom", "distill", two]
    done = subprocess.run(
        command, env=os.environ | ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert stillroom("distill", recipe("one", train=TRAIN, **keys)).code == 0
    found, expected = (
        json.loads((tmp_path / "runs" / name / "evaluation.json").read_text())["systems"] for name in ("two", "one")
    )
    assert [system["name"] for system in found] == [system["name"] for system in expected]
    for system, like in zip(found, expected, strict=True):
        assert system["metrics"]["perplexity"] == pytest.approx(like["metrics"]["perplexity"], rel=1e-4)
    assert (tmp_path / "runs" / "two" / "report.html").is_file()


def test_the_one_that_is_left_says_who_died_and_where(recipe, tmp_path):
    path = recipe("two", train=TRAIN | {"steps": 100_000, "log_every": 1, "save_every": 50, "evaluate_every": 0})
    printed = tmp_path / "stderr"
    with printed.open("w") as out:
        command = [*LAUNCH, "-m", "stillroom", "distill", str(path)]
        launched = subprocess.Popen(command, env=os.environ | ENVIRONMENT, cwd=tmp_path, stderr=out)
    metrics, began = tmp_path / "runs" / "two" / "metrics.jsonl", time.monotonic()
    try:
        while steps(metrics) < 60:
            assert launched.poll() is None, printed.read_text()[-3000:]
            assert time.monotonic() - began < 120
            time.sleep(0.2)
        process_of(launched, 1).send_signal(signal.SIGKILL)
        launched.wait(timeout=60)
    finally:
        launched.kill()
    said = printed.read_text()
    assert launched.returncode != 0
    sentences = [line for line in said.splitlines() if "process 1 of 2" in line]
    assert len(sentences) == 1, said[-3000:]
    step = int(sentences[0].partition("training, step ")[2].partition(")")[0])
    last = json.loads(metrics.read_text().splitlines()[-1])["step"]
    assert abs(step - last) <= 1 and "--resume" in sentences[0]
    assert "src/stillroom" not in said  # the launcher shows a traceback of its own; of ours there is none
    assert list((metrics.parent / "checkpoints").glob("step-*"))
