"""Bytes a token, and what they lose: stillroom's packed store against DistillKit's compression of the 50 likeliest ids.

DistillKit (github.com/arcee-ai/DistillKit, README, "Logit compression") is taken as it describes its smallest
configuration, "around 114 bytes per token": the 50 likeliest ids, each in ceil(log2 V) bits; one log-prob in bfloat16
and three coefficients in float32, 14 bytes. That is 100 + 14 = 114 at the 16 bits of V = 65,536, 107 + 14 = 121 at 17
bits, and at V = 32,000 the 94 + 14 = 108 that this figure takes. (Who reads the 114 as said of 17 bits is left with 7
bytes of values, too few for that configuration, and would take 101 here.) The bar is half of it.

What is lost is the mean KL(p || p') in nats, p the model's whole distribution and p' what a reader knows of it: the
kept probabilities, and the tail's mass spread evenly over all other ids. The peer is given the exact log-probs and the
exact tail of its 50 ids, which is more than its polynomial keeps. Our bytes are those of the store's files, header and
names of rows included, over the tokens in them.

The distribution is that of a small language model on held-out docstrings of `pydocs`, in windows of 256 tokens.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch
from pydocs_model import WINDOW, folder, log_probs, windows
from torch import Tensor
from versus import Bar, Figure, main

from stillroom.signals import Batch, Signals, TopK

K, VALUES = 50, 14
ROWS = 16
KEPT = {"codec": "packed-coarse", "k": 128, "epsilon_cutoff": 0.00195}


def rows() -> tuple[list[Tensor], int]:
    """The model's distributions in each window, [WINDOW, V], and V."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder()).eval()
    ids = windows(AutoTokenizer.from_pretrained(folder()), "test", 200)[:ROWS]
    found = list(log_probs(model, ids))
    return found, found[0].shape[-1]


def lost(exact: Tensor, topk: TopK) -> float:
    """The KL divergence in nats, summed over tokens, of what is kept [T, K] from the whole [T, V]."""
    exact = exact.double()
    kept = ~topk.log_probs.isneginf()
    others = exact.shape[-1] - kept.sum(-1)
    known = (topk.tail.double().clamp(min=1e-30) / others.clamp(min=1)).log().unsqueeze(-1).repeat(1, exact.shape[-1])
    token = torch.arange(len(exact)).unsqueeze(-1).expand_as(topk.ids)[kept]
    known[token, topk.ids[kept]] = topk.log_probs.double()[kept]
    return float((exact.exp() * (exact - known)).sum())


def ours() -> dict[str, float]:
    """A store that is written and read back."""
    from stillroom.store import Header, Signal, Store

    exact, vocabulary = rows()
    signal = Signal(shape=(None,), vocabulary=vocabulary, **KEPT)
    mask = torch.ones(1, WINDOW, dtype=torch.bool)
    with tempfile.TemporaryDirectory() as place:
        store = Path(place) / "store"
        with Store.create(store, Header(signals={"topk": signal}, teacher="pydocs model")) as writer:
            for number, row in enumerate(exact):
                writer.keep(Batch(ids=[f"{number}"], student={}, mask=mask), Signals(logits=row.unsqueeze(0)))
        opened = Store.open(store)
        kept = opened.gather([f"{number}" for number in range(len(exact))])["topk"]
        size = sum(path.stat().st_size for path in store.iterdir())
    tokens = WINDOW * len(exact)
    return {
        "bytes a token": size / tokens,
        "nats lost a token": sum(lost(row, topk) for row, topk in zip(exact, kept, strict=True)) / tokens,
        "ids a token": sum(int((~topk.log_probs.isneginf()).sum()) for topk in kept) / tokens,
    }


def theirs() -> dict[str, float]:
    """The formula, and the 50 likeliest ids as they are."""
    from stillroom.store import keep_top_k

    exact, vocabulary = rows()
    return {
        "bytes a token": math.ceil(K * math.ceil(math.log2(vocabulary)) / 8) + VALUES,
        "nats lost a token": sum(lost(row, keep_top_k(row, K)) for row in exact) / (WINDOW * len(exact)),
        "ids a token": K,
    }


if __name__ == "__main__":
    main(
        Figure(
            name="store_bytes",
            work="keep a language model's next-token distributions on disk",
            sides={"stillroom": ours, "DistillKit, 50 ids": theirs},
            bars=(Bar("bytes a token", 2.0), Bar("nats lost a token", 1.0)),
        )
    )
