"""Losses from hidden states and heads: the plain ones in value and gradient, and no tokens x vocabulary in memory."""

import math
from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from stillroom import objectives as ob
from stillroom.blocks.fused import Head, linear_cross_entropy, linear_divergence
from stillroom.head import Unprojected
from stillroom.objectives import chunks
from stillroom.objectives.chunks import Values, log_probs_of, row_losses, summed_loss
from stillroom.objectives.gradients import FORMS
from stillroom.signals import Drawn, TopK
from stillroom.store.keep import keep_top_k

B, T, H, WIDE, V, PADDED = 3, 5, 8, 6, 37, 40

SHARES = torch.rand(B * T, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
DIVERGENCES = {
    "forward_kl": ob.forward_kl,
    "reverse_kl": ob.reverse_kl,
    "symmetric_kl": ob.named("symmetric_kl"),
    "total_variation": ob.named("total_variation"),
    "soft_cross_entropy": ob.soft_cross_entropy,
    "jsd": ob.jsd(0.3),
    "skew_forward_kl": ob.skew_forward_kl(0.1),
    "skew_reverse_kl": ob.skew_reverse_kl(0.2),
    "skew_reverse_kl, detached": ob.skew_reverse_kl(0.2, detach_student=True),
    "alpha_beta": ob.alpha_beta(),
}
OWN = {"one's own": lambda log_q, log_p: (log_p - log_q).square().sum(-1)}  # which knows nothing of probabilities of 0
HEADS = {
    "plain": {},
    "bias": {"bias": True},
    "scale and cap": {"scale": 0.7, "softcap": 3.0},
    "adapter": {"adapter": True},
    "all": {"bias": True, "scale": 1.3, "softcap": 5.0, "adapter": True},
}


def drawn(*shape, dtype=torch.float64, learns=True, seed=0):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.to(dtype).requires_grad_(learns)


def a_head(*, bias=False, adapter=False, dtype=torch.float64, width=H, ids=PADDED, learns=True, **settings):
    low = {"down": drawn(2, width, dtype=dtype, seed=3), "up": drawn(ids, 2, dtype=dtype, seed=4), "factor": 0.5}
    return Head(
        weight=drawn(ids, width, dtype=dtype, learns=learns, seed=1),
        bias=drawn(ids, dtype=dtype, seed=2) if bias else None,
        **(low if adapter else {}),
        **settings,
    )


def leaves(logits):
    head = logits.head
    return [one for one in (logits.states, head.weight, head.bias, head.down, head.up) if one is not None]


def the_same(fused, plain, wanted, **tolerance):
    """Two losses, in value and in the gradients of what is wanted."""
    torch.testing.assert_close(fused, plain, **tolerance)
    for one, other in zip(
        torch.autograd.grad(fused * 1.7, wanted),
        torch.autograd.grad(plain * 1.7, wanted, retain_graph=True),
        strict=True,
    ):
        torch.testing.assert_close(one, other, **tolerance)


@pytest.fixture(autouse=True)
def _chunks_of_four(monkeypatch):
    def chunks_of_four(self, rows):
        return (slice(start, min(start + 4, rows)) for start in range(0, rows, 4))

    monkeypatch.setattr(chunks._Job, "chunks", chunks_of_four)


MASK = torch.rand(B, T, generator=torch.Generator().manual_seed(6)) > 0.3
WEIGHTS = torch.randn(B, T, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def teacher(dtype=torch.float64):
    """Another width, and a table that is not padded."""
    return Unprojected(
        drawn(B, T, WIDE, dtype=dtype, learns=False, seed=8),
        Head(weight=drawn(V, WIDE, dtype=dtype, learns=False, seed=9)),
    )


def kept(logits, temperature, k=5):
    """The top of a distribution, with rows that keep three ids only, whose empty slots repeat the first."""
    found = TopK(*(part.double() if part.is_floating_point() else part for part in keep_top_k(logits / temperature, k)))
    found.log_probs[0, :, 3:] = -math.inf
    found.ids[0, :, 3:] = found.ids[0, :, :1]
    return found


@pytest.mark.parametrize("settings", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("divergence", (DIVERGENCES | OWN).values(), ids=DIVERGENCES | OWN)
def test_fused_is_dense_in_value_and_gradient(divergence, settings):
    student = Unprojected(drawn(B, T, H), a_head(**settings))
    for temperature in (1.0, 2.0):
        options = {"divergence": divergence, "temperature": temperature, "shared_vocabulary": V}
        for theirs in (teacher(), teacher().dense()):
            plain = ob.divergence_loss(student.dense(), teacher().dense(), MASK, **options, scale_by_t2=True)
            fused = ob.divergence_loss(student, theirs, MASK, **options, scale_by_t2=True)
            the_same(fused.sum, plain.sum, leaves(student))
            assert fused.count == plain.count == MASK.sum()
        plain = ob.divergence_rows(student.dense(), teacher().dense(), MASK, **options)
        fused = ob.divergence_rows(student, teacher(), MASK, **options)
        the_same((fused * WEIGHTS).sum(), (plain * WEIGHTS).sum(), leaves(student))


@pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES)
def test_fused_is_dense_on_kept_ids(divergence):
    student = Unprojected(drawn(B, T, H), a_head(**HEADS["all"]))
    for temperature in (1.0, 2.0):
        top = kept(teacher().dense(), temperature)
        options = {"divergence": divergence, "temperature": temperature, "shared_vocabulary": V}
        fused, plain = (ob.divergence_topk(logits, top, MASK, **options).sum for logits in (student, student.dense()))
        the_same(fused, plain, leaves(student))
        fused, plain = (ob.divergence_topk_rows(logits, top, MASK, **options) for logits in (student, student.dense()))
        the_same((fused * WEIGHTS).sum(), (plain * WEIGHTS).sum(), leaves(student))


def test_fused_is_dense_on_drawn_ids():
    student = Unprojected(drawn(B, T, H), a_head(**HEADS["all"]))
    ids = torch.randint(V, (B, T, 4), generator=torch.Generator().manual_seed(14))
    weights = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64).expand(B, T, 4)
    options = {"temperature": 1.5, "shared_vocabulary": V}
    fused, plain = (
        ob.cross_entropy_drawn(logits, Drawn(ids, weights), MASK, **options).sum
        for logits in (student, student.dense())
    )
    the_same(fused, plain, leaves(student))


@pytest.mark.parametrize("make", [ob.skew_forward_kl, ob.skew_reverse_kl])
def test_a_share_for_every_row_goes_with_the_rows(make):
    student = Unprojected(drawn(B, T, H), a_head())
    rule = make(SHARES[: int(MASK.sum())])
    options = {"divergence": rule, "shared_vocabulary": V}
    fused = ob.divergence_loss(student, teacher(), MASK, **options).sum
    the_same(fused, ob.divergence_loss(student.dense(), teacher().dense(), MASK, **options).sum, leaves(student))
    top = kept(teacher().dense(), 1.0)
    fused, plain = (ob.divergence_topk(logits, top, MASK, **options).sum for logits in (student, student.dense()))
    the_same(fused, plain, leaves(student))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_labels_too(smoothing):
    student = Unprojected(drawn(B, T, H), a_head(**HEADS["all"]))
    labels = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(10))
    fused = linear_cross_entropy(student.states, student.head, labels, MASK, label_smoothing=smoothing)
    plain = ob.cross_entropy(student.dense(), labels, MASK, label_smoothing=smoothing)
    the_same(fused.sum, plain.sum, leaves(student))
    expected = nn.functional.cross_entropy(
        student.dense()[MASK], labels[MASK], reduction="sum", label_smoothing=smoothing
    )
    torch.testing.assert_close(fused.sum, expected)
    fused, plain = (ob.token_log_probs(logits, labels, MASK, temperature=1.5) for logits in (student, student.dense()))
    the_same((fused * WEIGHTS).sum(), (plain * WEIGHTS).sum(), leaves(student))


