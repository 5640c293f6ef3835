"""Packed distributions and drawn ids: bits by hand, sets by a plain oracle, the stated bounds, draws without bias.

Run: pytest tests/store/test_packed.py
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.conftest import content
from tests.store.test_codec import LOGITS, V

from stillroom.objectives import cross_entropy_drawn, divergence_loss
from stillroom.signals import Batch, Drawn, Signals, TopK
from stillroom.store import Header, Signal, Store, cut_below, cut_to_nucleus, draw, keep_top_k, merge
from stillroom.store.bits import pack, pack_unary, running, totals, unpack, unpack_unary, within
from stillroom.store.codec import CODECS
from stillroom.store.packed import NATS_KEPT
from stillroom.store.sets import Layout, Sets, join, read_rows, tokens_of, write_row

# Bits.


def test_bits_by_hand():
    # 5 in 3 bits, 1 in 2, 9 in 4, lowest first: 101 | 10 | 1001 -> 10110100 1 -> bytes 0b00101101, 0b1.
    assert pack(np.array([5, 1, 9]), np.array([3, 2, 4])).tolist() == [0b00101101, 0b1]
    # 2, 0, 1 -> 001 1 01 -> 0b101100.
    assert pack_unary(np.array([2, 0, 1])).tolist() == [0b101100]
    assert within(np.array([2, 0, 3])).tolist() == [0, 1, 0, 1, 2]
    assert running(np.array([1, 2, 3, 4]), np.array([1, 0, 3])).tolist() == [1, 2, 5, 9]
    assert totals(np.array([1, 2, 3, 4]), np.array([1, 0, 3])).tolist() == [1, 0, 9]


@given(st.lists(st.tuples(st.integers(0, 2**40 - 1), st.integers(0, 56)), max_size=40))
def test_fields_are_those_of_one_long_number(fields):
    values = np.array([value & ((1 << width) - 1) for value, width in fields], dtype=np.int64)
    widths = np.array([width for _, width in fields], dtype=np.int64)
    number, starts = 0, []
    for value in values.tolist():
        starts.append(sum(widths[: len(starts)].tolist()))
        number |= value << starts[-1]
    packed = pack(values, widths)
    assert packed.tobytes() == number.to_bytes((int(widths.sum()) + 7) // 8, "little")
    assert unpack(packed, np.array(starts, dtype=np.int64), widths).tolist() == values.tolist()


@given(st.lists(st.lists(st.integers(0, 30), max_size=9), max_size=6))
def test_streams_of_unary_codes_are_told_apart(streams):
    packed = [pack_unary(np.array(stream, dtype=np.int64)) for stream in streams]
    sizes = np.array([len(stream) for stream in packed], dtype=np.int64)
    values, counts = unpack_unary(np.concatenate([np.zeros(0, np.uint8), *packed]), sizes)
    assert counts.tolist() == [len(stream) for stream in streams]
    assert values.tolist() == [value for stream in streams for value in stream]


# Sets.

ROW = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 12), st.sampled_from(["wide", "narrow"]))


def make_sets(layout, seed, tokens, most, spread):
    """A row whose tokens keep ids at random from all or from few, so that columns are worth it or not; and as lists."""
    draws = np.random.default_rng(seed)
    pool = layout.vocabulary if spread == "wide" else min(layout.vocabulary, most + 2)
    sizes = draws.integers(0, min(most, layout.most, pool) + 1, tokens)
    ids = [np.sort(draws.choice(pool, size, replace=False)) for size in sizes]
    numbers = draws.integers(0, draws.choice([2, 300]), sizes.sum())
    extras = draws.integers(0, 1 << layout.extra, tokens)
    flat = np.concatenate([np.zeros(0, dtype=np.int64), *ids]).astype(np.int64)
    return Sets(np.array([tokens]), sizes.astype(np.int64), extras.astype(np.int64), flat, numbers.astype(np.int64))


@settings(deadline=None, max_examples=60)
@given(st.lists(ROW, max_size=4), st.sampled_from([1, 2, 50, 32_000, 151_936]), st.integers(0, 3))
def test_sets_come_back_together_and_alone(rows, vocabulary, order):
    layout = Layout(vocabulary, most=12, extra=10 if order else 0, order=order)
    made = [make_sets(layout, *row) for row in rows]
    written = [write_row(layout, sets) for sets in made]
    packed, sizes = join(written)
    together = read_rows(layout, packed, sizes)
    for part, parts in zip(together, zip(*made, strict=True), strict=True) if made else ():
        assert part.tolist() == np.concatenate(parts).tolist()
    for sets, row in zip(made, written, strict=True):
        alone = read_rows(layout, *join([row]))
        assert [part.tolist() for part in alone] == [part.tolist() for part in sets]
    assert tokens_of(packed, sizes) == sum(len(sets.counts) for sets in made)


def test_an_id_that_all_tokens_keep_costs_them_nothing():
    layout = Layout(32_000, most=1, extra=0, order=0)

    def size(tokens):
        ones = np.ones(tokens, dtype=np.int64)
        return len(write_row(layout, Sets(np.array([tokens]), ones, ones * 0, ones * 31_000, ones * 0)))

    # What is left is a bit a token for how many other ids there are and one for its number; a few bytes tell sizes.
    assert 0 <= size(4000) - size(800) - (3200 + 3200) / 8 <= 4


# The bound.


def rows_of_one(topk):
    return [TopK(*(part[place : place + 1] for part in topk)) for place in range(len(topk.tail))]


def as_maps(topk):
    """Each position as id -> log-prob."""
    return [
        {i: x for i, x in zip(ids, values, strict=True) if x > -math.inf}
        for ids, values in zip(topk.ids.tolist(), topk.log_probs.double().tolist(), strict=True)
    ]


BOUNDS = {"packed": 5 / 32, "packed-coarse": 17 / 32}


def assert_within_the_bound(exact, back, codec="packed"):
    for before, after in zip(as_maps(exact), as_maps(back), strict=True):
        top = max(before.values())
        kept = {i: x for i, x in before.items() if x >= top - NATS_KEPT}
        assert set(after) == set(kept)
        assert all(abs(after[i] - x) <= BOUNDS[codec] + 1e-5 for i, x in kept.items())
    sums = back.log_probs.double().exp().sum(-1) + back.tail.double()
    assert torch.allclose(sums, torch.ones_like(sums), atol=2e-6)
    tail, now = exact.tail.double(), back.tail.double()
    assert torch.equal(now == 0, tail == 0)
    inside = (tail > 1.4e-14) & (tail < 1 - 1e-6)
    assert ((now.log() - tail.log()).abs() <= 1 / 32 + 1e-5)[inside].all()
    assert (now[tail <= 1.4e-14] <= 1.5e-14).all()


@pytest.mark.parametrize("k", [1, 8, V])
@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("kept", BOUNDS)
def test_distributions_come_back_within_the_stated_bound(kept, name, k):
    exact = keep_top_k(LOGITS[name], k)
    signal = Signal(codec=kept, shape=(None,), k=k, vocabulary=V)
    codec = CODECS[kept]
    for rows in ([exact], rows_of_one(exact)):
        back = codec.decode(signal, *codec.encode(signal, rows))
        whole = TopK(*(torch.cat(parts) for parts in zip(*back, strict=True)))
        assert whole.ids.shape[-1] == k and whole.ids.dtype == torch.int64
        assert_within_the_bound(exact, whole, kept)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 60), st.integers(1, 40), st.booleans(), st.floats(0.05, 0.999))
def test_any_distribution_comes_back_within_the_stated_bound(seed, scale, k, forbid, mass):
    numbers = torch.Generator().manual_seed(seed)
    logits = torch.randn(7, 40, generator=numbers) * scale
    if forbid:
        logits = logits.masked_fill(torch.rand(7, 40, generator=numbers) < 0.5, -torch.inf)
        logits[:, 3] = 0.0
    for kept, codec in ((name, CODECS[name]) for name in BOUNDS):
        for nucleus in (None, mass):
            exact = keep_top_k(logits, k) if nucleus is None else cut_to_nucleus(keep_top_k(logits, k), nucleus)
            signal = Signal(codec=kept, shape=(None,), k=k, vocabulary=40, nucleus=nucleus)
            (back,) = codec.decode(signal, *codec.encode(signal, [exact]))
            assert_within_the_bound(exact, back, kept)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ids": torch.tensor([[0, V]])}, r"ids must lie in \[0, 64\)"),
        ({"ids": torch.tensor([[1, 1]])}, "keeps an id twice"),
        ({"ids": torch.tensor([[0, 1, 2]])}, "must have 3 ids and log-probs each"),
        ({"log_probs": torch.tensor([[torch.nan, -3.0]])}, "NaN"),
        ({"log_probs": torch.full((1, 2), -torch.inf)}, "the probability 0"),
        ({"tail": torch.tensor([0.9])}, r"sum to 1\.4, not 1; use the codec topk8"),
    ],
)
def test_what_is_no_distribution_is_refused(change, said):
    good = TopK(torch.tensor([[0, 1]]), torch.tensor([[0.25, 0.25]]).log(), torch.tensor([0.5]))
    signal = Signal(codec="packed", shape=(None,), k=2, vocabulary=V)
    CODECS["packed"].encode(signal, [good])
    with pytest.raises(ValueError, match=said):
        CODECS["packed"].encode(signal, [good._replace(**change)])
    with pytest.raises(ValueError, match="has 2 ids, more than k = 1"):
        CODECS["packed"].encode(signal.model_copy(update={"k": 1}), [good])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"codec": "packed", "shape": ()}, "keeps the tokens of a row together; use topk8"),
        ({"codec": "drawn", "shape": ()}, "keeps the tokens of a row together; use topk8"),
        ({"codec": "topk16", "shape": (None,), "nucleus": 0.9}, "to cut them, use the codec packed"),
        ({"codec": "packed", "shape": (None,), "nucleus": 1.0}, "less than 1"),
    ],
)
def test_a_signal_that_its_codec_can_not_keep_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        Signal(**fields, k=3, vocabulary=9)


def test_a_nucleus_by_hand():
    topk = keep_top_k(torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.97, 0.01, 0.01, 0.01]]).log(), 3)
    cut = cut_to_nucleus(topk, 0.75)
    assert (cut.log_probs > -torch.inf).tolist() == [[True, True, False], [True, False, False]]
    assert torch.allclose(cut.tail, torch.tensor([0.2, 0.03]), atol=1e-6)
    assert torch.equal(cut.ids, topk.ids)
    every = cut_to_nucleus(topk, 0.99)  # three ids of the first hold 0.95, less than that
    assert (every.log_probs > -torch.inf).tolist() == [[True] * 3, [True] * 3]
    with pytest.raises(ValueError, match="between 0 and 1, not 1"):
        cut_to_nucleus(topk, 1.0)


def test_a_cutoff_by_hand():
    topk = keep_top_k(torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.28, 0.24, 0.24, 0.24]]).log(), 4)
    cut = cut_below(topk, 0.2)
    assert (cut.log_probs > -torch.inf).tolist() == [[True, True, False, False], [True] * 4]
    assert torch.allclose(cut.tail, torch.tensor([0.2, 0.0]), atol=1e-6)
    assert (cut_below(topk, 0.9).log_probs > -torch.inf).tolist() == [[True, False, False, False]] * 2
    with pytest.raises(ValueError, match="between 0 and 1, not 0"):
        cut_below(topk, 0)


# Draws.

P = torch.tensor([0.42, 0.3, 0.2, 0.06, 0.02, 0.0])


def shares(draws, names):
    """The weights of all ids [names, V] in one draw for each name."""
    told = torch.zeros(len(names), len(P), dtype=torch.float64)
    for place, name in enumerate(names):
        drawn = draw(P.log().unsqueeze(0), draws, name)
        told[place].scatter_add_(0, drawn.ids[0], drawn.weights[0].double())
    return told


def test_an_id_comes_as_often_as_its_probability_says_and_so_on_average():
    told = shares(8, [f"row {number}" for number in range(4000)])
    assert torch.allclose(told.sum(-1), torch.ones(4000, dtype=torch.float64))
    exact = P.double() * 8
    times = told * 8
    # A count that is floor(8 p) or one more, with the mean 8 p, has the variance f (1 - f), f the part behind the dot.
    assert ((times >= exact.floor() - 1e-6) & (times <= (exact + 1e-6).ceil() + 1e-6)).all()
    part = exact - exact.floor()
    error = (part * (1 - part) / 4000).sqrt()
    assert ((times.mean(0) - exact).abs() <= 4 * error + 1e-6).all()
    assert (told[:, 5] == 0).all()


def test_loss_and_gradient_from_draws_are_those_of_the_distribution_on_average():
    student = torch.tensor([[[0.3, -0.2, 0.9, 0.1, -1.0, 0.4]]], dtype=torch.float64, requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)
    values, gradients = [], []
    for number in range(3000):
        drawn = draw(P.log().unsqueeze(0), 2, f"row {number}")
        loss = cross_entropy_drawn(student, Drawn(*(part.unsqueeze(0) for part in drawn)), mask)
        (gradient,) = torch.autograd.grad(loss.sum, student)
        values.append(loss.sum.item())
        gradients.append(gradient.flatten())
    # The full value by its definition; the gradient of forward KL on all logits.
    full = -sum(p * q for p, q in zip(P.tolist(), student.detach().log_softmax(-1).flatten().tolist(), strict=True))
    teacher = P.double().log().view(1, 1, -1).clamp(min=-1e30)
    (wanted,) = torch.autograd.grad(divergence_loss(student, teacher, mask).sum, student)
    values, gradients = torch.tensor(values), torch.stack(gradients)
    assert values.std() > 0.01  # a draw by itself is not the full value
    assert abs(values.mean() - full) <= 4 * values.std() / math.sqrt(3000)
    error = gradients.std(0) / math.sqrt(3000)
    assert ((gradients.mean(0) - wanted.flatten()).abs() <= 4 * error + 1e-12).all()


def test_a_row_is_drawn_alike_whenever_it_is_labelled():
    logits = torch.randn(300, 20, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(draw(logits, 9, "a"), draw(logits, 9, "a"), strict=True))
    assert not torch.equal(draw(logits, 9, "a").weights, draw(logits, 9, "b").weights)
    assert draw(logits[:0], 9, "a").ids.shape == (0, 1)
    with pytest.raises(ValueError, match="at least 1"):
        draw(logits, 0, "a")


def test_empty_slots_of_draws_add_nothing_whatever_they_hold():
    student = torch.tensor([[[0.0, -torch.inf, 1.0]]])
    drawn = Drawn(torch.tensor([[[2, 1]]]), torch.tensor([[[1.0, 0.0]]]))
    loss = cross_entropy_drawn(student, drawn, torch.ones(1, 1, dtype=torch.bool))
    assert loss.sum.item() == pytest.approx(math.log(1 + math.exp(-1.0)))
    with pytest.raises(ValueError, match="kept id 7, but the student has 3 ids"):
        cross_entropy_drawn(student, drawn._replace(ids=torch.tensor([[[7, 1]]])), torch.ones(1, 1, dtype=torch.bool))


def test_draws_come_back_exactly_and_others_are_refused():
    signal = Signal(codec="drawn", shape=(None,), k=9, vocabulary=20)
    exact = draw(torch.randn(30, 20, generator=torch.Generator().manual_seed(0)) * 3, 9, "a")
    codec = CODECS["drawn"]
    (back,) = codec.decode(signal, *codec.encode(signal, [exact]))
    dense = [torch.zeros(30, 20).scatter_add(1, drawn.ids, drawn.weights) for drawn in (exact, back)]
    assert torch.equal(*dense)
    for weights in (exact.weights * 0.5, exact.weights + 0.01):
        with pytest.raises(ValueError, match="shares of 9 draws that sum to 1"):
            codec.encode(signal, [exact._replace(weights=weights)])


# In a store.


def emitted(first, stop):
    """A batch of rows with logits, in the widest row's padding; each row is a function of its number alone."""
    lengths = [1 + number % 7 for number in range(first, stop)]
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    logits = torch.full((*mask.shape, V), torch.nan)
    for place, number in enumerate(range(first, stop)):
        draws = torch.Generator().manual_seed(number)
        logits[place, : lengths[place]] = torch.randn(lengths[place], V, generator=draws) * 4
    ids = [f"row {number}" for number in range(first, stop)]
    return Batch(ids=ids, student={"attention_mask": mask.long()}, mask=mask), Signals(logits=logits)


