"""Row divergences: hand values, bounds, limits, zeros, and finding them by name.

Run: pytest tests/objectives/test_divergence.py
"""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import objectives as oracle

from stillroom import objectives as ob
from stillroom.errors import UserError

P = (0.7, 0.2, 0.1)  # the teacher
Q = (0.5, 0.3, 0.2)  # the student

# Worked out by hand from the definitions, to four places.
HAND = {
    "forward_kl": 0.7 * math.log(7 / 5) + 0.2 * math.log(2 / 3) + 0.1 * math.log(1 / 2),  # 0.0851
    "reverse_kl": 0.5 * math.log(5 / 7) + 0.3 * math.log(3 / 2) + 0.2 * math.log(2),  # 0.0920
    "total_variation": 0.2,
    "soft_cross_entropy": 0.8869,
    "symmetric_kl": 0.0886,
    "jsd": 0.0219,  # M = (0.6, 0.25, 0.15); half of 0.0227 and half of 0.0211
}


def logs(values):
    return torch.tensor(values, dtype=torch.float64).log()


def at(divergence, p=P, q=Q):
    return float(divergence(logs(q), logs(p)))


@pytest.mark.parametrize("name", HAND)
def test_three_tokens_by_hand(name):
    assert at(ob.named(name)) == pytest.approx(HAND[name], abs=5e-5)


@pytest.mark.parametrize("name", oracle.DIVERGENCES)
def test_the_oracle_agrees(name):
    assert at(ob.named(name)) == pytest.approx(oracle.DIVERGENCES[name](P, Q), rel=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_jsd_over_its_range(beta):
    expected = {0.0: oracle.kl(P, Q), 1.0: oracle.kl(Q, P)}.get(beta, oracle.jsd(P, Q, beta))
    assert at(ob.jsd(beta)) == pytest.approx(expected, rel=1e-12)


def test_jsd_grows_into_the_two_kls_only_after_division_by_its_share():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small, large = ob.jsd(1e-6), ob.jsd(1 - 1e-6)
    assert at(small) < 1e-6
    assert at(small) / 1e-6 == pytest.approx(at(ob.forward_kl), rel=1e-4)
    assert at(large) / 1e-6 == pytest.approx(at(ob.reverse_kl), rel=1e-4)


@pytest.mark.parametrize("beta", [0.01, 0.049, 0.96, 0.999])
def test_jsd_warns_near_its_ends(beta):
    with pytest.warns(UserWarning, match="almost 0"):
        ob.jsd(beta)


@pytest.mark.parametrize("beta", [0.0, 0.05, 0.5, 0.95, 1.0])
def test_jsd_is_silent_elsewhere(beta):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ob.jsd(beta)


def test_skew_without_skew_is_kl():
    assert at(ob.skew_forward_kl(0.0)) == at(ob.forward_kl)
    assert at(ob.skew_reverse_kl(0.0)) == at(ob.reverse_kl)


def test_skew_is_bounded_where_kl_is_not():
    far = (1 - 1e-30, 1e-30)
    assert at(ob.forward_kl, p=far, q=far[::-1]) > 60
    assert at(ob.skew_forward_kl(0.1), p=far, q=far[::-1]) == pytest.approx(-math.log(0.1))
    assert at(ob.skew_reverse_kl(0.1), p=far, q=far[::-1]) == pytest.approx(-math.log(0.1))


def test_skew_takes_one_share_a_row():
    student, teacher = torch.randn(2, 4, 5).log_softmax(-1).unbind()
    shares = torch.tensor([0.0, 0.1, 0.5, 0.9])
    for make in (ob.skew_forward_kl, ob.skew_reverse_kl):
        rows = make(shares)(student, teacher)
        alone = [make(float(share))(student[i], teacher[i]) for i, share in enumerate(shares)]
        torch.testing.assert_close(rows, torch.stack(alone))


def test_a_detached_mixture_changes_the_gradient_and_not_the_value():
    teacher = torch.randn(5).log_softmax(-1)
    gradients, values = [], []
    for detach in (False, True):
        logits = torch.arange(5.0).requires_grad_()
        values.append(ob.skew_reverse_kl(0.3, detach_student=detach)(logits.log_softmax(-1), teacher))
        gradients += torch.autograd.grad(values[-1], logits)
    assert values[0] == values[1]
    assert not torch.allclose(*gradients, atol=1e-3)


@pytest.mark.parametrize(
    ("alpha", "beta", "expected"),
    [
        (1, 0, oracle.kl(P, Q)),
        (0, 1, oracle.kl(Q, P)),
        (1, 1, sum((p - q) ** 2 for p, q in zip(P, Q, strict=True)) / 2),
        (0, 0, sum(math.log(p / q) ** 2 for p, q in zip(P, Q, strict=True)) / 2),
        (1, -1, sum(p / q - 1 - math.log(p / q) for p, q in zip(P, Q, strict=True))),
        (0.5, 0.5, 2 * sum((math.sqrt(p) - math.sqrt(q)) ** 2 for p, q in zip(P, Q, strict=True))),  # 4 x Hellinger^2
        (2, 0.5, oracle.alpha_beta(P, Q, 2, 0.5)),
    ],
)
def test_alpha_beta_where_it_has_another_name(alpha, beta, expected):
    assert at(ob.alpha_beta(alpha, beta)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (0, 1), (0.4, -0.4), (0, 0)])
def test_alpha_beta_is_continuous_in_its_limits(alpha, beta):
    near = oracle.alpha_beta(P, Q, alpha + 2e-5, beta + 1e-5)
    assert at(ob.alpha_beta(alpha, beta)) == pytest.approx(near, rel=1e-4)


