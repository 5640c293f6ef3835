"""A small language model of 32,000 tokens, trained on `pydocs` the first time it is asked for, and what it says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.files import load

VOCABULARY, WINDOW = 32_000, 256
SHAPE = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
STEPS, BATCH, RATE = 1500, 8, 3e-3
WHOLE = 100  # steps at the end that see the whole vocabulary
OTHERS = 2048  # wrong answers that the steps before see, besides each other's right ones


def folder() -> str:
    """Where it lies: a Llama of two layers, 192 wide, after one pass over the docstrings (minutes on two cores)."""
    decided = fingerprint(VOCABULARY, WINDOW, SHAPE, STEPS, BATCH, RATE, WHOLE, OTHERS)
    return str(build_once("perf/pydocs-model", decided, _train))


def windows(tokenizer: object, split: str, limit: int | None = None) -> Tensor:
    """The docstrings of a split one after another, cut into windows: [N, WINDOW] ids."""
    texts = load("pydocs", view="docstrings", split=split)["text"][:limit]
    end = tokenizer.eos_token_id
    ids = [number for text in tokenizer(list(texts))["input_ids"] for number in [*text, end]]
    return torch.tensor(ids[: len(ids) // WINDOW * WINDOW]).view(-1, WINDOW)


def log_probs(model: torch.nn.Module, ids: Tensor) -> Iterator[Tensor]:
    """The next-token distributions of each window, [WINDOW, V]."""
    for window in ids:
        with torch.no_grad():
            yield model(input_ids=window[None]).logits[0].float().log_softmax(-1)


def _train(path: Path) -> None:
    """Sampled softmax (Bengio and Senecal, 2008), which sees some thousand ids a step, then the whole one."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from stillroom.students.open import train_tokenizer

    torch.manual_seed(0)
    tokenizer = train_tokenizer(load("pydocs", view="docstrings", split="train")["text"], VOCABULARY)
    ids = windows(tokenizer, "train")
    room = {"max_position_embeddings": WINDOW, "tie_word_embeddings": True}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SHAPE, **room))
    seen = torch.bincount(ids.flatten(), minlength=len(tokenizer)).float()
    often = 0.5 * seen / seen.sum() + 0.5 / len(tokenizer)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
    order = torch.randperm(len(ids))
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min((step + 1) / 50, 0.5 + 0.5 * math.cos(math.pi * step / STEPS) + 0.02)
        batch = ids[order[torch.arange(step * BATCH, (step + 1) * BATCH) % len(ids)]]
        right = batch[:, 1:].flatten()
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.model(input_ids=batch[:, :-1]).last_hidden_state.flatten(0, 1)
            if step >= STEPS - WHOLE:
                loss = cross_entropy(model.lm_head(hidden).float(), right)
            else:
                drawn = torch.multinomial(often, OTHERS, replacement=True)
                some, places = torch.cat([right, drawn]).unique(return_inverse=True)
                # How likely an id was to be among them; without it, the model would think frequent ids rarer than so.
                chance = -torch.expm1(
                    OTHERS * torch.log1p(-often[some]) + len(right) * torch.log1p(-seen[some] / seen.sum())
                )
                scores = (hidden @ model.lm_head.weight[some].T).float() - chance.log()
                loss = cross_entropy(scores, places[: len(right)])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 100 == 0:
            print(step, round(loss.item(), 3), flush=True)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
