"""Run by test_two_processes: trains a tiny model for four steps, on one process or two, and keeps its weights.

``two_processes.py MODEL OUT METHOD [--sharded] [--stop] [--resume]``: stop is after the second step, as if killed.
"""

import sys
from pathlib import Path

import torch
from accelerate import PartialState
from datasets import Dataset
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from stillroom.checks import build_method
from stillroom.engine.encoding import encode
from stillroom.engine.loop import Trainer
from stillroom.engine.settings import Train
from stillroom.engine.sharding import shard
from stillroom.recipe import Method
from stillroom.teachers import LocalTeacher
from stillroom.views.load import open_model

STEPS, STOP = 4, 2
SETTINGS = {"gkd": {"lmbda": 1.0, "max_new_tokens": 8}}

model, out, method, *flags = sys.argv[1:]
opened, teacher = open_model(model, "language", max_length=32), open_model(model, "language", max_length=32)
opened.model.double()
with torch.no_grad():
    for parameter in teacher.model.double().parameters():
        parameter.mul_(1.5)
rows = [{"prompt": f"{n} plus 1 is", "completion": f" {n + 1}" + " in all" * (n % 5)} for n in range(21)]
encoded, _ = encode(Dataset.from_list(rows), opened.view)
folder = Path(out)
folder.mkdir(parents=True, exist_ok=True)
state = PartialState(cpu=True)
sharded = "--sharded" in flags
if sharded and state.num_processes > 1:
    shard(teacher.model, state.device)
trainer = Trainer(
    student=opened.model,
    objective=build_method(Method(name=method, **SETTINGS.get(method, {}))),
    view=opened.view,
    teacher=LocalTeacher(teacher.model, teacher.view),
    teacher_view=None,
    rows=encoded,
    validation=[],
    settings=Train(
        steps=STEPS,
        batch_size=6,
        micro_batch=2,
        learning_rate=1e-2,
        optimizer="adamw",
        device="cpu",
        save_every=STOP,
        sharded=sharded,
    ),
    folder=folder,
    fingerprint="one",
)
parts = [weight for weight in trainer.pair.parameters() if isinstance(weight, DTensor)]
assert bool(parts) == (sharded and state.num_processes > 1)
if parts:
    kept = sum(weight.to_local().numel() for weight in parts)
    assert 0.4 < kept / sum(weight.numel() for weight in trainer.whole.parameters()) < 0.6
step = trainer.train_step


def stopping():
    if trainer.step == STOP:
        raise KeyboardInterrupt
    return step()


if "--stop" in flags:
    trainer.train_step = stopping
try:
    trainer.run(resume="--resume" in flags)
except KeyboardInterrupt:
    assert "--stop" in flags
if state.is_main_process and "--stop" not in flags:
    student = trainer.whole.student
    save_file(
        {name: tensor.contiguous() for name, tensor in student.state_dict().items()}, folder / "weights.safetensors"
    )
    (folder / "processes").write_text(str(state.num_processes))
state.destroy_process_group()
