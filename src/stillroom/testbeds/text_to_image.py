"""A small text-to-image model: pairs of emoji side by side, drawn from a prompt that names them.

A picture is 12 x 24 pixels in [-1, 1]: two halves on one flat background, in each an emoji of 11 pixels somewhere. The
prompt names both ("a helicopter and a pill"), or, as captions do, one of them alone; which half an emoji stands in is
not said. Some pairs never occur in training. The words are read by a transformer of two layers that is trained
together with the network that predicts the noise and then frozen, as nothing larger that reads English is at hand. A
judge, trained on the halves, says which emoji a half shows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.emoji.base_table import cast
from stillroom.errors import need

SIDE, DRAWN, KINDS, WIDTH, WINDOW = 12, 11, 12, 64, 16
HELD_OUT = {"validation": 10, "test": 20}  # pairs of 66 that never occur in training
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear"}
NETWORK = {
    "sample_size": (SIDE, 2 * SIDE),
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": (16, 48),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,
}
TRAIN = {False: {"steps": 2000, "batch": 32}, True: {"steps": 2, "batch": 4}}
JUDGED = {False: 600, True: 2}  # steps of the judge
NOTHING, ONE = 0.1, 0.4  # shares of training rows whose prompt is empty, and names one emoji alone


# --- pictures and prompts ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Objects:
    """The emoji: colours [kinds, 3, 11, 11] in [0, 1], how opaque they are [kinds, 1, 11, 11], and their names."""

    colours: Tensor
    opaque: Tensor
    names: tuple[str, ...]


@cache
def objects() -> Objects:
    """The emoji that pictures show."""
    from PIL import Image

    kinds = cast("train", shared=True, only=None, count=KINDS).kinds
    small = [kind.picture().resize((DRAWN, DRAWN), Image.Resampling.LANCZOS).convert("RGBA") for kind in kinds]
    layers = torch.from_numpy(np.stack([np.asarray(picture) for picture in small])).permute(0, 3, 1, 2).float() / 255
    return Objects(layers[:, :3], layers[:, 3:], tuple(kind.name for kind in kinds))


@cache
def pairs(split: str) -> list[tuple[int, int]]:
    """Pairs of kinds that a split's pictures show; no pair is in two splits."""
    every = list(combinations(range(KINDS), 2))
    random.Random(0).shuffle(every)
    valid, test = HELD_OUT["validation"], HELD_OUT["test"]
    return {"validation": every[:valid], "test": every[valid : valid + test], "train": every[valid + test :]}[split]


def drawn(chosen: Sequence[tuple[int | None, int | None]], draw: random.Random) -> Tensor:
    """Pictures [N, 3, 12, 24] in [-1, 1] of what is to stand left and right, on a background of some colour."""
    made, found = torch.empty(len(chosen), 3, SIDE, 2 * SIDE), objects()
    for number, halves in enumerate(chosen):
        made[number] = torch.tensor([draw.random() for _ in range(3)]).reshape(3, 1, 1)
        for half, kind in enumerate(halves):
            if kind is not None:
                left, top = half * SIDE + draw.randint(0, SIDE - DRAWN), draw.randint(0, SIDE - DRAWN)
                window = made[number, :, top : top + DRAWN, left : left + DRAWN]
                window += found.opaque[kind] * (found.colours[kind] - window)
    return made * 2 - 1


def phrase(kind: int) -> str:
    """The noun phrase for an emoji."""
    name = objects().names[kind]
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def prompt(pair: Sequence[int]) -> str:
    """What a picture with these emoji is asked for by."""
    return " and ".join(phrase(kind) for kind in pair)


# --- the model --------------------------------------------------------------------------------------------------------


