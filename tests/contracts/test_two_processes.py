"""Two real processes (gloo, CPU) train every method to the weights of one process that takes the same rows.

Every process draws anew, so gkd is tried on the data's answers, active-curation on the first rows of a super-batch,
and masked language modelling (`mlm`) not at all. A loss across the rows of a batch is one of each process's rows, as
of each micro-batch's: so the one process takes the two processes' rows as two micro-batches. The triplet loss counts
after the forward pass and can't be split like that. Running statistics of a batch normalisation are each process's
own; what is compared is what is trained.

pytest tests/contracts/test_two_processes.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.contracts import two_processes, worlds

from stillroom.engine import loop

ROOT = Path(__file__).parents[2]
METHODS = [name for name in worlds.methods() if name not in ("mlm", "triplet")]
LANGUAGE = [name for name in METHODS if worlds.kind_of(name) in ("language", "preferences")]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with a world of each kind."""
    folder = tmp_path_factory.mktemp("worlds")
    for kind in {worlds.kind_of(name) for name in METHODS}:
        worlds.build(kind, folder / kind)
    return folder


def by_two(methods, places, out, *flags):
    """What two processes made of each method."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29585"]
    done = subprocess.run(
        [*launch, two_processes.__file__, str(places), str(out), *flags, *methods],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: load_file(out / f"{name}.safetensors") for name in methods}


@pytest.fixture(scope="module")
def trained_by_two(places, tmp_path_factory):
    return by_two(METHODS, places, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def trained_in_shards(places, tmp_path_factory):
    return by_two(LANGUAGE, places, tmp_path_factory.mktemp("shards"), "--sharded")


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_like_one(method, places, trained_by_two, tmp_path, monkeypatch):
    like_one(method, trained_by_two[method], places, tmp_path, monkeypatch)


@pytest.mark.parametrize("method", LANGUAGE)
def test_shared_out_weights_train_like_whole_ones(method, places, trained_in_shards, tmp_path, monkeypatch):
    """Student, teacher, gradients and the optimiser's memory are parts; where the loss allows it, logits are too."""
    like_one(method, trained_in_shards[method], places, tmp_path, monkeypatch)


def like_one(method, trained, places, tmp_path, monkeypatch):
    world = worlds.found(worlds.kind_of(method), places / worlds.kind_of(method))
    across = worlds.make(method).across_rows
    if across:
        monkeypatch.setattr(loop, "share", lambda rows, **_: [rows[0::2], rows[1::2]])
    one = two_processes.train(world, method, tmp_path, micro_batch=two_processes.ROWS // 2 if across else 0)
    start = {f"student.{name}": value for name, value in world.open("student").model.named_parameters()}
    known = start.keys() & one.keys()  # a method may take parts away (pruning) or name them anew
    assert any(
        one[name].shape != start[name].shape or not torch.equal(one[name], start[name].to(one[name])) for name in known
    )
    assert one.keys() == trained.keys()
    for name, tensor in one.items():
        loose = tensor.dtype == torch.float32
        torch.testing.assert_close(trained[name], tensor, atol=1e-6 if loose else 1e-9, rtol=1e-4 if loose else 1e-7)