HEADERS = {
    "packed": {"topk": Signal(codec="packed", shape=(None,), k=8, vocabulary=V)},
    "nucleus": {"topk": Signal(codec="packed", shape=(None,), k=20, vocabulary=V, nucleus=0.8)},
    "cutoff": {"topk": Signal(codec="packed-coarse", shape=(None,), k=20, vocabulary=V, epsilon_cutoff=0.02)},
    "drawn": {"drawn": Signal(codec="drawn", shape=(None,), k=6, vocabulary=V)},
}


@pytest.fixture(params=HEADERS)
def header(request):
    return Header(signals=HEADERS[request.param], teacher="t", temperature=2.0, shard_bytes=700)


def fill(folder, header, steps, first=0, stop=60):
    with Store.resume(folder, header) as writer:
        for start in range(first, stop, steps):
            writer.keep(*emitted(start, min(start + steps, stop)))
    return Store.open(folder)


def test_a_store_of_them_does_not_depend_on_how_it_was_written(tmp_path, header):
    store = fill(tmp_path / "a", header, 10)
    assert store.info()["files"] > 3 and store.verify() == []
    fill(tmp_path / "b", header, 7, stop=21)
    fill(tmp_path / "b", header, 13, first=21)
    assert content(tmp_path / "b") == content(tmp_path / "a")
    for part, (first, stop) in enumerate([(0, 25), (25, 60)]):
        fill(tmp_path / f"part{part}", header, 5, first, stop)
    merged = merge([tmp_path / "part0", tmp_path / "part1"], tmp_path / "merged")
    assert content(merged.folder) == content(tmp_path / "a")


