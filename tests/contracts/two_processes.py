"""Trains methods on their tiny worlds, alone or as one of two processes, and keeps what came out.

Run by test_two_processes: ``two_processes.py WORLDS OUT [--sharded] METHOD...``
"""

import sys
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import save_file
from tests.contracts import worlds

ROWS, STEPS = 8, 3  # all eight rows in each step
SETTINGS = {  # what every process would draw anew: answers of the student, rows to train on
    "gkd": {"lmbda": 0.0},
    "active-curation": {"filter": 0.5, "chunks": 2, "score": "uniform"},
}


def train(world, method, folder, *, micro_batch=0, sharded=False):
    """The parameters of student and objective after a few steps; sgd, which keeps small differences small."""
    made = worlds.case(method, world, **SETTINGS.get(method, {}))
    learning = [made.learning.model] if made.learning else []
    for module in (part for model in (made.student.model, *learning) for part in model.modules()):
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # every process drops its own
    if {"image", "audio"} & set(world.rows[0]):  # what is seen and heard is float32, all else is float64
        for model in (made.student.model, made.teacher.model, made.objective):
            model.float()
    trainer = worlds.trainer(
        made,
        folder,
        steps=STEPS,
        batch_size=ROWS,
        micro_batch=micro_batch,
        optimizer="sgd",
        save_every=0,
        **({"sharded": True} if sharded else {}),
    )
    trainer.run()
    return {name: value.detach() for name, value in trainer.whole.named_parameters()}


if __name__ == "__main__":
    there, out, *methods = sys.argv[1:]
    sharded = "--sharded" in methods
    methods = [name for name in methods if name != "--sharded"]
    state = PartialState(cpu=True)
    assert state.num_processes == 2
    for name in methods:
        kind = worlds.kind_of(name)
        found = train(worlds.found(kind, Path(there) / kind), name, Path(out) / name, sharded=sharded)
        if state.is_main_process:
            save_file({key: value.contiguous() for key, value in found.items()}, Path(out) / f"{name}.safetensors")
    state.wait_for_everyone()
    if state.is_main_process:
        (Path(out) / "torch").write_text(torch.__version__)
    state.destroy_process_group()
