"""Does the emoji in the corner occur again? The ground of blocks that carry what is in one place to all others.

A picture is a board of nine cells with three emoji on it, one of them in the upper left corner. In every second picture
the one in the corner occurs once more, in the others all three differ: so neither an emoji nor the number of them tells
the answer, only the comparison of two places that are mostly far apart. Boards are divided into training, validation
and test by a hash of what stands where. All networks have one start for each seed but for their blocks, and see the
same batches; the last weights are measured.
"""

from __future__ import annotations

import json
import random
import time
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.blocks.context import NonLocal, context_block
from stillroom.data.cache import build_once, fingerprint
from stillroom.data.emoji.base_table import cast
from stillroom.data.tables import part_of
from stillroom.engine.loop import seed_all
from stillroom.engine.schedule import factor
from stillroom.evaluate.cost import measure_together, peak_memory
from stillroom.methods.vision.gc_block import query_difference
from stillroom.methods.vision.gcnet import context_net
from stillroom.testbeds.base import Bench, entry

KINDS, SHOWN = 4, 3  # different emoji; on a board
CELL, SIDE = 16, 14  # pixels of a cell, of an emoji in it
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
BOARDS = {False: {"train": 2500, "validation": 500, "test": 1000}, True: {"train": 64, "validation": 32, "test": 32}}
NETWORK: dict[str, Any] = {
    "hidden_sizes": [64, 64],
    "depths": [2, 1],
    "embedding_size": 32,
    "downsample_in_first_stage": False,
}
WIDER = {"hidden_sizes": [76, 76]}  # about the weights of the network with blocks
EPOCHS, BATCH, RATE, CLIP = 3, 32, 1e-2, 1.0
SMOKE_STEPS = 2

# Name -> arguments of `context_net`, settings of the ResNet that differ.
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gcnet": ({"block": "gc"}, {}),
    "none": ({"block": "none"}, {}),
    "none-wider": ({"block": "none"}, WIDER),
    "se": ({"block": "se"}, {}),
    "snl": ({"block": "snl"}, {}),
    "nl": ({"block": "nl"}, {}),
    "gc-average": ({"block": "gc", "pooling": "average"}, {}),
}


class Boards(NamedTuple):
    """images [N, 3, 48, 48] in [-1, 1]; answers [N], 1 where the corner's emoji occurs again."""

    images: Tensor
    answers: Tensor


# --- boards -----------------------------------------------------------------------------------------------------------


@cache
def boards(part: str, smoke: bool) -> Boards:
    """The boards of a part."""
    count = BOARDS[smoke][part]
    kinds = cast("train", shared=True, only=None, count=KINDS).kinds

    def build(folder: Path) -> None:
        folder.mkdir()
        layouts = list(_layouts(part, count))
        np.savez(folder / "boards.npz", images=_drawn(layouts, kinds), answers=[again for again, _ in layouts])
        (folder / "layouts.json").write_text(json.dumps(layouts))

    mark = fingerprint([kind.id for kind in kinds], KINDS, SHOWN, CELL, SIDE, SHARES, count)
    found = np.load(build_once(f"testbeds/boards-{part}", mark, build) / "boards.npz")
    images = torch.from_numpy(found["images"]).permute(0, 3, 1, 2).float() / 127.5 - 1
    return Boards(images.contiguous(), torch.from_numpy(found["answers"]))


def _layouts(part: str, count: int) -> Any:
    """Answer by turns, and {cell: kind} of a board of this part."""
    draw = random.Random(f"boards {part}")
    made = 0
    while made < count:
        again, corner = made % 2, draw.randrange(KINDS)
        others = draw.sample([kind for kind in range(KINDS) if kind != corner], SHOWN - 1 - again) + [corner] * again
        draw.shuffle(others)
        layout = dict(
            sorted({0: corner, **dict(zip(draw.sample(range(1, 9), SHOWN - 1), others, strict=True))}.items())
        )
        if part_of(str(layout), SHARES, salt="boards") == part:
            made += 1
            yield again, layout