def test_rows_are_read_in_any_order_as_the_teacher_gave_them(tmp_path, header):
    store = fill(tmp_path / "a", header, 10)
    batch, _ = emitted(40, 46)
    signals = store.signals(batch, ("logits",))
    for place, number in enumerate(range(40, 46)):
        _, alone = emitted(number, number + 1)
        logits = alone.logits[0] / 2.0
        if signals.drawn is not None:
            exact = draw(logits, 6, f"row {number}")
            here = Drawn(*(part[place, : len(logits)] for part in signals.drawn))
            dense = [torch.zeros(len(logits), V).scatter_add(1, part.ids, part.weights) for part in (exact, here)]
            assert torch.equal(*dense)
            continue
        signal = header.signals["topk"]
        exact = keep_top_k(logits, signal.k)
        exact = exact if signal.nucleus is None else cut_to_nucleus(exact, signal.nucleus)
        exact = exact if signal.epsilon_cutoff is None else cut_below(exact, signal.epsilon_cutoff)
        back = TopK(*(part[place, : len(logits)] for part in signals.topk))
        assert_within_the_bound(exact, back, signal.codec)


def test_what_a_token_takes_is_told(tmp_path, header):
    store = fill(tmp_path / "a", header, 10)
    (told,) = store.info()["signals"].values()
    assert told["positions"] == sum(1 + number % 7 for number in range(60))
    taken = sum(shard.array(name, "bytes").nbytes for shard in store.shards() for name in header.signals)
    assert told["bytes_per_position"] == pytest.approx(taken / told["positions"])


def test_headers_from_before_there_was_a_nucleus_keep_their_addresses():
    plain = Signal(codec="topk16", shape=(None,), k=3, vocabulary=9)
    assert plain.model_dump_json() == '{"codec":"topk16","shape":[null],"k":3,"vocabulary":9}'
    assert "nucleus" in Signal(codec="packed", shape=(None,), k=3, vocabulary=9, nucleus=0.5).model_dump()
