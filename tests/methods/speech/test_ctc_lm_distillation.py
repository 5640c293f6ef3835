"""CTC with a language model's soft labels: all paths summed, soft labels by hand, decoders that do not peek, refusals.

.venv/bin/python -m pytest tests/methods/speech/test_ctc_lm_distillation.py
"""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from stillroom.blocks.attention_decoder import AttentionDecoder
from stillroom.checks import agree, build_method
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.speech.ctc_lm_distillation import CTCLMDistillation, soft_labels
from stillroom.objectives.ctc import ctc_loss, greedy_labels, too_short
from stillroom.recipe import Method
from stillroom.signals import Batch, Signals, TopK
from stillroom.students.open import train_tokenizer
from stillroom.views.encoder import MaskedLM
from stillroom.views.speech import CTC

STEP = Step(0, 1)
BLANK, SIZE, WIDTH, FRAMES = 0, 300, 8, 6


def numbers(seed, *size):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def collapsed(path):
    return [key for key, _ in itertools.groupby(path) if key != BLANK]


# --- CTC --------------------------------------------------------------------------------------------------------------


def test_ctc_sums_over_every_path_that_collapses_to_the_labels():
    logits, labels = numbers(0, 3, 4, 3), torch.tensor([[1, 2], [1, 1], [2, 9]])
    frames = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]).bool()
    mask = torch.tensor([[1, 1], [1, 1], [1, 0]]).bool()
    expected = 0.0
    for row in range(3):
        p = logits[row].softmax(-1).tolist()
        wanted, length = labels[row][mask[row]].tolist(), int(frames[row].sum())
        paths = [path for path in itertools.product(range(3), repeat=length) if collapsed(path) == wanted]
        total = sum(math.prod(p[t][v] for t, v in enumerate(path)) for path in paths)
        expected += -math.log(total) / len(wanted)
    found = ctc_loss(logits, frames, labels, mask, blank=BLANK)
    assert float(found.sum) == pytest.approx(expected, rel=1e-9) and int(found.count) == 3


def test_a_row_without_a_path_costs_nothing_and_is_told():
    logits = numbers(1, 2, 2, 3).requires_grad_()
    frames, mask = torch.ones(2, 2).bool(), torch.ones(2, 2).bool()
    labels = torch.tensor([[1, 1], [1, 2]])  # equal neighbours need a blank between them
    assert too_short(frames, labels, mask).tolist() == [True, False]
    found = ctc_loss(logits, frames, labels, mask, blank=BLANK)
    found.sum.backward()
    assert found.sum.isfinite() and logits.grad.isfinite().all() and not logits.grad[0].any() and int(found.count) == 2


def test_the_likeliest_path_is_collapsed():
    path = torch.tensor([[1, 1, 0, 1, 2, 2, 0], [0, 2, 2, 2, 1, 1, 1]])
    logits = torch.nn.functional.one_hot(path, 3).float()
    frames = torch.arange(7) < torch.tensor([[7], [4]])
    assert greedy_labels(logits, frames, blank=BLANK) == [[1, 1, 2], [2]]


# --- soft labels ------------------------------------------------------------------------------------------------------


def test_soft_labels_are_the_likeliest_without_the_blank():
    logits = torch.log(torch.tensor([[[0.5, 0.3, 0.15, 0.05]]]))
    ids, log_q = soft_labels(Signals(logits=logits), 2, blank=BLANK)
    assert ids.tolist() == [[[1, 2]]]
    assert log_q.exp()[0, 0].tolist() == pytest.approx([0.3 / 0.45, 0.15 / 0.45])
    ids, log_q = soft_labels(Signals(logits=logits), 2, blank=BLANK, temperature=0.5)
    assert log_q.exp()[0, 0].tolist() == pytest.approx([0.09 / 0.1125, 0.0225 / 0.1125])
    kept = TopK(torch.tensor([[[0, 1, 2]]]), torch.log(torch.tensor([[[0.5, 0.3, 0.15]]])), torch.tensor([[0.05]]))
    ids, log_q = soft_labels(Signals(topk=kept), 2, blank=BLANK)
    assert ids.tolist() == [[[1, 2]]] and log_q.exp()[0, 0].tolist() == pytest.approx([0.3 / 0.45, 0.15 / 0.45])
    with pytest.raises(UserError, match=r"the cache keeps 3 labels a place, and top_k is 4; raise teacher.top_k"):
        soft_labels(Signals(topk=kept), 4, blank=BLANK)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["one two three", "four five six"] * 5, SIZE, "encoder")


