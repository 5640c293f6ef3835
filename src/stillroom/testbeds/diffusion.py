"""`diffusion`: a small U-Net that draws handwritten digits teaches itself to draw them in one step.

The teacher learns the digits of the training split, 8 x 8 pixels, by their class. What is drawn is judged by a small
network that reads digits, trained on the same pictures: how far its features of 1,000 drawn digits lie from those of
real ones that nobody trained on (Fréchet distance), and how often it reads the digit that was asked for. Student and
ablations start as the teacher, with the same noises and steps; no picture is shown to them. Beside them stand the
teacher's own pictures after 1, 4 and 16 steps of DDIM from the same noises.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.blocks.diffusion import ddim
from stillroom.data.cache import build_once, fingerprint
from stillroom.data.files import load
from stillroom.evaluate.frechet import frechet_distance
from stillroom.recipe import check
from stillroom.run import execute
from stillroom.testbeds.base import UNWATCHED, Bench, entry, trained_once
from stillroom.testbeds.steered import STEERED
from stillroom.views.diffusion import Denoiser
from stillroom.views.load import Opened, open_model

CLASSES, SIZE = 10, 8
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"}
NETWORK = {
    "sample_size": SIZE,
    "in_channels": 1,
    "out_channels": 1,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "block_out_channels": [16, 32],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "num_class_embeds": CLASSES + 1,
    "attention_head_dim": 16,
}
STEPS = {"teacher": 2000, "student": 250}
DRAWN = {False: 1000, True: 40}
WISHES = {"train": 2000, "validation": 20}


def _train(what: str, smoke: bool, **settings: Any) -> dict[str, Any]:
    plain = {"optimizer": "adam", "weight_decay": 0.0, **UNWATCHED}
    return plain | {"steps": 2 if smoke else STEPS[what], "batch_size": 8 if smoke else 64} | settings


def teacher(smoke: bool = False) -> str:
    """The teacher's folder."""
    recipe = {
        "task": "denoiser",
        "student": {"new": {"architecture": "UNet2DModel", "config": NETWORK}, "options": {"schedule": SCHEDULE}},
        "data": {"train": {"source": "digits"}, "validation": {"source": "digits", "split": "validation"}},
        "method": {"name": "denoise", "drop_class": 0.0},
        "train": _train("teacher", smoke, learning_rate=2e-3),
    }
    return trained_once("diffusion-teacher", recipe)


@cache
def wishes(count: int) -> str:
    """A file of classes to be drawn, each as often."""
    lines = [json.dumps({"id": str(number), "label": number % CLASSES}) + "\n" for number in range(count)]

    def build(folder: Path) -> None:
        folder.mkdir()
        (folder / "rows.jsonl").write_text("".join(lines))

    return str(build_once("testbeds/digit-wishes", fingerprint(lines), build) / "rows.jsonl")


# --- the judge --------------------------------------------------------------------------------------------------------


class Judge(nn.Module):
    """Reads digits [B, 1, 8, 8] in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1, stride=2)
        self.third, self.head = nn.Linear(32 * 16, 64), nn.Linear(64, CLASSES)

    def features(self, pictures: Tensor) -> Tensor:
        """[B, 64], what the classes are read off."""
        found = F.relu(self.second(F.relu(self.first(pictures))))
        return F.relu(self.third(found.flatten(1)))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits [B, 10]."""
        return self.head(self.features(pictures))


def real(split: str) -> tuple[Tensor, Tensor]:
    """Digits [N, 1, 8, 8] in [-1, 1] and their classes."""
    rows = load("digits", split=split)
    return torch.tensor(rows["image"]).unsqueeze(1) * 2 - 1, torch.tensor(rows["label"])


