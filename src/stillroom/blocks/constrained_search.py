"""Beam search over what an automaton allows, with the model's own probabilities, for many prompts at once.

A model is asked through a `Reader`: a decoder after prompts, or an encoder-decoder after sources; both keep their
key-value cache and share it among the beams.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from stillroom.blocks.constraints import Automaton, choices
from stillroom.views.base import pad


class Hypothesis(NamedTuple):
    """A whole sequence without its stop token, its summed log-probability (the stop's included), and its cost."""

    tokens: tuple[int, ...]
    log_prob: float
    cost: float


class _Node(NamedTuple):
    tokens: tuple[int, ...]
    log_prob: float
    state: Any


class Reader(Protocol):
    """Gives next-token log-probabilities; the rows of one call are the parents of the next."""

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Of the first token after each prompt [P, V]."""
        ...

    def extend(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Of the token after those rows [N] of the last call, each with one more token [N]: [N, V]."""
        ...


class DecoderReader:
    """A decoder-only model after prompts.

    Args:
        model: a causal language model of transformers, in eval mode.
        vocabulary: ids that mean something; those from here on get no probability.
    """

    def __init__(self, model: Any, vocabulary: int | None = None) -> None:
        self.model, self.vocabulary = model, vocabulary

    @torch.no_grad()
    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the prompts, padded on the left."""
        device = next(self.model.parameters()).device
        backwards, real = pad([list(reversed(prompt)) for prompt in prompts])
        self.real = real.flip(1).to(device)
        places = (self.real.long().cumsum(-1) - 1).clamp(min=0)
        out = self.model(
            input_ids=backwards.flip(1).to(device),
            attention_mask=self.real.long(),
            position_ids=places,
            use_cache=True,
        )
        self.cache: Any = out.past_key_values
        return out.logits[:, -1, : self.vocabulary].float().log_softmax(-1)

    @torch.no_grad()
    def extend(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Read one token more."""
        parents = parents.to(self.real.device)
        self.cache.reorder_cache(parents)
        self.real = torch.nn.functional.pad(self.real[parents], (0, 1), value=True)
        out = self.model(
            input_ids=tokens.unsqueeze(1).to(parents.device),
            attention_mask=self.real.long(),
            position_ids=self.real.long().sum(-1, keepdim=True) - 1,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache = out.past_key_values
        return out.logits[:, -1, : self.vocabulary].float().log_softmax(-1)


class EncoderDecoderReader:
    """An encoder-decoder model after sources.

    Args:
        model: a sequence-to-sequence model of transformers, in eval mode.
        vocabulary: ids that mean something.
    """

    def __init__(self, model: Any, vocabulary: int | None = None) -> None:
        self.model, self.vocabulary = model, vocabulary

    @torch.no_grad()
    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Encode the sources, and read the token that every answer begins with."""
        device = next(self.model.parameters()).device
        ids, real = pad(prompts)
        self.real = real.to(device)
        encoder = self.model.get_encoder()
        self.encoded = encoder(input_ids=ids.to(device), attention_mask=self.real.long()).last_hidden_state
        self.cache: Any = None
        first = torch.full((len(prompts),), self.model.config.decoder_start_token_id, device=device)
        return self._read(first)

    @torch.no_grad()
    def extend(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Read one token more."""
        parents = parents.to(self.real.device)
        self.cache.reorder_cache(parents)
        self.real, self.encoded = self.real[parents], self.encoded[parents]
        return self._read(tokens.to(parents.device))

    def _read(self, tokens: Tensor) -> Tensor:
        from transformers.modeling_outputs import BaseModelOutput

        out = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.encoded),
            attention_mask=self.real.long(),
            decoder_input_ids=tokens.unsqueeze(1),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache = out.past_key_values
        return out.logits[:, -1, : self.vocabulary].float().log_softmax(-1)


def length_cost(log_prob: float, length: int, exponent: float = 0.7) -> float:
    """-log p / ((5 + length) / 6)^exponent (Wu et al. 2016, equation 14), lower is better."""
    return -log_prob / ((5 + length) / 6) ** exponent


def beam_search(
    reader: Reader,
    prompts: Sequence[Sequence[int]],
    automata: Sequence[Automaton | None],
    *,
    beam: int,
    stop: Sequence[int],
    max_new_tokens: int,
    exponent: float = 0.7,
) -> list[list[Hypothesis]]:
    """The best whole sequences of each prompt's automaton that a beam of this width finds, cheapest first.

    Probabilities are the model's, over its whole vocabulary: what is not allowed is left out, and the rest is not
    normalised anew. A sequence ends with the summed probability of all stop tokens. A sequence's length counts its
    stop. The search for a prompt ends when no unfinished node can be cheaper than ``beam`` finished ones, even if it
    went on to ``max_new_tokens`` for certain.

    Args:
        reader: asks the model.
        prompts: token ids, none of them empty.
        automata: one a prompt; None allows everything.
        beam: nodes that are kept a prompt and step, at least 1.
        stop: ids that end a sequence.
        max_new_tokens: longest sequence, its stop not counted.
        exponent: of the length penalty, at least 0; 0 leaves log-probabilities as they are.
    """
    if beam < 1 or exponent < 0 or not stop or len(automata) != len(prompts):
        raise ValueError("a search needs a beam of at least 1, a stop id, an exponent >= 0, and an automaton a prompt")
    ends = torch.tensor(list(stop))
    found: list[list[Hypothesis]] = [[] for _ in prompts]
    open_ = [[_Node((), 0.0, None if one is None else one.start())] for one in automata]
    log_probs = reader.begin(prompts).cpu()
    for _ in range(max_new_tokens + 1):
        said = log_probs.index_select(1, ends).logsumexp(1).tolist()
        parents: list[int] = []
        row = 0
        for place, nodes in enumerate(open_):
            grown: list[tuple[float, int, _Node]] = []
            for node in nodes:
                automaton = automata[place]
                if automaton is None or automaton.complete(node.state):
                    total = node.log_prob + said[row]
                    cost = length_cost(total, len(node.tokens) + 1, exponent)
                    found[place].append(Hypothesis(node.tokens, total, cost))
                if len(node.tokens) < max_new_tokens:
                    grown += [(one.log_prob, row, one) for one in _grown(node, automaton, log_probs[row], ends, beam)]
                row += 1
            found[place] = sorted(found[place], key=lambda one: (one.cost, one.tokens))[:beam]
            best = sorted(grown, key=lambda one: (-one[0], one[2].tokens))[:beam]
            if len(found[place]) == beam:
                worst = found[place][-1].cost
                best = [one for one in best if length_cost(one[0], max_new_tokens + 1, exponent) < worst]
            open_[place] = [node for _, _, node in best]
            parents += [parent for _, parent, _ in best]
        if not parents:
            break
        tokens = torch.tensor([node.tokens[-1] for nodes in open_ for node in nodes])
        log_probs = reader.extend(torch.tensor(parents), tokens).cpu()
    return found


def _grown(node: _Node, automaton: Automaton | None, log_probs: Tensor, ends: Tensor, beam: int) -> list[_Node]:
    """The node's likeliest continuations, ``beam`` at most."""
    if automaton is None:
        free = log_probs.index_fill(0, ends, -math.inf)
        values, ids = free.topk(min(beam, len(free) - len(ends)))
        return [_Node((*node.tokens, int(i)), node.log_prob + float(v), None) for v, i in zip(values, ids, strict=True)]
    after = choices(automaton, node.state)
    if not after:
        return []
    allowed = torch.tensor(list(after))
    values, places = log_probs[allowed].topk(min(beam, len(allowed)))
    chosen = zip(values.tolist(), allowed[places].tolist(), strict=True)
    return [_Node((*node.tokens, token), node.log_prob + value, after[token]) for value, token in chosen]