@pytest.mark.parametrize("loss", [loss for loss in FORMS if loss.__module__ == "stillroom.objectives.divergence"])
def test_gradients_that_are_written_out_are_autograds(loss):
    options = {"_jsd": {"beta": 0.7}, "_skew_forward_kl": {"alpha": 0.3}}
    options["_skew_reverse_kl"] = {"alpha": 0.3, "detach_student": False}
    options["_interpolated"] = {"divergence": ob.jsd(0.4), "share": 0.3}
    rule = partial(loss, **options[loss.__name__]) if loss.__name__ in options else loss
    student, theirs = Unprojected(drawn(7, H), a_head(ids=V)), log_probs_of(drawn(7, V, learns=False, seed=11))
    quick = torch.autograd.grad(summed_loss(rule, student, [theirs]), leaves(student))
    plain = torch.autograd.grad(summed_loss(lambda q, p: rule(q, p), student, [theirs]), leaves(student))
    torch.testing.assert_close(quick, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "soft_cross_entropy"])
def test_in_other_types_as_near_to_float64_as_the_plain_path(dtype, divergence):
    """Both round the same inputs; what they lose against float64 is of one size."""
    rule = ob.named(divergence)

    def both(kind):
        student, theirs = (
            Unprojected(drawn(B, T, H).detach().to(dtype).to(kind).requires_grad_(), a_head().first(V)),
            teacher(),
        )
        weight = student.head.weight.detach().to(dtype).to(kind).requires_grad_()
        student = Unprojected(student.states, Head(weight=weight, vocabulary=V))
        theirs = Unprojected(theirs.states.to(dtype).to(kind), Head(weight=theirs.head.weight.to(dtype).to(kind)))
        found = []
        for ours, other in ((student, theirs), (student.dense(), theirs.dense())):
            loss = ob.divergence_loss(ours, other, MASK, divergence=rule).sum
            found.append([loss.detach().double(), *(g.double() for g in torch.autograd.grad(loss, leaves(student)))])
        return found

    fused, plain = both(dtype)
    exact, _ = both(torch.float64)
    for one, other, right in zip(fused, plain, exact, strict=True):
        assert (one - right).norm() <= 1.5 * (other - right).norm() + 1e-6 * right.norm()


