"""Emoji in scenes, a quarter of which nobody labelled: the ground of open-vocabulary detection.

A small CLIP has seen forty emoji, one a picture, with their names. A detector's second stage sees scenes of several,
with boxes and labels for thirty of them; of the ten others it has the names alone, and what CLIP says of whatever
happens to show one. Proposals are boxes of objects, jittered (in training of labelled ones, as a proposal network would
know no others), and some boxes anywhere. What counts is how often a proposal of the test that covers a novel object is
given its name, among all forty. All detectors have one start for each seed and see the same batches. No combination of
emoji is in two splits.

Beside them stand the ways to cut out an object for CLIP: how often it names a test's proposal rightly, on its own.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.blocks.object_knowledge import ObjectEncoder
from stillroom.blocks.regions import iou
from stillroom.data.cache import build_once, fingerprint
from stillroom.data.files import load
from stillroom.engine.loop import seed_all
from stillroom.engine.schedule import factor
from stillroom.methods.vision.oadp import OADP, Image, ObjectKnowledge
from stillroom.testbeds.base import Bench, entry
from stillroom.views.image import decode

KINDS, EVERY = 40, 4  # emoji; one in so many is novel
SIZE, VIEW = 96, 48  # pixels of a scene, and of what CLIP sees
SCENES = {False: {"train": 400, "validation": 60, "test": 200}, True: {"train": 8, "validation": 4, "test": 6}}
LOOK: dict[str, Any] = {"shared": True, "kinds": KINDS, "size": SIZE, "objects": [2, 4]}
PICTURES = {False: 2400, True: 80}
PROPOSALS, ANYWHERE, JITTER = 3, 6, 0.15  # of an object; elsewhere in a scene; of a box's sides
WINDOW, STRIDE = 48, 24
PROMPTS = ("{}", "a picture of {}", "one {} among others")
MEAN = STD = (0.5, 0.5, 0.5)

CLIP_STEPS, CLIP_BATCH, CLIP_RATE = {False: 500, True: 2}, 64, 1e-3
TOWER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
WIDTH = 64
FARTHEST = 3.0  # how much smaller an emoji may be in a picture for CLIP

BACKBONE: dict[str, Any] = {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 1], "layer_type": "basic"}
DETECTOR = {"levels": 2, "width": 32, "pooled": 4, "finest": 16.0, "temperature": 0.05}
WARMUPS: dict[str, Any] = {"warmup": 40, "label_warmup": (100, 200)}
STEPS, BATCH, RATE, CLIP = {False: 250, True: 2}, 8, 1e-3, 10.0
NOTHING = {"block_weight": 0.0, "relation_weight": 0.0, "global_weight": 0.0, "block_labels": 0.0, "global_labels": 0.0}
DETECTORS: dict[str, dict[str, float]] = {
    "oadp": {},
    "objects-only": NOTHING,
    "no-distillation": NOTHING | {"object_weight": 0.0},
}
CROPS = {"clip-adaptive": "adaptive", "clip-box": "box", "clip-larger-box": "larger-box"}


# --- a small CLIP -----------------------------------------------------------------------------------------------------


@cache
def classes() -> tuple[str, ...]:
    """The names of all emoji."""
    return tuple(load("emoji", view="scenes", split="train", limit=4, **LOOK).features["labels"].feature.names)


def base() -> Tensor:
    """Which of them have labels, [C] bool."""
    return torch.arange(KINDS) % EVERY != EVERY - 1


def _ids(prompt: str) -> list[Tensor]:
    """One sequence a name: begin, words, end; 0 is padding."""
    words = sorted({word for text in PROMPTS for name in classes() for word in text.format(name).split()})
    number = {word: place for place, word in enumerate(words, 3)}
    return [torch.tensor([1, *(number[word] for word in prompt.format(name).split()), 2]) for name in classes()]


def _texts(clip: Any) -> Tensor:
    """The names' embeddings, each the mean over prompts: [C, D], of length 1."""
    found = []
    for prompt in PROMPTS:
        ids = nn.utils.rnn.pad_sequence(_ids(prompt), batch_first=True)
        vectors = clip.get_text_features(input_ids=ids, attention_mask=(ids > 0).long()).pooler_output
        found.append(F.normalize(vectors, dim=-1))
    return F.normalize(torch.stack(found).mean(0), dim=-1)


