"""Rows of every kind, made from a seed, and the header of a store that keeps them."""

import pytest
import torch

from stillroom.store import Header, Signal, keep_top_k

V = 50


@pytest.fixture
def header():
    return make_header()


def make_header(**changes):
    signals = {
        "embedding": Signal(codec="float16", shape=(8,)),
        "hidden:2": Signal(codec="int8", shape=(None, 4)),
        "scores": Signal(codec="float32", shape=(None,)),
        "text": Signal(codec="utf8", shape=(None,)),
        "topk": Signal(codec="topk8", shape=(None,), k=5, vocabulary=V),
    }
    fields = {
        "teacher": "big",
        "revision": "r1",
        "tokenizer": "t1",
        "template": "c1",
        "data": "d1",
        "shard_bytes": 3000,
    }
    return Header(signals=signals, **(fields | changes))


def make_rows(first, stop):
    """Ids and signals of the rows first to stop - 1; each row is a function of its number alone."""
    ids, rows = [], []
    for number in range(first, stop):
        draw = torch.Generator().manual_seed(number)
        length = number % 6
        ids.append(f"row {number} é")
        rows.append(
            {
                "embedding": torch.randn(8, generator=draw),
                "hidden:2": torch.randn(length, 4, generator=draw),
                "scores": torch.randn(1 + number % 3, generator=draw),
                "text": "wörd " * length,
                "topk": keep_top_k(torch.randn(length, V, generator=draw), 5),
            }
        )
    signals = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    if rows:
        signals["embedding"] = torch.stack(signals["embedding"])
    return ids, signals


def content(folder):
    """Every file of a store, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