def test_ids_and_probabilities_of_zero_do_no_harm():
    student = Unprojected(drawn(B, T, H), a_head(ids=V))
    theirs = teacher().dense()
    theirs[..., 3:9] = -math.inf
    for divergence in DIVERGENCES.values():
        fused = ob.divergence_loss(student, theirs, MASK, divergence=divergence).sum
        plain = ob.divergence_loss(student.dense(), theirs, MASK, divergence=divergence).sum
        the_same(fused, plain, leaves(student))


def test_what_lies_outside_the_mask_is_never_read():
    states = drawn(B, T, H)
    spoilt = torch.where(MASK.unsqueeze(-1), states.detach(), math.nan).requires_grad_()
    found = []
    for ours in (states, spoilt):
        loss = ob.divergence_loss(Unprojected(ours, a_head(ids=V)), teacher(), MASK).sum
        found.append((loss, *torch.autograd.grad(loss, ours)))
    torch.testing.assert_close(found[0], found[1])
    assert (found[1][1][~MASK] == 0).all()


def test_an_empty_mask_is_an_exact_zero_with_a_gradient():
    student = Unprojected(drawn(B, T, H), a_head(ids=V))
    nothing = torch.zeros(B, T, dtype=torch.bool)
    for loss in (
        ob.divergence_loss(student, teacher(), nothing).sum,
        ob.divergence_rows(student, teacher(), nothing).sum(),
        ob.divergence_topk(student, kept(teacher().dense(), 1.0), nothing).sum,
    ):
        assert loss == 0
        assert all((gradient == 0).all() for gradient in torch.autograd.grad(loss, leaves(student)))


def test_without_gradients_none_are_taken(monkeypatch):
    monkeypatch.setattr(chunks._Job, "with_gradient", None)
    student = Unprojected(drawn(B, T, H), a_head(ids=V))
    with torch.no_grad():
        fused = ob.divergence_loss(student, teacher(), MASK).sum
    torch.testing.assert_close(fused, ob.divergence_loss(student.dense(), teacher().dense(), MASK).sum.detach())


