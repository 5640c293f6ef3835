"""Run by test_two_processes: trains a tiny model for three steps, on one process or two, and keeps its weights."""

import sys
from pathlib import Path

import torch
from accelerate import PartialState
from datasets import Dataset
from safetensors.torch import save_file

from stillroom.engine.encoding import encode
from stillroom.engine.loop import Trainer
from stillroom.engine.settings import Train
from stillroom.recipe import Method
from stillroom.run import build_method
from stillroom.teachers import LocalTeacher
from stillroom.views.load import open_model

model, out, method = sys.argv[1:4]
opened, teacher = open_model(model, "language", max_length=32), open_model(model, "language", max_length=32)
opened.model.double()
with torch.no_grad():
    for parameter in teacher.model.double().parameters():
        parameter.mul_(1.5)
rows = [{"prompt": f"{n} plus 1 is", "completion": f" {n + 1}" + " in all" * (n % 5)} for n in range(21)]
encoded, _ = encode(Dataset.from_list(rows), opened.view)
folder = Path(out)
folder.mkdir(parents=True, exist_ok=True)
trainer = Trainer(
    student=opened.model,
    objective=build_method(Method(name=method)),
    view=opened.view,
    teacher=LocalTeacher(teacher.model, teacher.view),
    teacher_view=None,
    rows=encoded,
    validation=[],
    settings=Train(
        steps=4, batch_size=6, micro_batch=2, learning_rate=1e-2, optimizer="sgd", device="cpu", save_every=2
    ),
    folder=folder,
    fingerprint="one",
)
trainer.run()
state = PartialState()
if state.is_main_process:
    student = trainer.accelerator.unwrap_model(trainer.pair).student
    save_file(
        {name: tensor.contiguous() for name, tensor in student.state_dict().items()}, folder / "weights.safetensors"
    )
    (folder / "processes").write_text(str(state.num_processes))
state.destroy_process_group()
