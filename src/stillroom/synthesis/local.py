"""A causal language model of this process as a writer: sampled continuations with their log-probabilities.

It takes what a server takes (temperature, top_p, stop texts, penalties), and gives what one gives: the text, why it
ended, how many tokens it has, and their log-probability under the model's own, unsoftened distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from stillroom.blocks.sampler import stop_ids
from stillroom.synthesis.writers import Conversation, Written
from stillroom.views.base import pad


class Penalties(LogitsProcessor):
    """Presence and frequency penalties, as OpenAI's protocol defines them, over the tokens written so far.

    Args:
        prompt: tokens in each row that are not written but given, padding included.
        presence: taken from the logit of every token that was written.
        frequency: taken from it as often as it was written.
    """

    def __init__(self, prompt: int, *, presence: float = 0.0, frequency: float = 0.0) -> None:
        self.prompt, self.presence, self.frequency = prompt, presence, frequency

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The logits [B, V] less what the tokens written [B, L] cost."""
        written = input_ids[:, self.prompt :]
        counts = torch.zeros_like(scores).scatter_add_(1, written, torch.ones_like(written, dtype=scores.dtype))
        return scores - self.frequency * counts - self.presence * (counts > 0)


def writing(
    model: Any,
    tokenizer: Any,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_tokens: int = 64,
    stop: str | Sequence[str] = (),
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    chat: bool = False,
) -> Callable[[list[Conversation]], list[Written]]:
    """What a `stillroom.synthesis.writers.FunctionWriter` calls: conversations to continuations, one batch a call.

    Args:
        model: with transformers' ``generate``.
        tokenizer: its own.
        temperature: 0 takes the likeliest token.
        top_p: sample from the likeliest tokens that hold this share, in (0, 1].
        max_tokens: longest answer.
        stop: texts that end an answer and do not belong to it.
        presence_penalty: as OpenAI's.
        frequency_penalty: as OpenAI's.
        chat: put the turns through the tokenizer's chat template; otherwise the last turn's text is continued as it is.
    """
    stops = [stop] if isinstance(stop, str) else list(stop)
    drawn = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}
    ends = stop_ids(model, tokenizer)
    config = GenerationConfig(
        max_new_tokens=max_tokens,
        eos_token_id=ends or None,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
        stop_strings=stops or None,
        return_dict_in_generate=True,
        output_logits=True,
        **drawn,
    )

    def prompt(turns: Conversation) -> list[int]:
        if not chat:
            return tokenizer(turns[-1]["content"])["input_ids"]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    @torch.no_grad()
    def write(conversations: list[Conversation]) -> list[Written]:
        prompts = [prompt(turns) for turns in conversations]
        backwards, real = pad([ids[::-1] for ids in prompts])
        device = next(model.parameters()).device
        penalties = Penalties(backwards.shape[1], presence=presence_penalty, frequency=frequency_penalty)
        out = model.generate(
            input_ids=backwards.flip(1).to(device),
            attention_mask=real.flip(1).long().to(device),
            generation_config=config,
            tokenizer=tokenizer,
            logits_processor=LogitsProcessorList([penalties] if presence_penalty or frequency_penalty else []),
        )
        new = out.sequences[:, backwards.shape[1] :]
        logits = torch.stack(out.logits, 1).float()
        said = logits.log_softmax(-1).gather(-1, new.unsqueeze(-1)).squeeze(-1)
        rows = zip(prompts, new.tolist(), said.tolist(), strict=True)
        return [_written(tokenizer, ids, tokens, log_probs, ends, stops) for ids, tokens, log_probs in rows]

    return write


def _written(
    tokenizer: Any, prompt: list[int], tokens: list[int], log_probs: list[float], ends: list[int], stops: list[str]
) -> Written:
    """The answer up to its end or first stop text; the token that ends it counts in its log-probability."""
    last = next((place for place, token in enumerate(tokens) if token in ends), None)
    count = len(tokens) if last is None else last + 1
    text = tokenizer.decode(tokens[: count if last is None else last], skip_special_tokens=True)
    found = [place for mark in stops if (place := text.find(mark)) >= 0]
    if found:
        text = text[: min(found)]
        while count > 1 and any(mark in tokenizer.decode(tokens[: count - 1]) for mark in stops):
            count -= 1  # what follows the token that completes the stop text is padding
    ended = last is not None or bool(found)
    return Written(text, "stop" if ended else "length", len(prompt), count, sum(log_probs[:count]))