def _farther(images: Tensor) -> Tensor:
    """Each picture seen from farther away, up to `FARTHEST` times, with the emoji anywhere; its edges go on."""
    zoom = FARTHEST ** torch.rand(len(images))
    shift = (zoom - 1)[:, None] * (2 * torch.rand(len(images), 2) - 1)
    nothing = torch.zeros_like(zoom)
    places = torch.stack([zoom, nothing, shift[:, 0], nothing, zoom, shift[:, 1]], -1).reshape(-1, 2, 3)
    grid = F.affine_grid(places, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def clip_model(smoke: bool) -> Any:
    """The CLIP, trained once."""
    from transformers import CLIPConfig, CLIPModel

    longest = max(len(ids) for prompt in PROMPTS for ids in _ids(prompt))
    vocabulary = 1 + max(int(ids.max()) for prompt in PROMPTS for ids in _ids(prompt))
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    text = TOWER | special | {"vocab_size": max(vocabulary, 4), "max_position_embeddings": longest}
    vision = TOWER | {"image_size": VIEW, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)

    @torch.enable_grad()
    def build(folder: Path) -> None:
        seed_all(0, -1, 0)
        model: Any = CLIPModel(config).train()
        rows = load("emoji", view="objects", split="train", limit=PICTURES[smoke], size=VIEW, kinds=KINDS)
        images = torch.stack([decode(row["image"]) for row in rows])
        labels = torch.tensor(rows["label"])
        optimizer = torch.optim.AdamW(model.parameters(), lr=CLIP_RATE)
        for step in range(CLIP_STEPS[smoke]):
            chosen = torch.randint(len(labels), (CLIP_BATCH,))
            pixels = (_farther(images[chosen]) - 0.5) / 0.5
            vectors = F.normalize(model.get_image_features(pixels).pooler_output, dim=-1)
            # All names at once are what a batch without repeats would hold, and never two of one name.
            loss = F.cross_entropy(model.logit_scale.exp() * vectors @ _texts(model).T, labels[chosen])
            for group in optimizer.param_groups:
                group["lr"] = CLIP_RATE * factor(step, CLIP_STEPS[smoke], warmup=0.1, shape="cosine")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        model.save_pretrained(folder)

    mark = fingerprint(config.to_dict(), classes(), PROMPTS, PICTURES[smoke], CLIP_STEPS[smoke], CLIP_BATCH, CLIP_RATE)
    return CLIPModel.from_pretrained(build_once("testbeds/detection-clip", mark, build)).eval()


def encoder(smoke: bool, crop: Any = "adaptive") -> ObjectEncoder:
    """The CLIP, asked about boxes."""
    return ObjectEncoder(clip_model(smoke), crop=crop, mean=MEAN, std=STD)


# --- scenes -----------------------------------------------------------------------------------------------------------


@cache
def scenes(part: str, smoke: bool) -> Any:
    """Rows of {image, boxes, labels, proposals}, and in training CLIP's knowledge of them."""
    from datasets import List, Value, load_from_disk

    def build(folder: Path) -> None:
        rows = load("emoji", view="scenes", split=part, limit=SCENES[smoke][part], **LOOK)
        rows = rows.select_columns(["image", "boxes", "labels"])
        draw = torch.Generator().manual_seed(0)
        proposals = []
        for row in rows:
            known = base()[torch.tensor(row["labels"])] | torch.tensor(part != "train")
            proposals.append(proposed(torch.tensor(row["boxes"]).float()[known], draw).tolist())
        rows = rows.add_column("proposals", proposals, feature=List(List(Value("float32"))))  # type: ignore[call-arg]
        if part == "train":
            rows = ObjectKnowledge(encoder(smoke), window=WINDOW, stride=STRIDE).run(rows)
        rows.save_to_disk(folder)

    mark = fingerprint(
        EVERY, part, SCENES[smoke][part], LOOK, PROPOSALS, ANYWHERE, JITTER, WINDOW, STRIDE, CLIP_STEPS[smoke]
    )
    return load_from_disk(build_once(f"testbeds/detection-{part}", mark, build))


def proposed(boxes: Tensor, draw: torch.Generator) -> Tensor:
    """Boxes like those of objects, and some anywhere, [p, 4]."""
    around = boxes.repeat_interleave(PROPOSALS, 0)
    size = (around[:, 2:] - around[:, :2]).repeat(1, 2)
    around = around + JITTER * size * (2 * torch.rand(around.shape, generator=draw) - 1)
    corner = torch.rand(ANYWHERE, 2, generator=draw) * (SIZE - 16)
    other = torch.cat([corner, corner + 16 + torch.rand(ANYWHERE, 2, generator=draw) * (SIZE - 16 - corner)], -1)
    return torch.cat([around, other]).clamp(0, SIZE)


def _image(row: dict[str, Any]) -> Image:
    """A training row, with the labels of base classes alone."""
    labels = torch.tensor(row["labels"])
    known = base()[labels]
    knowledge = {
        name: torch.tensor(row[name]) for name in ("object_boxes", "objects", "block_boxes", "blocks", "whole")
    }
    boxes = torch.tensor(row["boxes"]).float()[known]
    return Image(proposals=knowledge["object_boxes"], boxes=boxes, labels=labels[known], **knowledge)


def _pixels(rows: Any) -> Tensor:
    return (torch.stack([decode(row["image"]) for row in rows]) - 0.5) / 0.5


# --- detectors --------------------------------------------------------------------------------------------------------


def detector(name: str, seed: int, smoke: bool) -> OADP:
    """An untrained detector of the table above; those of one seed begin alike where they have the same parts."""
    from transformers import ResNetConfig, ResNetModel

    with torch.no_grad():
        text = _texts(clip_model(smoke))
    seed_all(seed, -1, 0)
    backbone = ResNetModel(ResNetConfig(**BACKBONE))
    settings: dict[str, Any] = DETECTOR | WARMUPS | DETECTORS[name]
    return OADP(backbone=backbone, text=text, base=base(), **settings)


def trained(name: str, seed: int, smoke: bool) -> tuple[OADP, float]:
    """A detector, and the seconds that its training took."""
    model, rows = detector(name, seed, smoke), scenes("train", smoke)
    images, known = _pixels(rows), [_image(row) for row in rows]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    order, began, steps = torch.Generator().manual_seed(seed), time.monotonic(), STEPS[smoke]
    model.train()
    for step in range(steps):
        chosen = torch.randint(len(known), (BATCH,), generator=order)
        for group in optimizer.param_groups:
            group["lr"] = RATE * factor(step, steps, warmup=0.1, shape="cosine")
        loss = model.loss(model(images[chosen], [known[place] for place in chosen]), step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
    return model.eval(), time.monotonic() - began


def shown(row: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Which proposals of a row cover an object by half (IoU), [p] bool, and the label of what they cover best, [p]."""
    best, place = iou(torch.tensor(row["proposals"]), torch.tensor(row["boxes"]).float()).max(-1)
    return best >= 0.5, torch.tensor(row["labels"])[place]


def accuracies(scores: list[Tensor], part: str, smoke: bool) -> dict[str, float]:
    """How often the proposals that cover an object are given its name, among all classes; for base and novel ones.

    Args:
        scores: [p, C] of each row of the part.
        part: of the scenes.
        smoke: as everywhere.
    """
    right, novel = [], []
    for found, row in zip(scores, scenes(part, smoke), strict=True):
        covers, labels = shown(row)
        right.append((found.argmax(-1) == labels)[covers])
        novel.append(~base()[labels][covers])
    hits, is_novel = torch.cat(right).float(), torch.cat(novel)
    return {"novel_accuracy": float(hits[is_novel].mean()), "base_accuracy": float(hits[~is_novel].mean())}


@torch.no_grad()
def detected(model: OADP, part: str, smoke: bool) -> list[Tensor]:
    """The scores [p, C] of the proposals of a part."""
    rows = scenes(part, smoke)
    images, proposals = _pixels(rows), [torch.tensor(row["proposals"]) for row in rows]
    places = range(0, len(rows), 50)
    found = [model.predict(images[start : start + 50], proposals[start : start + 50]) for start in places]
    return [each.scores[:, :-1] for some in found for each in some]


@torch.no_grad()
def named(crop: str, part: str, smoke: bool) -> list[Tensor]:
    """The cosines [p, C] of the proposals of a part with the names, by CLIP alone."""
    asked = encoder(smoke, crop)
    text = _texts(asked.clip)
    return [asked.objects(decode(row["image"]), torch.tensor(row["proposals"])) @ text.T for row in scenes(part, smoke)]


def measure(smoke: bool, seed: int) -> list[dict[str, Any]]:
    """Detectors, and CLIP alone: entries as in a run's evaluation.json."""
    entries = []
    for name in DETECTORS:
        model, seconds = trained(name, seed, smoke)
        metrics = accuracies(detected(model, "test", smoke), "test", smoke)
        role = "student" if name == "oadp" else "baseline"
        entries.append(entry(name, role, model, metrics, seconds, alone=name == "no-distillation"))
    clip = clip_model(smoke)
    for name, crop in CROPS.items():
        role = "teacher" if name == "clip-adaptive" else "baseline"
        entries.append(entry(name, role, clip, accuracies(named(crop, "test", smoke), "test", smoke)))
    return entries


BENCHES: dict[str, Bench] = {
    "oadp": Bench(
        claim="With objects, blocks and whole images distilled, a detector names more novel objects than with objects "
        "alone.",
        metric="novel_accuracy",
        higher_is_better=True,
        versus="objects-only",
        measure=measure,
    ),
}
