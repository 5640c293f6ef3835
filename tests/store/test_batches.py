"""What a teacher emits on a batch is kept and given back in another batch's padding, as the teacher itself would.

Run: pytest tests/store/test_batches.py
"""

import pytest
import torch

from stillroom.errors import UserError
from stillroom.signals import Batch, Signals
from stillroom.store import Header, Signal, Store, keep_top_k

V, H, K = 11, 6, 3
LENGTHS = [5, 2, 4, 3]


def row_values(number):
    draw = torch.Generator().manual_seed(number)
    length = LENGTHS[number]
    return torch.randn(length, V, generator=draw), torch.randn(length, H, generator=draw)


def make(numbers, left=False):
    """A batch and what a teacher emits on it; in each row all tokens but the first are trained. Padding holds NaN."""
    width = max(LENGTHS[number] for number in numbers)
    logits, hidden = torch.full((len(numbers), width, V), torch.nan), torch.full((len(numbers), width, H), torch.nan)
    real = torch.zeros(len(numbers), width, dtype=torch.bool)
    for place, number in enumerate(numbers):
        where = slice(width - LENGTHS[number], width) if left else slice(0, LENGTHS[number])
        logits[place, where], hidden[place, where] = row_values(number)
        real[place, where] = True
    trained = real & (real.cumsum(-1) > 1)
    ids = [f"r{number}" for number in numbers]
    batch = Batch(ids=ids, student={"attention_mask": real.long()}, mask=trained)
    text = [f"text {number}" for number in numbers]
    embedding = torch.stack([torch.full((4,), float(number)) for number in numbers])
    return batch, Signals(logits=logits, hidden={2: hidden}, text=text, embedding=embedding, mask=real)


@pytest.fixture
def store(tmp_path):
    signals = {
        "topk": Signal(codec="topk16", shape=(None,), k=K, vocabulary=V),
        "hidden:2": Signal(codec="float32", shape=(None, H)),
        "text": Signal(codec="utf8", shape=(None,)),
        "embedding": Signal(codec="float16", shape=(4,)),
    }
    with Store.create(tmp_path / "s", Header(signals=signals, teacher="t", depth=2, temperature=2.0)) as writer:
        writer.keep(*make([0, 1]))
        writer.keep(*make([2, 3], left=True))
    return Store.open(tmp_path / "s")


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("numbers", [[0, 1, 2, 3], [3, 0], [1]])
def test_signals_come_back_in_the_padding_of_the_batch(store, numbers, left):
    batch, emitted = make(numbers, left)
    signals = store.signals(batch, ("logits", "hidden:2", "text", "embedding"))
    assert signals.text == emitted.text and torch.equal(signals.embedding, emitted.embedding)
    assert torch.equal(signals.mask, emitted.mask)
    assert torch.equal(signals.hidden[2][emitted.mask], emitted.hidden[2][emitted.mask])
    assert signals.hidden[2].shape == emitted.hidden[2].shape
    expected = keep_top_k(emitted.logits[batch.mask] / 2.0, K)
    assert signals.logits is None and signals.topk.ids.shape == (*batch.mask.shape, K)
    assert torch.equal(signals.topk.ids[batch.mask], expected.ids)
    assert torch.equal(signals.topk.tail[batch.mask], expected.tail)
    assert torch.allclose(signals.topk.log_probs[batch.mask], expected.log_probs, rtol=2**-11)
    assert all(torch.isfinite(part).all() for part in (*signals.topk, signals.hidden[2]))


def test_only_what_is_needed_is_given_and_the_last_layer_has_its_negative_name(store):
    batch, emitted = make([0, 2])
    signals = store.signals(batch, ("hidden:-1",))
    assert signals.text is None and signals.topk is None
    assert torch.equal(signals.hidden[2][emitted.mask], emitted.hidden[2][emitted.mask])


def test_the_teachers_own_view_decides_where_hidden_states_stand(tmp_path):
    kept = {"hidden:2": Signal(codec="float32", shape=(None, H))}
    batch, emitted = make([0, 1])
    student = Batch(ids=batch.ids, student={"attention_mask": torch.ones(2, 9)}, teacher=batch.student, mask=batch.mask)
    with Store.create(tmp_path / "s", Header(signals=kept, teacher="t")) as writer:
        writer.keep(student, emitted)
    signals = Store.open(tmp_path / "s").signals(student, ("hidden:2",))
    assert torch.equal(signals.hidden[2].nan_to_num(), emitted.hidden[2].nan_to_num())


def test_a_row_of_another_length_is_refused(store):
    batch, _ = make([0, 1])
    batch.mask[1] = False
    with pytest.raises(UserError, match=r"the row 'r1' has 0 places now and 1 in the store \(topk\)"):
        store.signals(batch, ("logits",))


def test_what_the_store_does_not_keep_is_told(store):
    batch, _ = make([0])
    with pytest.raises(UserError, match="the store keeps topk, hidden:2, text, embedding and not scores; label again"):
        store.signals(batch, ("scores",))
    with pytest.raises(UserError, match="has no row 'r9'"):
        store.signals(Batch(ids=["r9"], student={}, mask=torch.ones(1, 1, dtype=torch.bool)), ("text",))


def test_what_the_teacher_does_not_give_is_told(tmp_path):
    kept = {"scores": Signal(codec="float32", shape=(None,))}
    writer = Store.create(tmp_path / "s", Header(signals=kept, teacher="t"))
    with pytest.raises(ValueError, match="keeps 'scores', which the teacher did not give"):
        writer.keep(*make([0]))


def test_rows_without_tokens(tmp_path):
    kept = {
        "scores": Signal(codec="float32", shape=(None,)),
        "logits": Signal(codec="float32", shape=(3,)),
    }
    batch = Batch(ids=["a", "b"], student={}, mask=torch.ones(2, dtype=torch.bool))
    emitted = Signals(scores=torch.randn(2, 4), logits=torch.randn(2, 3))
    with Store.create(tmp_path / "s", Header(signals=kept, teacher="t")) as writer:
        writer.keep(batch, emitted)
        writer.append(["c"], {"scores": [torch.randn(2)], "logits": torch.zeros(1, 3)})
    store = Store.open(tmp_path / "s")
    signals = store.signals(batch, ("logits", "scores"))
    assert torch.equal(signals.scores, emitted.scores) and torch.equal(signals.logits, emitted.logits)
    mixed = Batch(ids=["a", "c"], student={}, mask=torch.ones(2, dtype=torch.bool))
    assert (store.signals(mixed, ("scores",)).scores[1, 2:] == 0).all()
