"""Codecs: every value comes back within the error that the table in `stillroom.store.codec` allows.

Run: pytest tests/store/test_codec.py
"""

import math

import numpy as np
import pytest
import torch

from stillroom.signals import TopK
from stillroom.store import Signal, keep_top_k
from stillroom.store.codec import CODECS, NATS_KEPT

TINY = 2.0**-127


def round_trip(signal, values):
    codec = CODECS[signal.codec]
    arrays = codec.encode(signal, values)
    for part, (dtype, shape) in codec.layout(signal).items():
        assert arrays[part].dtype == dtype and arrays[part].shape[1:] == shape
    assert sum(array.nbytes for array in arrays.values()) == codec.bytes_per_position(signal) * len(arrays[part])
    return codec.decode(signal, arrays)


VECTORS = {
    "random": torch.randn(50, 33, generator=torch.Generator().manual_seed(0)),
    "tiny": torch.randn(9, 33, generator=torch.Generator().manual_seed(1)) * 1e-6,
    "subnormal": torch.full((2, 33), 1e-40),
    "large": torch.randn(9, 33, generator=torch.Generator().manual_seed(2)) * 9000,
    "zero": torch.zeros(3, 33),
    "one": torch.eye(33),
    "none": torch.zeros(0, 33),
}


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("codec", ["float32", "float16", "int8"])
def test_vectors_come_back_within_the_stated_error(codec, name):
    exact = VECTORS[name]
    back = round_trip(Signal(codec=codec, shape=(33,)), exact)
    assert back.dtype == torch.float32 and back.shape == exact.shape
    x, error = exact.double(), (back.double() - exact.double()).abs()
    if codec == "float32":
        assert torch.equal(back, exact)
    elif codec == "float16":
        assert (error <= torch.where(x.abs() < 2**-14, 2.0**-25, 2**-11 * x.abs())).all()
    else:
        assert (error <= x.abs().amax(-1, keepdim=True) / 253 + TINY).all() if len(x) else True


def test_int8_scales_each_last_axis_by_itself():
    values = torch.stack([torch.full((2, 4), 1000.0), torch.full((2, 4), 0.001)])
    back = round_trip(Signal(codec="int8", shape=(None, 2, 4)), values)
    assert torch.allclose(back, values, rtol=1e-6)


def test_infinity_is_kept_where_there_is_one():
    values = torch.tensor([[0.5, -torch.inf, torch.inf]])
    for codec in ("float32", "float16"):
        assert torch.equal(round_trip(Signal(codec=codec, shape=(3,)), values), values)
    with pytest.raises(ValueError, match="int8 cannot scale"):
        round_trip(Signal(codec="int8", shape=(3,)), values)


@pytest.mark.parametrize("codec", ["float32", "float16", "int8"])
def test_nan_is_refused(codec):
    with pytest.raises(ValueError, match="NaN"):
        round_trip(Signal(codec=codec, shape=(2,)), torch.tensor([[1.0, torch.nan]]))


def test_what_half_precision_can_not_hold_is_refused():
    with pytest.raises(ValueError, match="70000, beyond float16; use the codec float32"):
        round_trip(Signal(codec="float16", shape=(2,)), torch.tensor([[1.0, -70000.0]]))


# Distributions.

V = 64
LOGITS = {
    "random": torch.randn(40, V, generator=torch.Generator().manual_seed(3)) * 3,
    "flat": torch.zeros(3, V),
    "one-hot": torch.eye(V)[:5] * 1e5,
    "one-hot, exactly": torch.where(torch.eye(V)[:5] > 0, 0.0, -torch.inf),
    "ties": torch.tensor([[1.0] * 5 + [0.5] * (V - 5)]),
    "masked": torch.where(torch.arange(V) < 10, torch.arange(V) * 0.3, torch.finfo(torch.float32).min).unsqueeze(0),
    "forbidden": torch.where(torch.arange(V) % 2 == 0, torch.arange(V) * -0.7, -torch.inf).unsqueeze(0),
    "steep": torch.arange(V).float().unsqueeze(0) * -3.0,
}


def oracle_top_k(logits, k):
    """By sorting, in exact-enough sums of Python floats: log-probs of the k best, and the mass of the rest."""
    kept, tails = [], []
    for row in logits.tolist():
        top = max(row)
        total = math.fsum(math.exp(x - top) for x in row)
        order = sorted(row, reverse=True)
        kept.append([x - top - math.log(total) for x in order[:k]])
        tails.append(math.fsum(math.exp(x - top) for x in order[k:]) / total)
    return torch.tensor(kept, dtype=torch.float64), torch.tensor(tails, dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 8, V])
@pytest.mark.parametrize("name", LOGITS)
def test_keep_top_k_is_what_the_definition_says(name, k):
    logits = LOGITS[name]
    kept, tail = oracle_top_k(logits, k)
    topk = keep_top_k(logits, k)
    finite = torch.isfinite(kept)
    assert torch.equal(torch.isfinite(topk.log_probs), finite)
    assert torch.allclose(topk.log_probs.double()[finite], kept[finite], rtol=1e-6, atol=2e-6)
    assert torch.allclose(topk.tail.double(), tail, rtol=1e-4, atol=1e-30)
    own = logits.gather(-1, topk.ids) - logits.logsumexp(-1, keepdim=True)
    assert torch.allclose(own, topk.log_probs, atol=1e-5)
    assert all(len(set(row)) == k for row in topk.ids.tolist())
    if k == V:
        assert (topk.tail == 0).all()


