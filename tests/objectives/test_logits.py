"""Divergences of whole logits and of kept ids with a tail: values, padded vocabularies, no work outside the mask.

Run: pytest tests/objectives/test_logits.py
"""

import math
from itertools import pairwise

import pytest
import torch
from tests.objectives.cases import TOKENS, normal
from tests.oracles import objectives as oracle

from stillroom import objectives as ob
from stillroom.objectives import logits as module
from stillroom.signals import TopK

STUDENT, TEACHER = normal(1, 3, 4, 5), normal(2, 3, 4, 5)
F_DIVERGENCES = [name for name in oracle.DIVERGENCES if name not in ("soft_cross_entropy", "alpha_beta")]


def topk(logits, k):
    log_probs = logits.log_softmax(-1)
    kept, ids = log_probs.topk(k, dim=-1)
    return TopK(ids, kept, (1 - kept.exp().sum(-1)).clamp(min=0))


@pytest.mark.parametrize("name", oracle.DIVERGENCES)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_oracle_agrees(name, temperature):
    loss = ob.divergence_loss(STUDENT, TEACHER, TOKENS, divergence=ob.named(name), temperature=temperature)
    expected = oracle.divergence_sum(name, STUDENT.numpy(), TEACHER.numpy(), TOKENS.numpy(), temperature)
    assert float(loss.sum) == pytest.approx(expected, rel=1e-10)
    assert int(loss.count) == 4


def test_t2_is_off_unless_asked_for():
    plain = ob.divergence_loss(STUDENT, TEACHER, TOKENS, temperature=3.0)
    scaled = ob.divergence_loss(STUDENT, TEACHER, TOKENS, temperature=3.0, scale_by_t2=True)
    torch.testing.assert_close(scaled.sum, 9 * plain.sum)


def test_classifier_logits():
    loss = ob.divergence_loss(STUDENT[:, 0], TEACHER[:, 0], TOKENS[:, 0])
    expected = oracle.divergence_sum("forward_kl", STUDENT[:, 0].numpy(), TEACHER[:, 0].numpy(), TOKENS[:, 0].numpy())
    assert float(loss.sum) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [ob.divergence_rows, lambda s, t, m: ob.divergence_topk_rows(s, topk(t, 2), m)])
def test_rows_stand_where_their_mask_is(loss):
    rows = loss(STUDENT, TEACHER, TOKENS)
    assert rows.shape == TOKENS.shape
    assert ((rows != 0) == TOKENS).all()
    alone = loss(STUDENT[:1, :1], TEACHER[:1, :1], TOKENS[:1, :1])
    torch.testing.assert_close(rows[0, 0], alone[0, 0])


@pytest.mark.parametrize("padded", ["student", "teacher", "both"])
@pytest.mark.parametrize("name", oracle.DIVERGENCES)
def test_a_padded_vocabulary_changes_nothing(padded, name):
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER
    exact = ob.divergence_loss(student, teacher, TOKENS, divergence=ob.named(name)).sum
    wide_student = torch.cat([student, normal(3, 3, 4, 2)], -1) if padded != "teacher" else student
    wide_teacher = torch.cat([teacher, normal(4, 3, 4, 3)], -1) if padded != "student" else teacher
    cut = ob.divergence_loss(wide_student, wide_teacher, TOKENS, divergence=ob.named(name), shared_vocabulary=5).sum
    assert cut == exact
    assert torch.equal(*(torch.autograd.grad(loss, student)[0] for loss in (cut, exact)))


def test_widths_that_differ_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"4 logits and the teacher 5.*shared_vocabulary"):
        ob.divergence_loss(STUDENT[..., :4], TEACHER, TOKENS)
    with pytest.raises(ValueError, match="can't share 6 ids: these logits have 5"):
        ob.divergence_loss(STUDENT, TEACHER, TOKENS, shared_vocabulary=6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="above 0"):
        ob.divergence_loss(STUDENT, TEACHER, TOKENS, temperature=temperature)


