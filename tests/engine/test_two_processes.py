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


@pytest.mark.parametrize("method", ["sft", "forward_kl", "taid"])
def test_two_processes_train_like_one(tiny, tmp_path, method):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    found = []
    for count in (1, 2):
        launch = (
            ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29581"] if count == 2 else []
        )
        command = [sys.executable, *launch, str(SCRIPT), str(tiny), str(tmp_path / str(count)), method]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-2000:]
        assert (tmp_path / str(count) / "processes").read_text() == str(count)
        found.append(load_file(tmp_path / str(count) / "weights.safetensors"))
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, atol=1e-9, rtol=1e-7)