def test_autocast_computes_what_it_computes_of_logits():
    student, theirs = (
        Unprojected(drawn(B, T, H, dtype=torch.float32), a_head(dtype=torch.float32, ids=V)),
        teacher(torch.float32),
    )
    with torch.autocast("cpu", torch.bfloat16):
        fused = ob.divergence_loss(student, theirs, MASK).sum
        plain = ob.divergence_loss(student.dense(), theirs.dense(), MASK).sum
        rows = ob.divergence_rows(student, theirs, MASK).sum()
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rows, plain, rtol=1e-5, atol=1e-5)
    ours, expected = (torch.autograd.grad(loss, leaves(student)) for loss in (fused, plain))
    for one, other in zip(ours, expected, strict=True):
        assert (one - other).norm() < 0.02 * other.norm()  # bfloat16 keeps eight bits
    again = torch.autograd.grad(rows, leaves(student))
    for one, other in zip(again, expected, strict=True):
        assert (one - other).norm() < 0.02 * other.norm()


def test_a_tied_table_gets_the_sum_of_both_gradients():
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=V,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).double()
    ids = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(12))
    found = []
    for fused in (True, False):
        states = model.model(ids).last_hidden_state
        logits = Unprojected(states, Head.of(model.lm_head))
        loss = ob.divergence_loss(logits if fused else logits.dense(), teacher(), MASK).sum
        found.append((loss, *torch.autograd.grad(loss, model.model.embed_tokens.weight)))
    torch.testing.assert_close(found[0], found[1])


def test_a_layer_with_a_low_rank_adapter_is_a_head():
    config = LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=V)
    torch.manual_seed(0)
    wrapped = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=2, lora_alpha=6, target_modules=["lm_head"]))
    layer = wrapped.get_output_embeddings()
    nn.init.normal_(layer.lora_B["default"].weight)
    states = torch.randn(4, 16)
    torch.testing.assert_close(Head.of(layer)(states), layer(states))
    assert Head.of(nn.Sequential(nn.Linear(2, 2))) is None
    with pytest.raises(ValueError, match="a head is a linear layer, its weight or a Head; Identity is none"):
        linear_divergence(states, nn.Identity(), states, nn.Identity(), torch.ones(4, dtype=torch.bool))


def test_a_teacher_that_learns_is_refused():
    student = Unprojected(drawn(B, T, H), a_head(ids=V))
    learning = Unprojected(drawn(B, T, H), a_head(ids=V))
    fixed = Unprojected(learning.states.detach(), a_head(ids=V, learns=False, bias=True))  # but for its bias
    for theirs in (learning, fixed):
        with pytest.raises(ValueError, match="a teacher that learns must give whole logits"):
            ob.divergence_loss(student, theirs, MASK)


def test_a_teachers_adapter_is_part_of_its_head():
    student, low = Unprojected(drawn(B, T, H), a_head(ids=V)), a_head(ids=V, adapter=True, learns=False)
    low = Head(weight=low.weight, down=low.down.detach(), up=low.up.detach(), factor=low.factor)
    theirs = Unprojected(drawn(B, T, H, learns=False, seed=15), low)
    fused = ob.divergence_loss(student, theirs, MASK).sum
    the_same(fused, ob.divergence_loss(student.dense(), theirs.dense(), MASK).sum, leaves(student))


def test_for_a_loop_of_ones_own():
    student, theirs = Unprojected(drawn(B, T, H), a_head()), teacher()
    plain = ob.divergence_loss(student.dense(), theirs.dense(), MASK, shared_vocabulary=V)
    fused = linear_divergence(
        student.states, student.head, theirs.states, theirs.head.weight, MASK, shared_vocabulary=V
    )
    the_same(fused.sum, plain.sum, leaves(student))
    given = linear_divergence(student.states, student.head, theirs.dense(), None, MASK, shared_vocabulary=V)
    the_same(given.sum, plain.sum, leaves(student))
    top = kept(theirs.dense(), 1.0)
    fused = linear_divergence(student.states, student.head, top, None, MASK, shared_vocabulary=V)
    the_same(fused.sum, ob.divergence_topk(student.dense(), top, MASK, shared_vocabulary=V).sum, leaves(student))


def test_a_loss_of_ones_own_with_numbers_a_row():
    student = Unprojected(drawn(7, H), a_head(ids=V))
    weights = drawn(7, learns=False, seed=13)

    def loss(log_q, weight):
        return weight * log_q[..., 0]

    fused = row_losses(loss, student, [Values(weights)])
    the_same(fused.sum(), (weights * student.dense().log_softmax(-1)[:, 0]).sum(), leaves(student))
