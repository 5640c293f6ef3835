"""Text written by a model: answers to prompts, and batches remade from such answers (on-policy data).

Shapes: ``B`` rows, ``T`` tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.signals import Batch
from stillroom.views.base import digest, pad


@torch.no_grad()
def answers(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stop: Sequence[int],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    beams: int = 1,
    vocabulary: int | None = None,
    processors: Sequence[Any] = (),
) -> list[list[int]]:
    """Let a model answer prompts, all in one batch, in eval mode and without gradient.

    What the model's own generation settings say (a repetition penalty, a smaller temperature) is left aside: these are
    the answers of the model's distribution and of nothing else.

    Args:
        model: with transformers' ``generate``.
        prompts: token ids, none of them empty.
        stop: ids that end an answer.
        max_new_tokens: at most so many.
        temperature: 0 takes the likeliest token; otherwise tokens are drawn from the softened distribution, unfiltered
            but for ``top_p``.
        top_p: tokens are drawn from the likeliest ones that hold this mass, in (0, 1].
        beams: of a beam search, where temperature is 0.
        vocabulary: ids from this one on are never written. A model's table is often longer than its tokenizer's, and
            those ids mean nothing to whoever reads the answer. None allows the whole table.
        processors: logits processors of transformers, which change the distribution that answers are drawn from.

    Returns:
        The new tokens of each answer, its stop token included where it came to one.
    """
    from transformers import GenerationConfig

    if not prompts or min(len(prompt) for prompt in prompts) == 0:
        raise ValueError("every prompt needs at least one token")
    drawn = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        num_beams=beams,
        eos_token_id=list(stop) or None,
        pad_token_id=stop[0] if stop else 0,
        suppress_tokens=_beyond(model, vocabulary),
        **drawn,
    )
    return [_until_stop(row, set(stop)) for row in _generated(model, prompts, config, processors).tolist()]


@torch.no_grad()
def hypotheses(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stop: Sequence[int],
    max_new_tokens: int,
    beams: int,
    vocabulary: int | None = None,
) -> list[list[list[int]]]:
    """All that a beam search ends with, likeliest first, under the conditions of `answers`.

    What is searched for is the likeliest answer: a hypothesis counts by its summed log-probability. Divided by a power
    of its length, as is usual, long ones would be preferred.

    Args:
        model: with transformers' ``generate``.
        prompts: token ids, none of them empty.
        stop: ids that end an answer.
        max_new_tokens: at most so many.
        beams: width of the search, at least 1.
        vocabulary: ids from this one on are never written.

    Returns:
        ``beams`` answers a prompt, as in `answers`; those that came to no end within ``max_new_tokens`` among them.
    """
    from transformers import GenerationConfig

    if beams < 1 or not prompts or min(len(prompt) for prompt in prompts) == 0:
        raise ValueError("a beam search needs at least one beam, and every prompt at least one token")
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        num_beams=beams,
        num_return_sequences=beams,
        length_penalty=0.0,
        eos_token_id=list(stop) or None,
        pad_token_id=stop[0] if stop else 0,
        suppress_tokens=_beyond(model, vocabulary),
    )
    rows = [_until_stop(row, set(stop)) for row in _generated(model, prompts, config).tolist()]
    return [rows[start : start + beams] for start in range(0, len(rows), beams)]


def _generated(model: Any, prompts: Sequence[Sequence[int]], config: Any, processors: Sequence[Any] = ()) -> Tensor:
    """What ``generate`` writes after each prompt, padded on the right."""
    from transformers import LogitsProcessorList

    device = next(model.parameters()).device
    backwards, real = pad([list(reversed(prompt)) for prompt in prompts])
    with _undisturbed(model):
        out: Any = model.generate(
            input_ids=backwards.flip(1).to(device),
            attention_mask=real.flip(1).long().to(device),
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
        )
    return out[:, backwards.shape[1] :]


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """The model in eval mode and without generation settings of its own; each part's mode comes back as it was."""
    from transformers import GenerationConfig

    modes = [(module, module.training) for module in model.modules()]
    own, model.generation_config = model.generation_config, GenerationConfig()
    model.eval()
    try:
        yield
    finally:
        model.generation_config = own
        for module, training in modes:
            module.training = training