def student(depth=4):
    return SimpleNamespace(config=SimpleNamespace(num_hidden_layers=depth, hidden_size=WIDTH))


LABELS, MASK = torch.tensor([[10, 11, 12], [13, 14, 7]]), torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()


def made(tokenizer, seed=2, teacher=None, **settings):
    """A method that is set up, what a student of four layers emits on two rows, and the batch."""
    method = CTCLMDistillation(**settings)
    teacher = Signals(logits=numbers(3, 2, 3, len(tokenizer))) if teacher is None else teacher
    batch = Batch(ids=["a", "b"], student={}, mask=MASK, labels=LABELS, emitted=teacher)
    torch.manual_seed(seed)
    method.setup(student(), None, batch, CTC(tokenizer))
    method.double()
    frames = torch.arange(FRAMES) < torch.tensor([[6], [5]])
    hidden = {layer: numbers(4 + layer, 2, FRAMES, WIDTH) for layer in (2, 4)}
    taps = {"head:2": numbers(9, 2, FRAMES, len(tokenizer))}
    return method, Signals(logits=numbers(8, 2, FRAMES, len(tokenizer)), hidden=hidden, taps=taps, mask=frames), batch


def test_the_loss_is_that_of_the_definition(tokenizer):
    method, ours, batch = made(tokenizer)
    found = method.parts(ours, batch.emitted, batch, STEP)
    ids, log_q = soft_labels(batch.emitted, 8, blank=tokenizer.pad_token_id)
    hard = soft = 0.0
    for layer in (2, 4):
        logits = method.decoders[f"{layer}"](LABELS, MASK, ours.hidden[layer], ours.mask)
        log_p = logits.detach().log_softmax(-1)
        for row, size in enumerate((3, 2)):
            for i in range(size):
                hard -= float(log_p[row, i, LABELS[row, i]]) / size / 2
                for v, q in zip(ids[row, i].tolist(), log_q[row, i].exp().tolist(), strict=True):
                    soft -= q * float(log_p[row, i, v]) / size / 2
    assert float(found["hard"].sum.detach()) == pytest.approx(hard, rel=1e-9)
    assert float(found["soft"].sum.detach()) == pytest.approx(soft, rel=1e-9)
    plain = ctc_loss(ours.taps["head:2"], ours.mask, LABELS, MASK, blank=tokenizer.pad_token_id)
    assert float(found["inter_ctc"].sum) == pytest.approx(float(plain.sum), rel=1e-12)
    assert {int(part.count) for part in found.values()} == {2}
    assert method.weights == pytest.approx({"ctc": 0.35, "inter_ctc": 0.35, "hard": 0.15, "soft": 0.15})
    assert method.needs.student == ("logits", "tap:head:2", "hidden:2", "hidden:4")


def test_a_teacher_that_is_sure_of_the_labels_gives_the_hard_loss(tokenizer):
    logits = torch.zeros(2, 3, len(tokenizer), dtype=torch.float64).scatter(-1, LABELS.unsqueeze(-1), 1000.0)
    with pytest.warns(UserWarning, match="as one that sees it would be; read it with each: true"):
        method, ours, batch = made(tokenizer, teacher=Signals(logits=logits))
    found = method.parts(ours, batch.emitted, batch, STEP)
    assert float(found["soft"].sum.detach()) == pytest.approx(float(found["hard"].sum.detach()), rel=1e-9)