class Reader(nn.Module):
    """Prompts as vectors [N, 16, 64] for cross-attention, and which of them are words [N, 16]."""

    def __init__(self) -> None:
        super().__init__()
        said = {word for kind in range(KINDS) for word in phrase(kind).split()} | {"a", "an", "and"}
        self.words = {word: number + 1 for number, word in enumerate(sorted(said))}  # 0 begins every prompt
        self.token, self.place = nn.Embedding(len(self.words) + 1, WIDTH), nn.Embedding(WINDOW, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The vectors and the mask."""
        ids = torch.zeros(len(prompts), WINDOW, dtype=torch.long)
        mask = torch.zeros(len(prompts), WINDOW, dtype=torch.bool)
        for row, text in enumerate(prompts):
            read = [self.words[word] for word in text.split()]
            ids[row, 1 : len(read) + 1] = torch.tensor(read, dtype=torch.long)
            mask[row, : len(read) + 1] = True
        states = self.token(ids) + self.place(torch.arange(WINDOW))
        return self.layers(states, src_key_padding_mask=~mask), mask


class Painter(nn.Module):
    """Reader and network, with the scheduler that noise is added and taken out by."""

    def __init__(self) -> None:
        super().__init__()
        diffusers = need("diffusers", "diffusion")
        self.reader = Reader()
        self.network: Any = diffusers.UNet2DConditionModel(**NETWORK)
        self.scheduler: Any = diffusers.DDIMScheduler(**SCHEDULE)


def painter(smoke: bool = False) -> Painter:
    """The model, trained once."""
    train = TRAIN[smoke]

    def build(folder: Path) -> None:
        torch.manual_seed(0)
        made, draw = Painter(), random.Random(0)
        optimizer = torch.optim.AdamW(made.parameters(), lr=2e-3, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=train["steps"] + 1)
        for _ in range(train["steps"]):
            rows = [_training_row(draw) for _ in range(train["batch"])]
            pictures = drawn([halves for halves, _ in rows], draw)
            noise, t = torch.randn_like(pictures), torch.randint(0, len(made.scheduler.alphas_cumprod), (len(rows),))
            context, mask = made.reader([text for _, text in rows])
            noised = made.scheduler.add_noise(pictures, noise, t)
            loss = F.mse_loss(made.network(noised, t, context, encoder_attention_mask=mask).sample, noise)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(made.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        folder.mkdir()
        save_file(made.state_dict(), folder / "painter.safetensors")

    mark = fingerprint("painter", train, NETWORK, SCHEDULE, DRAWN, HELD_OUT, NOTHING, ONE, objects().names, 1)
    made = Painter()
    made.load_state_dict(load_file(build_once("testbeds/text-to-image", mark, build) / "painter.safetensors"))
    return made.eval()


def _training_row(draw: random.Random) -> tuple[tuple[int, int], str]:
    """What stands left and right, and the prompt."""
    left, right = draw.sample(draw.choice(pairs("train")), 2)
    share = draw.random()
    said = 0 if share < NOTHING else 1 if share < NOTHING + ONE else 2
    return (left, right), prompt(draw.sample((left, right), said))


# --- the judge --------------------------------------------------------------------------------------------------------


class Judge(nn.Module):
    """Reads halves [N, 3, 12, 12] in [-1, 1]: one of the 12 emoji, or none."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (3, 24, 48, 64)
        self.layers = nn.ModuleList(nn.Conv2d(one, two, 3, stride=2, padding=1) for one, two in pairwise(sizes))
        self.middle, self.head = nn.Linear(64 * 4, 64), nn.Linear(64, KINDS + 1)

    def features(self, halves: Tensor) -> Tensor:
        """[N, 64], what the kinds are read off."""
        for layer in self.layers:
            halves = F.relu(layer(halves))
        return F.relu(self.middle(halves.flatten(1)))

    def forward(self, halves: Tensor) -> Tensor:
        """Logits [N, 13], the last for no emoji."""
        return self.head(self.features(halves))


def halves_of(pictures: Tensor) -> Tensor:
    """Left and right halves [2 N, 3, 12, 12] of pictures [N, 3, 12, 24]: all left ones, then all right ones."""
    return torch.cat([pictures[..., :SIDE], pictures[..., SIDE:]])


def judge(smoke: bool = False) -> Judge:
    """Trained once on halves, shifted a little and with noise."""

    def build(folder: Path) -> None:
        torch.manual_seed(0)
        made, draw = Judge(), random.Random(0)
        optimizer = torch.optim.Adam(made.parameters(), lr=2e-3)
        for _ in range(JUDGED[smoke]):
            shown: list[Any] = [tuple(draw.choice([*range(KINDS), None]) for _ in range(2)) for _ in range(64)]
            pictures = halves_of(drawn(shown, draw))
            pictures = pictures.roll((draw.randint(-1, 1), draw.randint(-1, 1)), (2, 3))
            right = torch.tensor(
                [KINDS if kind is None else kind for half in zip(*shown, strict=True) for kind in half]
            )
            loss = F.cross_entropy(made(pictures + 0.15 * torch.randn_like(pictures)), right)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        folder.mkdir()
        save_file(made.state_dict(), folder / "judge.safetensors")

    mark = fingerprint("pair-judge", JUDGED[smoke], DRAWN, objects().names, 1)
    made = Judge()
    made.load_state_dict(load_file(build_once("testbeds/text-to-image-judge", mark, build) / "judge.safetensors"))
    return made.eval()
