"""What a step of training takes in memory: weights, gradients, the optimiser's memory, and what the passes keep."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.engine.precision import resolve
from stillroom.method import Objective
from stillroom.objectives.chunks import BUFFERS, CHUNK_BYTES
from stillroom.recipe import Recipe
from stillroom.shapes import Passed, passed
from stillroom.signals import Signals
from stillroom.sizes import BYTES, Size, without_weights
from stillroom.views.base import LibraryView, View
from stillroom.views.causal_lm import CausalLM
from stillroom.views.load import view_class
from stillroom.views.sentence import SentenceEncoder
from stillroom.views.static import StaticEncoder


def pass_of(
    view: View,
    config: Any,
    kind: str,
    row: Mapping[str, Any],
    recipe: Recipe,
    needs: tuple[str, ...],
    *,
    learns: bool,
    processes: int = 1,
) -> Passed | None:
    """A model's pass over a micro-batch of one row, again and again; of a language model without its head.

    Args:
        view: how the model reads rows.
        config: of the model.
        kind: of the model.
        row: encoded, the longest.
        recipe: for the micro-batch and the precision.
        needs: what is asked of the model.
        learns: whether it is trained.
        processes: that share the batch.

    Returns:
        None of a model that looks at what is in its tensors, or that is no network to speak of (a bag of vectors).
    """
    if isinstance(view, StaticEncoder):
        return None
    model = view.built(config) if isinstance(view, LibraryView) else without_weights(config, kind)
    view = copy.copy(view)
    if isinstance(view, CausalLM):
        view.projects = False
    half = torch.bfloat16 if resolve(recipe.train.precision, recipe.train.device) == "bf16" else None
    rows = [dict(row)] * at_once(recipe, processes)

    def run(model: nn.Module, arguments: dict[str, Tensor]) -> list[Tensor]:
        if isinstance(view, SentenceEncoder):  # the pipeline around the network adds nothing that is large
            return [model(**arguments).last_hidden_state]
        return _tensors(view.emit(model, arguments, needs))

    try:
        return passed(model, run, view.collate(rows).arguments, learns=learns, half=half)
    except (RuntimeError, NotImplementedError):  # it asks for what shapes do not tell: the formula has to do
        return None


def at_once(recipe: Recipe, processes: int = 1) -> int:
    """Rows of a forward pass in one process."""
    train = recipe.train
    return min(train.micro_batch or train.batch_size, -(-train.batch_size // processes))


def with_answer(row: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """An encoded row of a language model with an answer of so many tokens in place of its own."""
    start = next((place for place, trained in enumerate(row["trained"]) if trained), len(row["trained"]))
    ids, length = [*row["input_ids"][:start], *[0] * tokens], start + tokens
    return {**row, "input_ids": ids, "trained": [False] * start + [True] * tokens, "length": length}


def _tensors(signals: Signals) -> list[Tensor]:
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    signals.map(keep)
    return found


def memory(
    recipe: Recipe,
    main: Objective,
    student: Size,
    teachers: list[Size],
    longest: int,
    *,
    own: Passed | None = None,
    asked: Sequence[Passed] = (),
    processes: int = 1,
) -> dict[str, int]:
    """Bytes at the peak of a step of one process, by term, with the longest row in every place of the micro-batch.

    Of weights that are shared out, a process has its part of all, and whole what is in use: that which is outside the
    layers, the layer at work and the one that is fetched meanwhile.

    Where a pass is not known, its activations are estimated by Korthikanti et al. 2022 ("Reducing Activation
    Recomputation", equation 2): 34 T H + 5 a T^2 bytes a layer and row in half precision, twice that in float32.

    Args:
        recipe: for types, optimiser and micro-batch.
        main: its method.
        student: its numbers.
        teachers: those of the teachers that are asked.
        longest: tokens of the longest row.
        own: the student's pass, forward and backward.
        asked: a pass of each teacher.
        processes: that share the batch, and with ``train.sharded`` the weights.
    """
    train = recipe.train
    rows, shares = at_once(recipe, processes), processes if train.sharded else 1
    width = 2 if train.precision in ("bf16", "fp16") else 4
    states = {"adamw": 2, "adam": 2, "sgd": 1}[train.optimizer]
    weights = student.parameters * BYTES[recipe.student.dtype]
    a_row = student.layers * (34 * longest * student.width + 5 * student.heads * longest**2)
    logits = logits_memory(recipe, main, student, teachers, longest, processes)[0]
    terms = {
        "student weights": _there(student, BYTES[recipe.student.dtype], shares),
        "student gradients": _there(student, BYTES[recipe.student.dtype], shares, ahead=0),
        "optimizer": states * -(-weights // shares),
        "student activations": rows * a_row * width // 2,
    }
    if own is not None:
        # With the loss the gradient of the head is there, and the room that its rows take; then, as the gradient goes
        # down, what the layers kept gives way to their gradients.
        language = view_class(recipe.student.kind or recipe.task) is CausalLM
        head = student.vocabulary * student.width * BYTES[recipe.student.dtype] if language else 0
        room = sum(logits.values())
        both = max(own.held + room, own.peak) + head - weights - room
        terms["student activations"] = max(both, 0) if shares == 1 else own.held  # gradients leave as they come
    if recipe.teacher is not None and teachers:
        dtypes = [model.dtype for model in recipe.teachers.values()]
        terms["teacher weights"] = sum(
            _there(size, BYTES[dtype], shares) for size, dtype in zip(teachers, dtypes, strict=True)
        )
        if main.trains_teacher:
            each = sum(
                rows * size.layers * (34 * longest * size.width + 5 * size.heads * longest**2) for size in teachers
            )
            terms["teacher gradients"] = terms["teacher weights"]
            terms["optimizer"] += states * terms["teacher weights"]
            terms["teacher activations"] = each * width // 2
        elif asked and not recipe.teacher.cache:
            # The teacher is asked before the student runs: what it takes beyond that is not there at the same time.
            terms["teacher signals"] = sum(one.out for one in asked)
            later = terms["student gradients"] + terms["student activations"] + sum(logits.values())
            terms["teacher activations"] = max(max(one.peak for one in asked) - terms["teacher signals"] - later, 0)
    # The optimiser's step comes when nothing is left of the passes; Adam makes two tensors more of the weight at hand.
    at_hand = 2 * student.largest * BYTES[recipe.student.dtype] // shares if states == 2 else 0
    spare = at_hand - terms["student activations"] - sum(logits.values()) - terms.get("teacher signals", 0)
    if spare > 0:
        terms["optimizer's step"] = spare
    return terms | logits


def _there(size: Size, width: int, shares: int, ahead: int = 1) -> int:
    """Bytes of a model's weights, or of their gradients, in one of the processes that share them."""
    if shares == 1:
        return size.parameters * width
    return (-(-size.parameters // shares) + size.outside + (1 + ahead) * size.layer) * width


def logits_memory(
    recipe: Recipe, main: Objective, student: Size, teachers: list[Size], longest: int, processes: int = 1
) -> tuple[dict[str, int], int]:
    """Bytes of language models' logits at the peak of a step, by term; and how many a loss in chunks saves of them.

    Whole logits: as the model gives them, then the log-probabilities in float32, and of the student's the gradient of
    each. In chunks (`stillroom.objectives.chunks`) there are those of a few rows; several teachers give whole ones.
    """
    if view_class(recipe.student.kind or recipe.task) is not CausalLM:
        return {}, 0
    train = recipe.train
    places = at_once(recipe, processes) * longest
    width = 2 if train.precision in ("bf16", "fp16") else 4
    whole = {"student logits": places * student.vocabulary * 2 * (width + 4)}
    if recipe.teacher is not None and not recipe.teacher.cache and main.needs.asked and teachers:
        whole["teacher logits"] = places * max(size.vocabulary for size in teachers) * (width + 4)
    if not train.fused or not main.rowwise or main.trains_teacher:
        return whole, 0
    found = {"logits of a chunk": min(CHUNK_BYTES, places * student.vocabulary * 4 * BUFFERS)}
    if len(teachers) > 1 and "teacher logits" in whole:
        found["teacher logits"] = whole["teacher logits"]
    return found, max(sum(whole.values()) - sum(found.values()), 0)