def test_without_a_middle_layer_only_the_last_is_taught(tokenizer):
    method, ours, batch = made(tokenizer, layer=0)
    assert method.needs.student == ("logits", "hidden:4") and list(method.decoders) == ["4"]
    assert set(method.parts(ours, batch.emitted, batch, STEP)) == {"ctc", "hard", "soft"}
    method, _, _ = made(tokenizer, last=False)
    assert list(method.decoders) == ["2"]
    method, _, _ = made(tokenizer, middle=False)
    assert list(method.decoders) == ["4"] and method.needs.student == ("logits", "tap:head:2", "hidden:4")


def test_gradients_reach_the_states_through_the_decoders(tokenizer):
    method, ours, batch = made(tokenizer)
    for states in ours.hidden.values():
        states.requires_grad_()
    method.parts(ours, batch.emitted, batch, STEP)["soft"].sum.backward()
    for states in ours.hidden.values():
        assert states.grad[ours.mask].abs().sum() > 0 and not states.grad[~ours.mask].any()
    assert batch.emitted.logits.grad is None


def test_utterances_that_are_too_short_are_counted(tokenizer):
    method, ours, batch = made(tokenizer)
    ours.mask = torch.arange(FRAMES) < torch.tensor([[2], [5]])
    found = method.parts(ours, batch.emitted, batch, STEP)
    assert method.log() == {"too_short": 0.5} and all(part.sum.isfinite() for part in found.values())


# --- decoders ---------------------------------------------------------------------------------------------------------


def test_a_label_is_predicted_from_those_before_it_and_the_real_frames():
    torch.manual_seed(0)
    decoder = AttentionDecoder(20, WIDTH, forbidden=0).double()
    states, real = numbers(1, 2, FRAMES, WIDTH), torch.arange(FRAMES) < torch.tensor([[6], [4]])
    labels, mask = torch.tensor([[3, 4, 5], [6, 7, 19]]), MASK
    before = decoder(labels, mask, states, real)
    changed = decoder(torch.tensor([[3, 4, 9], [6, 9, 3]]), mask, states, real)
    torch.testing.assert_close(before[0], changed[0])  # the last label is in nobody's past
    torch.testing.assert_close(before[1, :2], changed[1, :2])
    assert not torch.allclose(before[0, 1], decoder(torch.tensor([[9, 4, 5], [6, 7, 0]]), mask, states, real)[0, 1])
    poisoned = states.masked_fill(~real.unsqueeze(-1), float("nan"))
    torch.testing.assert_close(decoder(labels, mask, poisoned, real), before)
    assert before[..., 0].isneginf().all() and before[..., 1:].isfinite().all()


# --- what is refused --------------------------------------------------------------------------------------------------


def test_other_tokens_are_refused(tokenizer):
    other = train_tokenizer(["quite another text"] * 5, SIZE + 20, "encoder")
    ours, method = CTC(tokenizer), {"ctc-lm-distillation": CTCLMDistillation()}
    assert agree([MaskedLM(tokenizer, each=True)], ours, method) is None
    with pytest.raises(UserError, match=r"different tokens.*make the recogniser with the teacher's tokenizer"):
        agree([MaskedLM(other, each=True)], ours, method)
    with pytest.raises(UserError, match="the teacher has 77 tokens and the recogniser"):
        made(tokenizer, teacher=Signals(logits=numbers(0, 2, 3, 77)))


def test_a_layer_that_is_not_below_the_last_is_refused(tokenizer):
    with pytest.raises(UserError, match="must lie below the last, 4; it is 4"):
        made(tokenizer, layer=4)


def test_more_labels_than_the_vocabulary_has_are_refused(tokenizer):
    with pytest.raises(UserError, match="top_k is 9999, more than the vocabulary"):
        made(tokenizer, top_k=9999)


@pytest.mark.parametrize(
    "settings",
    [
        *({"inter": 1}, {"soft": 2}, {"decoders": 1}, {"top_k": 0}, {"temperature": 0}),
        *({"layer": 0, "last": False}, {"middle": False, "last": False}),
    ],
)
def test_a_setting_out_of_range_is_refused(settings):
    with pytest.raises(UserError, match="ctc-lm-distillation"):
        build_method(Method(name="ctc-lm-distillation", **settings))
