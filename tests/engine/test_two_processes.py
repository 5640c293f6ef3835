"""Two real processes (gloo, CPU) train to the weights of one: rows are shared out, gradients meet, counts are global.

pytest tests/engine/test_two_processes.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("two_processes.py")


def run(count, *arguments):
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29581"] if count == 2 else []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *launch, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]


def weights(folder, processes):
    assert (folder / "processes").read_text() == str(processes)
    return load_file(folder / "weights.safetensors")


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-9, rtol=1e-7)


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory):
    """What one process makes with each method, undisturbed; trained when first asked for."""
    made = {}

    def by(method):
        if method not in made:
            folder = tmp_path_factory.mktemp("alone") / method
            run(1, tiny, folder, method)
            made[method] = weights(folder, 1)
        return made[method]

    return by


@pytest.mark.parametrize("flags", [(), ("--sharded",)], ids=["copied", "sharded"])
@pytest.mark.parametrize("method", ["sft", "forward_kl", "taid"])
def test_two_processes_train_like_one(tiny, tmp_path, method, flags, alone):
    run(2, tiny, tmp_path / "two", method, *flags)
    same(weights(tmp_path / "two", 2), alone(method))


@pytest.mark.parametrize("flags", [(), ("--sharded",)], ids=["copied", "sharded"])
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(tiny, tmp_path, before, after, flags, alone):
    run(before, tiny, tmp_path / "run", "taid", "--stop", *flags)
    run(after, tiny, tmp_path / "run", "taid", "--resume", *flags)
    same(weights(tmp_path / "run", after), alone("taid"))


def test_a_student_in_shards_writes_the_same_answers(tiny, tmp_path):
    """Each process draws its own, so two are held against two: whole students, and one that is shared out."""
    for name, flags in (("copied", ()), ("sharded", ("--sharded",))):
        run(2, tiny, tmp_path / name, "gkd", *flags)
    same(weights(tmp_path / "sharded", 2), weights(tmp_path / "copied", 2))