def judge() -> Judge:
    """Trained once on the training digits, shifted a little and with noise."""
    pictures, classes = real("train")

    @torch.enable_grad()
    def build(folder: Path) -> None:
        torch.manual_seed(0)
        made = Judge()
        optimizer = torch.optim.Adam(made.parameters(), lr=2e-3)
        for _ in range(400):
            chosen = torch.randint(len(pictures), (128,))
            shift = torch.randint(-1, 2, (2,)).tolist()
            seen = pictures[chosen].roll(shift, (2, 3)) + 0.1 * torch.randn(128, 1, SIZE, SIZE)
            loss = F.cross_entropy(made(seen), classes[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        folder.mkdir()
        save_file(made.state_dict(), folder / "judge.safetensors")

    place = build_once("testbeds/digits-judge", fingerprint("judge", 1), build) / "judge.safetensors"
    made = Judge()
    made.load_state_dict(load_file(place))
    return made.eval()


@torch.no_grad()
def quality(pictures: Tensor, classes: Tensor) -> dict[str, float]:
    """``frechet`` to real digits of the test, and ``asked_for``: how often the judge reads what was asked for."""
    reader = judge()
    return {
        "frechet": frechet_distance(reader.features(pictures).numpy(), reader.features(real("test")[0]).numpy()),
        "asked_for": float((reader(pictures).argmax(1) == classes).float().mean()),
    }


# --- drawing ----------------------------------------------------------------------------------------------------------


def drawn(opened: Opened, noise: Tensor, classes: Tensor, steps: int) -> Tensor:
    """Pictures in [-1, 1] by so many steps of DDIM; 0 for the one step that BOOT teaches, at the cleanest timestep."""
    view, model = opened.view, opened.model.eval()
    assert isinstance(view, Denoiser)

    @torch.no_grad()
    def estimate(x: Tensor, t: Tensor) -> Tensor:
        clean = view.emit(model, {"sample": x, "timestep": t, "class_labels": classes}, ("clean",)).clean
        assert clean is not None
        return clean.clamp(-1, 1)

    if not steps:
        return estimate(noise, torch.zeros(len(noise), dtype=torch.long))
    return ddim(estimate, view.path, noise, steps)


SYSTEMS: dict[str, dict[str, Any]] = {
    "boot": {"delta": 1 / 64, "average": 0.99},
    "without-boundary": {"delta": 1 / 64, "average": 0.99, "boundary": 0.0},
    "large-steps": {"delta": 0.25, "average": 0.99},
    "heun": {"delta": 1 / 64, "average": 0.99, "heun": True},
}


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """Everybody's pictures of the same noises: entries as in a run's evaluation.json."""
    (name, settings), *others = SYSTEMS.items()
    folder = tempfile.mkdtemp(prefix="stillroom-")
    try:
        recipe = {
            "name": "run",
            "output": folder,
            "task": "denoiser",
            "teacher": {"model": teacher(smoke)},
            "student": {"model": teacher(smoke)},
            "data": {name: {"source": wishes(count), "format": "class"} for name, count in WISHES.items()},
            "method": {"name": name, **settings},
            "against": [{"name": name, "label": label, **own} for label, own in others],
            "train": _train("student", smoke, learning_rate=1e-3, seed=seed),
        }
        run = execute(check(recipe, "the testbed's recipe for boot"), timed=False)
        opened = {name: open_model(str(run.model), "denoiser")}
        opened |= {label: open_model(str(run.folder / "against" / label / "model"), "denoiser") for label, _ in others}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    noise = torch.randn(DRAWN[smoke], 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    classes = torch.arange(len(noise)) % CLASSES
    taught = open_model(teacher(smoke), "denoiser")
    entries = [
        entry(
            f"teacher-{steps}-step" + "s" * (steps > 1),
            role,
            taught.model,
            quality(drawn(taught, noise, classes, steps), classes),
        )
        for steps, role in ((16, "teacher"), (4, "baseline"), (1, "baseline"))
    ]
    for label, one in opened.items():
        role = "student" if label == name else "baseline"
        entries.append(
            entry(label, role, one.model, quality(drawn(one, noise, classes, 0), classes), run.trained[label].seconds)
        )
    return entries


BENCHES: dict[str, Bench] = {
    "semantic-guidance": STEERED,
    "boot": Bench(
        claim="In one step a student taught without data draws nearer to real digits than its teacher in one step.",
        metric="frechet",
        higher_is_better=False,
        versus="teacher-1-step",
        measure=measure,
    ),
}
