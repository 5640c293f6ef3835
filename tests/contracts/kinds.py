"""The kinds of model that methods are tried on: how a tiny student and teacher of each are made, and what they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillroom.data.files import load
from stillroom.data.graphs import Graph

Row = dict[str, Any]
TEXTS = [f"row {n}: {'more ' * (n % 4)}about the number {n * n} and {chr(97 + n)}" for n in range(12)]
NODES, WIDTH = 12, 5


@dataclass(frozen=True)
class Kind:
    """A student, a teacher and eight rows.

    Attributes:
        architecture: of the student, and of the teacher where ``teaching`` names no other.
        small, large: settings of student and teacher.
        rows: gives eight rows, of different lengths where rows have one.
        view: what the kind is called in a recipe, where that is not its name here.
        teacher_view: what the teacher is, where it is something else.
        teaching: the teacher's architecture.
        options, teacher_options: of the views; a folder of the world may be named as ``{folder}``.
        speaks: whether there is a tokenizer, which both share.
    """

    architecture: str
    small: dict[str, Any]
    large: dict[str, Any]
    rows: Callable[[], list[Row]]
    view: str | None = None
    teacher_view: str | None = None
    teaching: str | None = None
    options: dict[str, Any] | None = None
    teacher_options: dict[str, Any] | None = None
    speaks: bool = True


# --- rows -------------------------------------------------------------------------------------------------------------


def texts() -> list[Row]:
    return [{"text": text} for text in TEXTS[:8]]


def labelled_texts() -> list[Row]:
    return [row | {"label": n % 3} for n, row in enumerate(texts())]


def tagged() -> list[Row]:
    words = [text.split() for text in TEXTS[:8]]
    return [{"tokens": each, "tags": [(n + place) % 5 for place in range(len(each))]} for n, each in enumerate(words)]


def answers() -> list[Row]:
    return [{"prompt": f"{n} plus {n} is", "completion": f" {2 * n}" + " in all" * (n % 4)} for n in range(8)]


def preferences() -> list[Row]:
    return [
        {
            "prompt": f"{n} plus {n} is",
            "chosen": f" {2 * n}" + " in all" * (n % 4),
            "rejected": f" {n}" + " or so" * (n % 3),
        }
        for n in range(8)
    ]


def pairs() -> list[Row]:
    return [{"anchor": f"about {n}", "positive": TEXTS[n]} for n in range(8)]


def triples() -> list[Row]:
    return [row | {"negative": TEXTS[n + 1 : n + 2 + n % 3]} for n, row in enumerate(pairs())]


def triples_in_two_languages() -> list[Row]:
    return [row | {"language": ("en", "de")[n % 2]} for n, row in enumerate(triples())]


def digits() -> list[Row]:
    return [dict(row) for row in load("digits", limit=8)]


def masked_digits() -> list[Row]:
    """Bright and dark pixels of a digit; the uppermost lines of some count for nothing."""
    return [
        {
            "image": row["image"],
            "mask": [[255 if y < n % 4 else int(value > 0.5) for value in line] for y, line in enumerate(row["image"])],
        }
        for n, row in enumerate(digits())
    ]


def captioned() -> list[Row]:
    draw = torch.Generator().manual_seed(0)
    pictures = torch.rand(8, 8, 8, 3, generator=draw).mul(255).round().div(255).tolist()
    return [{"image": image, "text": text} for image, text in zip(pictures, TEXTS, strict=False)]


def spoken() -> list[Row]:
    waves = [np.sin(np.arange(4000 + 900 * n) ** 1.2 / (9 + n)).round(4).tolist() for n in range(8)]
    return [{"audio": wave, "sampling_rate": 16_000, "text": f"say {n * n}"} for n, wave in enumerate(waves)]


def nodes() -> list[Row]:
    return [{"node": n, "label": None if n % 4 == 3 else n % 3} for n in range(8)]


def links() -> list[Row]:
    """What a step would draw stands in the rows."""
    around = [[(n * k + 1) % NODES for k in range(2, 4 + n % 3)] for n in range(8)]
    return [{"source": n, "target": n + 1, "negatives": [[n, (n + 5) % NODES]], "context": around[n]} for n in range(8)]


def graph(path: Path) -> None:
    """A ring of nodes with a few chords."""
    ring = torch.arange(NODES)
    chords = torch.tensor([[0, 2, 5], [6, 9, 11]])
    edges = torch.cat([torch.stack([ring, (ring + 1) % NODES]), chords], 1)
    Graph.of(torch.randn(NODES, WIDTH), edges).save(path)


# --- models -----------------------------------------------------------------------------------------------------------


def sizes(width: int, layers: int, **more: Any) -> dict[str, Any]:
    return {"hidden_size": width, "num_hidden_layers": layers, **more}


LLAMA = {"intermediate_size": 32, "num_attention_heads": 2, "max_position_embeddings": 64}
BERT = {"intermediate_size": 32, "num_attention_heads": 4, "max_position_embeddings": 64}
XMOD = BERT | {"languages": ["en", "de"], "default_language": "en", "adapter_reduction_factor": 2}
RESNET = {"num_channels": 1, "embedding_size": 4, "depths": [1, 1], "layer_type": "basic"}
VIT = {"num_channels": 1, "image_size": 8, "patch_size": 4, "intermediate_size": 16, "num_attention_heads": 2}
SEGFORMER = {
    **{"num_channels": 1, "num_labels": 3, "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
    **{"sr_ratios": [2, 1, 1, 1], "mlp_ratios": [2, 2, 2, 2], "decoder_hidden_size": 8},
    **{"classifier_dropout_prob": 0.0, "drop_path_rate": 0.0},
}
TOWER = {"intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
PIXELS = {"image_size": 8, "patch_size": 4}
UNET = {
    **{"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 2},
    **{"down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"], "num_class_embeds": 11},
    "attention_head_dim": 4,
}
MLP = {"in_channels": WIDTH, "hidden_channels": 6, "num_layers": 2, "norm": None}
CONFORMER = {
    **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24},
    **{"feature_projection_input_dim": 160, "conv_depthwise_kernel_size": 3, "layerdrop": 0.0},
    **{"apply_spec_augment": False, "mask_time_prob": 0.0},
}
WINDOW = {"max_length": 48}
SMALL = {"size": 8, "channels": 1}
GRAPH = {"graph": "{folder}/graph.safetensors"}
NOISE = {"schedule": {"num_train_timesteps": 100, "prediction_type": "sample"}}


def towers(width: int, space: int) -> dict[str, Any]:
    """The settings of a CLIP with two towers of this width."""
    text = TOWER | {"hidden_size": width, "max_position_embeddings": 64}
    vision = TOWER | PIXELS | {"hidden_size": width}
    return {"text_config": text, "vision_config": vision, "projection_dim": space}


def bert(rows: Callable[[], list[Row]], *, classes: tuple[int, int] | None = None, **more: Any) -> Kind:
    """A kind of BERT, with as many classes of student and teacher."""
    labels = [{"num_labels": count} for count in classes] if classes else [{}, {}]
    small, large = BERT | sizes(16, 1) | labels[0], BERT | sizes(32, 2) | labels[1]
    return Kind("bert", small, large, rows, options=WINDOW, **more)


def resnet(**more: Any) -> Kind:
    small, large = RESNET | {"hidden_sizes": [4, 8]}, RESNET | {"hidden_sizes": [8, 16]}
    return Kind("resnet", small, large, digits, options=SMALL, speaks=False, **more)


KINDS: dict[str, Kind] = {
    "language": Kind("llama", LLAMA | sizes(16, 1), LLAMA | sizes(32, 2), answers, options=WINDOW),
    "preferences": Kind(
        "llama", LLAMA | sizes(16, 1), LLAMA | sizes(32, 2), preferences, view="language", options=WINDOW
    ),
    "encoder": bert(texts),
    "masked-lm": bert(texts),
    "text-classifier": bert(labelled_texts, classes=(3, 3)),
    "token-classifier": bert(tagged, classes=(5, 3)),
    "embeddings": bert(pairs),
    "cross-encoder": bert(triples, classes=(1, 1)),
    "bi-encoder": bert(triples, classes=(2, 1), teacher_view="cross-encoder"),
    "late-interaction": Kind(
        "xmod", XMOD | sizes(16, 1), XMOD | sizes(32, 2), triples_in_two_languages, options=WINDOW
    ),
    "image": resnet(),
    "image-encoder": resnet(),
    "patches": Kind(
        "vit", VIT | sizes(8, 2), VIT | sizes(16, 2), digits, view="image-encoder", options=SMALL, speaks=False
    ),
    "segmentation": Kind(
        "segformer",
        SEGFORMER | {"hidden_sizes": [4, 4, 8, 8]},
        SEGFORMER | {"hidden_sizes": [8, 8, 8, 16]},
        masked_digits,
        options={"size": 64, "channels": 1},
        speaks=False,
    ),
    "image-text": Kind("clip", towers(16, 6), towers(32, 8), captioned, options=WINDOW),
    "denoiser": Kind(
        "UNet2DModel",
        UNET | {"block_out_channels": [4]},
        UNET | {"block_out_channels": [8]},
        digits,
        options=NOISE,
        speaks=False,
    ),
    "node": Kind(
        "MLP",
        MLP | {"out_channels": 3},
        {"in_channels": WIDTH, "hidden_channels": 8, "out_channels": 3, "codes": 6},
        nodes,
        teaching="QuantisedGNN",
        options=GRAPH,
        speaks=False,
    ),
    "link": Kind(
        "MLP",
        MLP | {"out_channels": 4},
        MLP | {"out_channels": 4, "hidden_channels": 8},
        links,
        teaching="GraphSAGE",
        options=GRAPH,
        speaks=False,
    ),
    "ctc": Kind(
        "wav2vec2-bert",
        CONFORMER,
        BERT | sizes(32, 2),
        spoken,
        teacher_view="masked-lm",
        teaching="bert",
        options={},
        teacher_options=WINDOW | {"each": True},
    ),
}