def test_a_tail_below_the_precision_of_one_is_kept():
    tail = keep_top_k(torch.tensor([[0.0, -40.0]]), 1).tail
    assert tail.item() == pytest.approx(math.exp(-40), rel=1e-5)


def test_keep_top_k_says_when_k_is_out_of_range():
    for k in (0, V + 1):
        with pytest.raises(ValueError, match="between 1 and the vocabulary's 64"):
            keep_top_k(LOGITS["flat"], k)


def allowed_error(codec, log_probs):
    """As the table states it, a value at a time."""
    exact = log_probs.double()
    if codec == "topk16":
        return torch.where(exact.abs() < 2**-14, 2.0**-25, 2**-11 * exact.abs())
    top = exact.amax(-1, keepdim=True)
    lowest = torch.where(torch.isfinite(exact), exact, top).amin(-1, keepdim=True)
    return (top - lowest).clamp(max=NATS_KEPT) / 508 + 2**-22 * exact.abs()


@pytest.mark.parametrize("k", [1, 8, V])
@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("codec", ["topk16", "topk8"])
def test_distributions_come_back_within_the_stated_error(codec, name, k):
    topk = keep_top_k(LOGITS[name], k)
    back = round_trip(Signal(codec=codec, shape=(None,), k=k, vocabulary=V), topk)
    assert torch.equal(back.ids, topk.ids) and back.ids.dtype == torch.int64
    assert torch.equal(back.tail, topk.tail)
    exact = topk.log_probs.double()
    assert torch.equal(torch.isneginf(back.log_probs), torch.isneginf(topk.log_probs))
    lowest = -65504.0 if codec == "topk16" else exact.amax(-1, keepdim=True) - NATS_KEPT
    expected = torch.maximum(exact, torch.as_tensor(lowest, dtype=torch.float64))
    finite = torch.isfinite(exact)
    error = (back.log_probs.double() - expected).abs()
    assert (error <= allowed_error(codec, topk.log_probs))[finite].all()
    assert (back.log_probs <= 0).all()


def test_ids_are_as_narrow_as_the_vocabulary_allows():
    for vocabulary, size in ((65536, 2), (65537, 4)):
        signal = Signal(codec="topk8", shape=(None,), k=1, vocabulary=vocabulary)
        assert CODECS["topk8"].layout(signal)["ids"][0].itemsize == size
        topk = TopK(torch.tensor([[vocabulary - 1]]), torch.zeros(1, 1), torch.zeros(1))
        assert round_trip(signal, topk).ids.item() == vocabulary - 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ids": torch.tensor([[0, V]])}, r"ids must lie in \[0, 64\)"),
        ({"ids": torch.tensor([[-1, 0]])}, r"ids must lie in \[0, 64\)"),
        ({"log_probs": torch.tensor([[0.1, -3.0]])}, "must not exceed 0"),
        ({"log_probs": torch.tensor([[torch.nan, -3.0]])}, "NaN"),
        ({"tail": torch.tensor([1.5])}, r"tail must lie in \[0, 1\]"),
        ({"tail": torch.tensor([torch.nan])}, "NaN"),
        ({"tail": torch.zeros(1, 1)}, "tail has shape"),
        ({"ids": torch.tensor([[0, 1, 2]])}, "must have 2 ids and log-probs each"),
    ],
)
def test_what_is_no_distribution_is_refused(change, said):
    good = TopK(torch.tensor([[0, 1]]), torch.tensor([[-0.5, -1.5]]), torch.tensor([0.2]))
    signal = Signal(codec="topk8", shape=(None,), k=2, vocabulary=V)
    round_trip(signal, good)
    with pytest.raises(ValueError, match=said):
        round_trip(signal, good._replace(**change))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"codec": "zip", "shape": (3,)}, "there is no codec 'zip'; use one of float32"),
        ({"codec": "float16", "shape": (3, None)}, "only the first length"),
        ({"codec": "float16", "shape": (3,), "k": 3}, "takes neither k nor vocabulary"),
        ({"codec": "int8", "shape": (None,)}, "scales along a last axis"),
        ({"codec": "utf8", "shape": (3,)}, "text has the shape"),
        ({"codec": "topk8", "shape": (None,), "k": 3}, "needs k and vocabulary"),
        ({"codec": "topk8", "shape": (None,), "k": 3, "vocabulary": 2}, "more than the vocabulary's 2"),
        ({"codec": "topk8", "shape": (None, 4), "k": 3, "vocabulary": 9}, r"has the shape \(None,\) or \(\)"),
    ],
)
def test_a_signal_that_its_codec_can_not_keep_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        Signal(**fields)


def test_a_position_that_gives_all_kept_ids_no_chance_is_refused():
    topk = TopK(torch.tensor([[0]]), torch.tensor([[-torch.inf]]), torch.ones(1))
    with pytest.raises(ValueError, match="the probability 0"):
        round_trip(Signal(codec="topk8", shape=(None,), k=1, vocabulary=V), topk)
    assert np.isneginf(round_trip(Signal(codec="topk16", shape=(None,), k=1, vocabulary=V), topk).log_probs.item())
