"""What is kept of a distribution: its likeliest ids, as many as hold a share of its mass, or ids drawn from it.

Shapes: ``L`` tokens, ``K`` kept ids, ``V`` vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
import xxhash
from torch import Tensor
from torch.nn.functional import pad

from stillroom.signals import Drawn, TopK


@torch.no_grad()
def keep_top_k(logits: Tensor, k: int) -> TopK:
    """The ``k`` most likely ids of each position, their log-probs in the whole distribution, and the mass of the rest.

    The tail is summed over the ids that were left out, not taken as 1 minus what was kept: that difference would
    lose every tail below 1e-7. Which of several equally likely ids is kept at the border is not defined.

    Args:
        logits: [..., V]; -inf forbids an id. Computed in float32.
        k: 1 to V.

    Returns:
        ids [..., k] from the most likely down, log_probs [..., k], tail [...] in [0, 1].

    Raises:
        ValueError: k is out of range.
    """
    if not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"k is {k}; it must lie between 1 and the vocabulary's {logits.shape[-1]} ids")
    logits = logits.float()
    kept, ids = logits.topk(k)
    top = kept[..., :1]
    rest = (logits - top).exp_().scatter_(-1, ids, 0.0).sum(-1)
    total = rest + (kept - top).exp().sum(-1)
    return TopK(ids, (kept - top - total.log().unsqueeze(-1)).clamp(max=0.0), rest / total)


def cut_to_nucleus(topk: TopK, mass: float) -> TopK:
    """Keep at each position the fewest ids, likeliest first, whose probabilities sum to a mass (Holtzman et al., 2020).

    Where all that were kept sum to less, all stay.

    Args:
        topk: ids from the most likely down, as `keep_top_k` gives them.
        mass: in (0, 1).

    Returns:
        The same shapes. A place that was given up has the log-prob -inf, and its mass is the tail's.

    Raises:
        ValueError: ``mass`` is out of range.
    """
    if not 0 < mass < 1:
        raise ValueError(f"a nucleus holds a mass between 0 and 1, not {mass}")
    probs = topk.log_probs.exp()
    return _without(topk, probs.double().cumsum(-1) - probs >= mass)


def cut_below(topk: TopK, least: float) -> TopK:
    """Keep at each position the likeliest id, and of the others those at least so probable (Hewitt et al., 2022).

    Measured on a small language model, it leaves less divergence than a nucleus or a fixed k of as many ids in all.

    Args:
        topk: ids from the most likely down, as `keep_top_k` gives them.
        least: in (0, 1).

    Returns:
        The same shapes. A place that was given up has the log-prob -inf, and its mass is the tail's.

    Raises:
        ValueError: ``least`` is out of range.
    """
    if not 0 < least < 1:
        raise ValueError(f"a probability to cut at lies between 0 and 1, not {least}")
    given_up = topk.log_probs.exp() < least
    given_up[..., 0] = False
    return _without(topk, given_up)


def _without(topk: TopK, given_up: Tensor) -> TopK:
    mass = topk.log_probs.exp().masked_fill(~given_up, 0.0).sum(-1)
    return TopK(topk.ids, topk.log_probs.masked_fill(given_up, -torch.inf), (topk.tail + mass).clamp(max=1.0))


@torch.no_grad()
def draw(logits: Tensor, draws: int, name: str) -> Drawn:
    """Draw ids from each distribution, so that the expectation of an id's weight is its probability.

    This is the random sampling of Anshumann et al., 2025 ("Sparse Logit Sampling"), which draws with
    replacement and keeps how often each id came. Here the draws of a token are spread evenly over its cumulative
    distribution: they are the ids at (u + i) / draws for i = 0 .. draws - 1, with one uniform u (systematic sampling,
    Madow, 1949). An id of probability p then comes floor(draws p) or ceil(draws p) times, draws p on average: as
    unbiased, with less spread.

    Args:
        logits: [L, V], the tokens of one row; -inf forbids an id. Computed in float32, summed in float64.
        draws: at least 1.
        name: of the row; it decides u, so that a row is drawn alike whenever it is labelled.

    Returns:
        ids [L, K] and weights [L, K], multiples of 1 / draws that sum to 1; K is the most different ids that a token
        drew, at least 1, and a place of weight 0 is empty.

    Raises:
        ValueError: draws is below 1.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}; it must be at least 1")
    uniform = np.random.Generator(np.random.Philox(key=xxhash.xxh3_64_intdigest(name.encode()))).random(len(logits))
    starts = torch.from_numpy(uniform).to(logits.device)
    # Some tokens at a time, as float64 over the vocabulary is large.
    if not len(logits):
        return Drawn(torch.zeros(0, 1, dtype=torch.long), torch.zeros(0, 1))
    drawn = [_times(*part, draws) for part in zip(logits.split(256), starts.split(256), strict=True)]
    width = max(times.shape[-1] for times, _ in drawn)
    times, ids = (torch.cat([pad(part[of], (0, width - part[of].shape[-1])) for part in drawn]) for of in (0, 1))
    return Drawn(ids.masked_fill(times == 0, 0), (times / draws).float())


def _times(logits: Tensor, starts: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """How often each id is drawn, the most frequent first, and the ids."""
    cumulative = logits.float().softmax(-1).double().cumsum(-1)
    cumulative /= cumulative[:, -1:].clone()
    # How many of the places (start + i) / draws lie below each id's end. The last end is past them all.
    below = (cumulative * draws - starts.unsqueeze(-1)).ceil().clamp(0, draws)
    below[:, -1] = draws
    times = below.diff(dim=-1, prepend=below.new_zeros(len(below), 1))
    return times.topk(int((times > 0).sum(-1).max()), -1)
