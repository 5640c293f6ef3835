"""Speed, memory and size of the models of a run, on the same rows, in the same process, in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from stillroom.evaluate import cost
from stillroom.measuring.held_out import batches_of
from stillroom.signals import Batch
from stillroom.students.open import texts_of
from stillroom.views.diffusion import Denoiser
from stillroom.views.encoder import TextEncoder
from stillroom.views.graph import LinkView
from stillroom.views.image import ImageEncoder
from stillroom.views.image_text import ImageText
from stillroom.views.load import Opened
from stillroom.views.ranking import BiEncoder, CrossEncoder
from stillroom.views.sentence import SentenceEncoder
from stillroom.views.static import StaticEncoder

TIMED_ROWS = 64
TIMED_BATCH = 32

EMITTED: dict[type, tuple[str, ...]] = dict.fromkeys((SentenceEncoder, StaticEncoder, ImageEncoder), ("embedding",))
EMITTED |= {BiEncoder: ("scores",), CrossEncoder: ("scores",), TextEncoder: ("hidden:-1",)}
EMITTED |= {ImageText: ("tower:image", "tower:text"), LinkView: ("scores",), Denoiser: ("clean",)}


def need_of(opened: Opened) -> tuple[str, ...]:
    """The signals that a user of this kind of model is after."""
    return EMITTED.get(type(opened.view), ("logits",))


def timed_batches(opened: Opened, rows: Any) -> list[Batch]:
    """The first held-out rows in batches of 32; for sentence encoders their texts, one by one."""
    chosen = rows.select(range(min(len(rows), TIMED_ROWS)))
    if type(opened.view) in (SentenceEncoder, StaticEncoder):
        chosen = Dataset.from_dict({"text": list(texts_of(chosen))[:TIMED_ROWS]})
    return list(batches_of(opened, chosen, size=TIMED_BATCH))


@torch.no_grad()
def speeds(models: Mapping[str, Opened], rows: Any) -> dict[str, cost.Latency]:
    """Latency and throughput on batches of 32 held-out rows (or texts), everybody in turn in the same process."""
    batches = {name: timed_batches(opened, rows) for name, opened in models.items()}
    count = min(len(found) for found in batches.values())

    def call(name: str, place: int) -> Any:
        opened = models[name]
        return opened.view.emit(opened.model, batches[name][place].student, need_of(opened))

    calls = {name: (lambda place, name=name: call(name, place)) for name in models}
    return cost.measure_together(calls, list(range(count)), warmup=1, repeats=5, rows=TIMED_BATCH)


@torch.no_grad()
def peak_bytes(opened: Opened, rows: Any) -> int:
    """The highest use of memory while one batch of 32 rows is run: of the process on the CPU, of tensors on CUDA."""
    batch = timed_batches(opened, rows)[0]
    device = next(opened.model.parameters()).device
    found = cost.peak_memory(lambda: opened.view.emit(opened.model, batch.student, need_of(opened)), device)
    return found.peak_bytes


def saved_bytes(opened: Opened) -> int:
    """Bytes on disk of the model as it is saved."""
    with tempfile.TemporaryDirectory() as folder:
        opened.view.save(opened.model, Path(folder) / "model")
        return cost.disk_bytes(Path(folder) / "model")