distributions = st.lists(st.floats(-40, 40), min_size=2, max_size=12)


@settings(max_examples=60, deadline=None)
@given(distributions, st.data(), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_bounds_hold_for_logits_of_any_precision(student, data, precision):
    teacher = data.draw(st.lists(st.floats(-40, 40), min_size=len(student), max_size=len(student)))
    q, p = (
        torch.tensor(values, dtype=kind)
        for values, kind in zip((student, teacher), (precision, torch.float32), strict=True)
    )
    mask = torch.ones(1).bool()

    def loss(divergence):
        value = float(ob.divergence_loss(q[None], p[None], mask, divergence=divergence).sum)
        exact = float(ob.divergence_loss(q[None].double(), p[None].double(), mask, divergence=divergence).sum)
        assert value == pytest.approx(exact, rel=1e-5, abs=1e-5)
        return value

    rounding = 2e-6
    for name in ("forward_kl", "reverse_kl", "symmetric_kl", "alpha_beta"):
        assert loss(ob.named(name)) >= -rounding
    assert -rounding <= loss(ob.jsd(0.5)) <= math.log(2) + rounding
    assert -rounding <= loss(ob.jsd(0.2)) <= math.log(2) + rounding
    assert -rounding <= loss(ob.total_variation) <= 1 + rounding
    assert -rounding <= loss(ob.skew_forward_kl(0.1)) <= -math.log(0.1) + rounding


@pytest.mark.parametrize("name", oracle.DIVERGENCES)
def test_a_large_vocabulary_in_half_precision_stays_near_float64_and_above_zero(name):
    generator = torch.Generator().manual_seed(0)
    teacher = 4 * torch.randn(6, 20_000, generator=generator)
    student = (teacher + 0.02 * torch.randn(6, 20_000, generator=generator)).bfloat16()
    mask = torch.ones(6).bool()
    loss = ob.divergence_rows(student, teacher, mask, divergence=ob.named(name))
    exact = ob.divergence_rows(student.double(), teacher.double(), mask, divergence=ob.named(name))
    torch.testing.assert_close(loss.double(), exact, rtol=1e-3, atol=1e-5)
    assert (loss > 0).all()


@pytest.mark.parametrize("name", oracle.DIVERGENCES)
@pytest.mark.parametrize("side", ["teacher", "student", "both"])
def test_a_class_of_probability_zero_gives_no_nan(name, side):
    logits = {"student": torch.tensor([[0.3, -1.0, 2.0, 0.5]]), "teacher": torch.tensor([[1.0, 0.0, 0.5, -0.2]])}
    for model in logits:
        if side in (model, "both"):
            logits[model][:, 1] = -math.inf
        logits[model].requires_grad_()
    loss = ob.named(name)(logits["student"].log_softmax(-1), logits["teacher"].log_softmax(-1)).sum()
    loss.backward()
    assert torch.isfinite(loss)
    for model in logits.values():
        assert torch.isfinite(model.grad).all()


@pytest.mark.parametrize("name", oracle.DIVERGENCES)
def test_a_class_that_neither_has_counts_for_nothing(name):
    student, teacher = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([1.0, 0.0, 0.5])
    absent = torch.tensor([-math.inf])
    wide = (torch.cat([logits, absent]).log_softmax(-1) for logits in (student, teacher))
    narrow = (logits.log_softmax(-1) for logits in (student, teacher))
    torch.testing.assert_close(ob.named(name)(*wide), ob.named(name)(*narrow))


def test_a_class_that_the_teacher_never_gives_is_penalised_by_as_much_as_the_student_gives_it():
    student, teacher = torch.tensor([0.9, 0.1]).log(), torch.tensor([1.0, 0.0]).log()
    expected = 0.9 * math.log(0.9) + 0.1 * (math.log(0.1) + 87.3365)
    assert float(ob.reverse_kl(student, teacher)) == pytest.approx(expected, rel=1e-5)


def test_a_nan_is_not_hidden():
    for student, teacher in ((math.nan, 0.0), (0.0, math.nan)):
        rows = (torch.tensor([value, 1.0]).log_softmax(-1) for value in (student, teacher))
        assert ob.forward_kl(*rows).isnan()


def test_a_mixture_of_log_probs():
    expected = [math.log(0.25 * p + 0.75 * q) for p, q in zip(P, Q, strict=True)]
    assert ob.mixture(logs(P), logs(Q), 0.25).tolist() == pytest.approx(expected)


def test_named_hands_its_parameters_on():
    assert at(ob.named("jsd", beta=0.3)) == pytest.approx(oracle.jsd(P, Q, 0.3))
    assert ob.named("jsd", beta=1) is ob.reverse_kl


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("revers_kl", {}, "did you mean 'reverse_kl'"),
        ("forward_kl", {"beta": 0.5}, "forward_kl takes no parameters; remove beta"),
        ("jsd", {"alpha": 0.5}, "alpha"),
        ("jsd", {"beta": 1.5}, r"\[0, 1\], not 1.5"),
        ("skew_forward_kl", {"alpha": 1.0}, r"\[0, 1\), not 1.0"),
    ],
)
def test_named_says_what_is_wrong(name, parameters, message):
    with pytest.raises(UserError, match=message):
        ob.named(name, **parameters)


def test_two_widths_are_refused():
    with pytest.raises(ValueError, match="3 classes, the teacher 2"):
        ob.forward_kl(logs(Q), logs((0.5, 0.5)))
