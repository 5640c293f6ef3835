"""A model asked about itself: careful and free answers, how likely they were, the states behind them, p(True).

What probes are fitted on and what sampled answers are compared by. Draws come from torch's generator; nothing here
decides what an answer means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from stillroom.blocks.sampler import answers
from stillroom.objectives.sequence import token_log_probs
from stillroom.views.base import pad


class Answered(NamedTuple):
    """What a model's one pass over prompts and answers shows: N rows, L layers (the embeddings first), width H.

    tbg and slt [N, L * H]; log_likelihood [N], the mean over an answer's tokens, its end included; length [N].
    """

    tbg: np.ndarray
    slt: np.ndarray
    log_likelihood: np.ndarray
    length: np.ndarray


class Elicited(NamedTuple):
    """For each of N prompts: a careful answer and what it shows, and samples with their mean log-likelihoods [N, S]."""

    answers: list[list[int]]
    shown: Answered
    samples: list[list[list[int]]]
    log_likelihoods: np.ndarray
    layers: int


@torch.no_grad()
def answered(
    model: Any, prompts: Sequence[Sequence[int]], written: Sequence[Sequence[int]], *, size: int = 64
) -> Answered:
    """Read prompts with their answers, and take the hidden states before the answer and near its end.

    Args:
        model: a causal language model of transformers.
        prompts: token ids, none of them empty.
        written: token ids of an answer to each, none of them empty.
        size: rows that are read at once.
    """
    if len(prompts) != len(written) or min(map(len, (*prompts, *written)), default=0) == 0:
        raise ValueError("every prompt needs an answer, and each of them at least one token")
    found: list[list[np.ndarray]] = []
    training, device = model.training, next(model.parameters()).device
    model.eval()
    for start in range(0, len(prompts), size):
        asked, said = prompts[start : start + size], written[start : start + size]
        ids, real = (part.to(device) for part in pad([[*p, *a] for p, a in zip(asked, said, strict=True)]))
        output = model(input_ids=ids, attention_mask=real.long(), output_hidden_states=True)
        hidden = torch.stack(output.hidden_states, 1).float()  # [B, L, T, H]
        before = torch.tensor([len(prompt) - 1 for prompt in asked], device=device)
        lengths = torch.tensor([len(answer) for answer in said], device=device)
        places = torch.arange(ids.shape[1], device=device)
        mask = (places >= before[:, None]) & (places < (before + lengths)[:, None])
        likelihood = token_log_probs(output.logits, ids.roll(-1, 1), mask).sum(-1) / lengths
        rows = torch.arange(len(asked), device=device)
        states = [hidden[rows, :, place].flatten(1) for place in (before, before + lengths - 1)]
        found.append([part.cpu().numpy() for part in (*states, likelihood, lengths)])
    model.train(training)
    return Answered(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def elicit(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stop: Sequence[int],
    max_new_tokens: int,
    samples: int = 10,
    temperature: float = 1.0,
    careful: float = 0.1,
    vocabulary: int | None = None,
    size: int = 256,
) -> Elicited:
    """Let a model answer each prompt once with care and several times freely. Draws from torch's generator.

    Args:
        model: a causal language model of transformers.
        prompts: token ids, none of them empty.
        stop: ids that end an answer.
        max_new_tokens: at most so many.
        samples: free answers to each, at least 1.
        temperature: of the free answers, > 0; their likelihoods are those at temperature 1.
        careful: temperature of the one answer that is judged.
        vocabulary: ids from this one on are never written.
        size: prompts that are answered at once.
    """
    if samples < 1 or temperature <= 0:
        raise ValueError(f"samples must be at least 1 and temperature above 0; they are {samples} and {temperature}")

    def say(asked: Sequence[Sequence[int]], heat: float) -> list[list[int]]:
        said: list[list[int]] = []
        for start in range(0, len(asked), size):
            said += answers(
                model,
                asked[start : start + size],
                stop=stop,
                max_new_tokens=max_new_tokens,
                temperature=heat,
                vocabulary=vocabulary,
            )
        return said

    once = say(prompts, careful)
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    free = say(repeated, temperature)
    likelihoods = answered(model, repeated, free).log_likelihood.reshape(-1, samples)
    grouped = [free[start : start + samples] for start in range(0, len(free), samples)]
    shown = answered(model, prompts, once)
    width = model.get_input_embeddings().embedding_dim
    return Elicited(once, shown, grouped, likelihoods, shown.tbg.shape[1] // width)


@torch.no_grad()
def p_true(model: Any, prompts: Sequence[Sequence[int]], yes: int, no: int, *, size: int = 64) -> np.ndarray:
    """The probability [N] that the model says yes and not no, asked whether an answer is right (Kadavath et al., 2022).

    Args:
        model: a causal language model of transformers.
        prompts: token ids of question, answer, and the question whether it is right.
        yes: the token that says it is.
        no: the token that says it isn't.
        size: rows that are read at once.
    """
    found = []
    device = next(model.parameters()).device
    for start in range(0, len(prompts), size):
        ids, real = (part.to(device) for part in pad(prompts[start : start + size]))
        logits = model(input_ids=ids, attention_mask=real.long()).logits
        last = logits[torch.arange(len(ids), device=device), real.sum(1) - 1].float()
        found.append((last[:, yes] - last[:, no]).sigmoid().cpu().numpy())
    return np.concatenate(found)