def test_no_softmax_is_taken_outside_the_mask(monkeypatch):
    seen, kept = [], topk(TEACHER, 2)
    plain = torch.Tensor.log_softmax
    monkeypatch.setattr(
        torch.Tensor,
        "log_softmax",
        lambda self, *args, **kwargs: seen.append(len(self)) or plain(self, *args, **kwargs),
    )
    ob.divergence_loss(STUDENT, TEACHER, TOKENS)
    ob.divergence_topk(STUDENT, kept, TOKENS)
    ob.cross_entropy(STUDENT, torch.zeros(3, 4).long(), TOKENS)
    assert seen == [4, 4, 4, 4]


@pytest.mark.parametrize("name", oracle.DIVERGENCES)
def test_kept_ids_and_tail_by_the_oracle(name):
    kept = topk(TEACHER, 2)
    loss = ob.divergence_topk(STUDENT, kept, TOKENS, divergence=ob.named(name))
    expected = 0.0
    for place in oracle.masked_places(TOKENS.numpy()):
        ids = kept.ids[place].tolist()
        p, q = (oracle.with_tail(oracle.softmax(logits[place].tolist()), ids) for logits in (TEACHER, STUDENT))
        expected += oracle.DIVERGENCES[name](p, q)
    assert float(loss.sum) == pytest.approx(expected, rel=1e-9)
    assert int(loss.count) == 4


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_lumping_the_tail_only_loses_and_keeping_everything_loses_nothing(name):
    losses = [
        ob.divergence_topk(STUDENT, topk(TEACHER, k), TOKENS, divergence=ob.named(name)).sum for k in (1, 2, 3, 4, 5)
    ]
    whole = ob.divergence_loss(STUDENT, TEACHER, TOKENS, divergence=ob.named(name)).sum
    assert all(few <= more + 1e-12 for few, more in pairwise(losses))
    torch.testing.assert_close(losses[-1], whole)


@pytest.mark.parametrize("name", oracle.DIVERGENCES)
@pytest.mark.parametrize("k", [3, 5])
def test_an_empty_tail_is_finite_in_value_and_gradient(name, k):
    teacher = TEACHER.float()
    teacher[..., 3:] = -math.inf  # so that three ids hold everything
    student = STUDENT.float().requires_grad_()
    loss = ob.divergence_topk(student, topk(teacher, k), TOKENS, divergence=ob.named(name)).sum
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all()


def test_a_small_tail_keeps_the_gradient_of_the_whole():
    """Where 1 - (sum of kept) has no digits left, summing the tail's own members still has them all."""
    logits = torch.tensor([[20.0, 0.0, -1.0, -2.0]])
    teacher = TopK(torch.tensor([[0]]), torch.tensor([[0.9]]).log(), torch.tensor([0.1]))
    student, exact = logits.clone().requires_grad_(), logits.double().requires_grad_()
    for values in (student, exact):
        ob.divergence_topk(values, teacher, torch.ones(1).bool()).sum.backward()
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-5, atol=1e-9)


def test_rows_may_keep_fewer_ids_than_others():
    full = topk(TEACHER, 2)
    ids, kept = full.ids.clone(), full.log_probs.clone()
    ids[..., 1], kept[..., 1] = ids[..., 0], -math.inf  # an empty slot that repeats the id of the full one
    padded = TopK(ids, kept, 1 - kept[..., 0].exp())
    for name in oracle.DIVERGENCES:
        losses = [
            ob.divergence_topk(STUDENT, some, TOKENS, divergence=ob.named(name)).sum
            for some in (padded, topk(TEACHER, 1))
        ]
        torch.testing.assert_close(*losses)


def test_the_teachers_ids_must_exist_in_the_student():
    with pytest.raises(ValueError, match="kept id 4, but the student has 4 ids"):
        ob.divergence_topk(STUDENT, topk(TEACHER, 5), TOKENS, shared_vocabulary=4)


def test_every_name_of_the_module_is_exported():
    public = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    assert {name for name in public if not name.startswith("_")} <= set(dir(ob))