def _drawn(layouts: list[tuple[int, dict[int, int]]], kinds: Any) -> np.ndarray:
    """[N, 48, 48, 3] levels: each emoji somewhere in its cell, on a pale ground of any colour."""
    from PIL import Image

    pictures = [kind.picture().resize((SIDE, SIDE), Image.Resampling.LANCZOS) for kind in kinds]
    draw = random.Random("drawing boards")
    images = []
    for _, layout in layouts:
        image = Image.new("RGB", (3 * CELL, 3 * CELL), tuple(draw.randint(128, 255) for _ in range(3)))
        for cell, kind in layout.items():
            place = (cell % 3 * CELL + draw.randint(0, CELL - SIDE), cell // 3 * CELL + draw.randint(0, CELL - SIDE))
            image.paste(pictures[kind], place, pictures[kind])
        images.append(np.asarray(image))
    return np.stack(images)


# --- networks ---------------------------------------------------------------------------------------------------------


def network(name: str, seed: int) -> nn.Module:
    """An untrained network of the table above; all of one seed have the same weights where they have the same parts."""
    settings, other = NETWORKS[name]
    seed_all(seed, -1, 0)
    return context_net(stages=(1, 2), ratio=1 / 4, num_labels=2, config=NETWORK | other, **settings)


def trained(name: str, seed: int, smoke: bool) -> tuple[nn.Module, float]:
    """A network, and the seconds that its training took."""
    model, rows = network(name, seed), boards("train", smoke)
    steps = SMOKE_STEPS if smoke else EPOCHS * (len(rows.answers) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    order = torch.Generator().manual_seed(seed)
    began, waiting = time.monotonic(), torch.empty(0, dtype=torch.long)
    model.train()
    for step in range(steps):
        if len(waiting) < BATCH:
            waiting = torch.randperm(len(rows.answers), generator=order)
        chosen, waiting = waiting[:BATCH], waiting[BATCH:]
        for group in optimizer.param_groups:
            group["lr"] = RATE * factor(step, steps, warmup=0.15, shape="cosine")
        loss = F.cross_entropy(model(rows.images[chosen]).logits, rows.answers[chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
    return model.eval(), time.monotonic() - began


@torch.no_grad()
def accuracy(model: nn.Module, part: str, smoke: bool) -> float:
    """The share of boards of a part that are answered rightly."""
    rows = boards(part, smoke)
    answers = torch.cat([model(images).logits.argmax(-1) for images in rows.images.split(250)])
    return float((answers == rows.answers).float().mean())


def compare_networks(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """How often each network answers rightly: entries as in a run's evaluation.json."""
    entries = []
    for name in NETWORKS:
        model, seconds = trained(name, seed, smoke)
        entries.append(
            entry(
                name,
                "student" if name == "gcnet" else "baseline",
                model,
                {"accuracy": accuracy(model, "test", smoke)},
                seconds,
                alone=name == "none",
            )
        )
    return entries


# --- blocks alone -----------------------------------------------------------------------------------------------------

CHANNELS = 64
SIZES = {False: (16, 32, 64), True: (16, 64)}
REPEATS = {False: 10, True: 1}
BLOCKS: dict[str, tuple[str, dict[str, Any]]] = {
    "gc-block": ("gc", {"ratio": 1 / 16}),
    "gc-heavy": ("gc", {"ratio": 1 / 4}),
    "snl": ("snl", {}),
    "se": ("se", {}),
    "nl": ("nl", {}),
}


@torch.no_grad()
def compare_blocks(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """What each block costs on maps of growing size; of a non-local block that was trained, whether places differ."""
    seed_all(seed, -1, 0)
    blocks = {name: context_block(kind, CHANNELS, **settings).eval() for name, (kind, settings) in BLOCKS.items()}
    metrics: dict[str, dict[str, float]] = {name: {} for name in blocks}
    for size in SIZES[smoke]:
        x = torch.randn(1, CHANNELS, size, size)
        for name, latency in measure_together(blocks, [x], warmup=2, repeats=REPEATS[smoke]).items():
            metrics[name][f"forward_ms@{size}"] = latency.p50_ms
    for name, block in blocks.items():
        metrics[name]["added_mb"] = peak_memory(partial(block, x)).added_bytes / 2**20
    metrics["nl"] |= place_differences(smoke, seed)
    return [
        entry(name, "student" if name == "gc-block" else "baseline", block, metrics[name])
        for name, block in blocks.items()
    ]


@torch.no_grad()
def place_differences(smoke: bool, seed: int) -> dict[str, float]:
    """How much places differ before the trained network's non-local block, in what they attend to, and after it."""
    with torch.enable_grad():
        model, _ = trained("nl", seed, smoke)
    block = next(part for part in model.modules() if isinstance(part, NonLocal))
    seen: list[Tensor] = []
    handle = block.register_forward_hook(lambda _, inputs, output: seen.extend([inputs[0], output - inputs[0]]))
    model(boards("test", smoke).images[:100])
    handle.remove()
    before, added = (value.flatten(2).transpose(1, 2) for value in seen)
    return {
        "input_difference": query_difference(before),
        "attention_difference": query_difference(block.weights(seen[0])),
        "output_difference": query_difference(added),
        "accuracy": accuracy(model, "test", smoke),
    }


BENCHES: dict[str, Bench] = {
    "gc-block": Bench(
        claim="On a map of 64 x 64 places a global context block takes less time than a non-local block.",
        metric="forward_ms@64",
        higher_is_better=False,
        versus="nl",
        measure=compare_blocks,
        timed=True,
    ),
    "gcnet": Bench(
        claim="With global context blocks in every layer, a small network compares far places better than with one "
        "non-local block.",
        metric="accuracy",
        higher_is_better=True,
        versus="nl",
        measure=compare_networks,
    ),
}
