"""The words by which the catalogue is browsed: axes, their values, and the tags of a system.

The axes come from the surveys in the catalogue, each of which holds its own; one more, `SHIPS`, is the toolkit's. Tags
are data, in ``taxonomy.toml``. This module only says what an axis is, and refuses tags that are not on one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stillroom.errors import UserError, nearest

NOTHING = "none"  # the value of what an axis does not apply to; it stands alone
Tags = Mapping[str, tuple[str, ...]]
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Value:
    """One value of an axis.

    Attributes:
        name: lower case, words joined by dashes.
        text: what it means, as plain sentences.
        reference: the dotted name of the plainest implementation in the package; empty where there is none.
    """

    name: str
    text: str
    reference: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"the value {self.name!r} must be lower case, its words joined by dashes")


@dataclass(frozen=True)
class Axis:
    """One question that is asked of every system, and the answers it allows.

    Attributes:
        name: as for a value.
        question: what it asks.
        values: all that it allows, in the order of a page.
        base: every system answers it. An axis that is not is silent about most.

    Raises:
        ValueError: a value has two texts, or there is none.
    """

    name: str
    question: str
    values: tuple[Value, ...]
    base: bool = True

    def __post_init__(self) -> None:
        if not self.values or len(set(self.names)) != len(self.values):
            raise ValueError(f"the axis {self.name!r} needs values, each with a name of its own")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the values."""
        return tuple(value.name for value in self.values)


SHIPS = Axis(
    "ships",
    "What comes out of it?",
    (
        Value("language-model", "A model that writes on from text."),
        Value("sequence-to-sequence", "An encoder with a decoder: translation, summaries, text to text."),
        Value("text-encoder", "A BERT-like encoder, to be fine-tuned."),
        Value("text-classifier", "A model that labels texts, or the words of a text."),
        Value("embedder", "One vector a text, compared by cosine or inner product."),
        Value("retriever", "A search model: dense, by many vectors a text, or by weighted words."),
        Value("reranker", "A model that scores a query and a candidate together."),
        Value("recommender", "A model that proposes items to users."),
        Value("word-vectors", "Vectors of words or of their senses."),
        Value("parser", "A model that turns a sentence into a tree, a graph, a query or a call."),
        Value("image-encoder", "Vectors of images, of their patches or of their points."),
        Value("image-classifier", "A model that labels images."),
        Value("detector", "Boxes with labels."),
        Value("segmenter", "A label for every pixel."),
        Value("video-encoder", "Vectors of clips."),
        Value("point-cloud-model", "Labels or vectors of points in space."),
        Value("vision-language-encoder", "Images and texts in one space, or scored together."),
        Value("vision-language-model", "A model that reads an image and writes."),
        Value("image-generator", "A diffusion model, or a part that steers one."),
        Value("speech-recogniser", "Speech to text."),
        Value("speech-encoder", "Vectors of speech."),
        Value("graph-model", "A graph network, or a model that no longer needs the graph."),
        Value("inference-rule", "A rule for inference, such as decoding, guidance or editing; nothing is trained."),
        Value("transform", "A fitted map of vectors, or a topic model."),
        Value("dataset", "Data, to train with or to test on."),
        Value("measurement", "A benchmark, a probe or a study: it tells about models and ships none."),
    ),
)


def union(axes: Iterable[Axis]) -> dict[str, Axis]:
    """Axes by their names. Two of one name ask one question: their values stand together, in order."""
    found: dict[str, Axis] = {}
    for axis in axes:
        if axis.name in found:
            first = found[axis.name]
            axis = Axis(axis.name, first.question, first.values + axis.values, first.base)
        found[axis.name] = axis
    return found


def checked(slug: str, tags: Mapping[str, Sequence[str]], axes: Mapping[str, Axis]) -> dict[str, tuple[str, ...]]:
    """The tags of a system, in the order of the axes and of their values.

    Raises:
        ValueError: an axis or a value is unknown or comes twice, ``none`` stands beside another, or a base axis has
            no value.
    """
    for name in tags:
        if name not in axes:
            raise ValueError(f"{slug} is tagged on an unknown axis {name!r}{nearest(name, axes)}")
    found = {}
    for name, axis in axes.items():
        given = tags.get(name, ())
        if unknown := [value for value in given if value not in axis.names]:
            raise ValueError(
                f"{slug} has an unknown value {unknown[0]!r} on the axis {name!r}{nearest(unknown[0], axis.names)}"
            )
        if len(set(given)) != len(given) or (NOTHING in given and len(given) > 1):
            raise ValueError(f"{slug} has a value twice, or {NOTHING!r} beside others, on the axis {name!r}: {given}")
        if given:
            found[name] = tuple(value for value in axis.names if value in given)
        elif axis.base:
            raise ValueError(f"{slug} has no value on the axis {name!r}; it may be {NOTHING!r} where the axis has it")
    return found


def conditions(where: Mapping[str, str | Iterable[str]], axes: Mapping[str, Axis]) -> dict[str, frozenset[str]]:
    """What a system must be tagged with: on each axis at least one of the values.

    Raises:
        UserError: an axis or a value is unknown; the message names the nearest, or the axis that has the value.
    """
    found = {}
    for name, wanted in where.items():
        if name not in axes:
            raise UserError(f"there is no axis {name!r} among {', '.join(axes)}{nearest(name, axes)}")
        values = frozenset([wanted] if isinstance(wanted, str) else wanted)
        for value in sorted(values - set(axes[name].names)):
            elsewhere = [other for other, axis in axes.items() if value in axis.names]
            hint = f"; {value!r} is on the axis {elsewhere[0]!r}" if elsewhere else nearest(value, axes[name].names)
            raise UserError(f"the axis {name!r} has no value {value!r} among {', '.join(axes[name].names)}{hint}")
        found[name] = values
    return found


def holds(tags: Tags, wanted: Mapping[str, frozenset[str]]) -> bool:
    """Whether a system has one of the wanted values on every axis that is named."""
    return all(values & set(tags.get(name, ())) for name, values in wanted.items())