def _beyond(model: Any, vocabulary: int | None) -> list[int] | None:
    """The ids of the model's table from ``vocabulary`` on; None where there are none."""
    width = model.config.get_text_config().vocab_size
    return None if vocabulary is None else list(range(vocabulary, width)) or None


def _until_stop(ids: list[int], stop: set[int]) -> list[int]:
    """What was written up to the first stop token, with it; what follows is the batch's padding."""
    for place, token in enumerate(ids):
        if token in stop:
            return ids[: place + 1]
    return ids


def stop_ids(model: nn.Module, tokenizer: Any) -> list[int]:
    """The ids that end an answer: what the model's generation settings name, and the tokenizer's end of sequence."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = [named] if isinstance(named, int) else list(named or [])
    if tokenizer.eos_token_id is not None:
        found.append(tokenizer.eos_token_id)
    return list(dict.fromkeys(found))


def prompts_of(batch: Batch) -> list[list[int]]:
    """What each row's last answer follows, as the student reads it: the tokens up to its last trained stretch.

    Of a chat with several answers all but the last are so part of the prompt. Of a row that trains nothing it is all
    tokens.
    """
    return _prompts(batch.student, batch.mask)


def teacher_prompts_of(batch: Batch) -> list[list[int]]:
    """The same as the teacher reads it, whose template may be another."""
    if batch.teacher is None:
        return prompts_of(batch)
    assert batch.teacher_mask is not None
    return _prompts(batch.teacher, batch.teacher_mask)


def _prompts(arguments: dict[str, Tensor], masks: Tensor) -> list[list[int]]:
    rows = zip(arguments["input_ids"], arguments["attention_mask"].bool(), masks, strict=True)
    return [ids[real].tolist()[: _length(mask, int(real.sum()))] for ids, real, mask in rows]


def _length(mask: Tensor, otherwise: int) -> int:
    """How many tokens precede the last stretch of a row's mask [T], whose first place is that of the last of them."""
    starts = (mask & ~nn.functional.pad(mask[:-1], (1, 0))).nonzero()
    return int(starts[-1]) + 1 if len(starts) else otherwise


def with_answers(batch: Batch, prompts: Sequence[Sequence[int]], written: Sequence[Sequence[int]]) -> Batch:
    """The batch remade from prompts and answers: the answers, each with its stop token, are what is trained.

    A teacher that reads the rows differently gets the same answers after its own prompts. The rows get new ids, since
    what is kept anywhere under their old ones speaks of another text.

    Args:
        batch: of a causal language model, padded on the right.
        prompts: the tokens that the student reads before each answer.
        written: the tokens of one answer a row, none of them empty.
    """
    arguments, labels, mask = _joined(prompts, written)
    teacher = teacher_mask = None
    if batch.teacher is not None:
        teacher, _, teacher_mask = _joined(teacher_prompts_of(batch), written)
    remade = replace(
        batch,
        ids=[digest(name, *answer) for name, answer in zip(batch.ids, written, strict=True)],
        student=arguments,
        labels=labels,
        mask=mask,
        teacher=teacher,
        teacher_mask=teacher_mask,
        shared=None,
    )
    return remade.to(batch.mask.device)


def _joined(
    prompts: Sequence[Sequence[int]], written: Sequence[Sequence[int]]
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Arguments, labels and mask [B, T] of prompts with their answers, as `stillroom.views.causal_lm` collates them."""
    ids, real = pad([[*prompt, *answer] for prompt, answer in zip(prompts, written, strict=True)])
    next_place = torch.arange(ids.shape[1]) + 1
    starts = torch.tensor([len(prompt) for prompt in prompts]).unsqueeze(1)
    mask = (next_place >= starts) & (next_place < real.sum(1, keepdim=True))
    return {"input_ids": ids, "attention_mask": real.long()}, torch.roll(ids, -1, dims=1), mask
