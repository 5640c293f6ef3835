"""Row losses with their gradients written out, where these are short: a chunk is then gone through fewer times.

Each takes a chunk's log-probs beside the probabilities, student's first, which it overwrites, and gives the losses [n]
and the gradient of their sum [n, V] for the student's logits. With D a divergence of q = softmax(z) and g_v = dD/dq_v,
that is q_v (g_v - sum_u q_u g_u):

==================  =========================  =================================================
loss                g                          gradient for z
==================  =========================  =================================================
forward KL          -p / q                     q - p
cross-entropy       -p / q                     q - p
reverse KL          log(q / p) + 1             q (log(q / p) - D)
JSD                 (1 - b) log(q / M)         (1 - b) q (log(q / M) - KL(q||M))
skew forward KL     -(1 - a) p / M             -(1 - a) q (p / M - sum q p / M)
skew reverse KL     log(q / M) + 1 - a q / M   q (g - sum q g); the last term of g is 0 where q is detached in M
==================  =========================  =================================================

Losses of other modules are added to `FORMS` there; the rest is differentiated by autograd. Symbols, and the meaning of
a probability of 0, are those of `stillroom.objectives.divergence`, whose functions these equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stillroom.objectives import divergence as of

Found = tuple[Tensor, Tensor]


def written_out(loss: Callable[..., Tensor]) -> Callable[..., Found] | None:
    """The form of a loss that gives its gradient too, if there is one."""
    if not isinstance(loss, partial):
        return FORMS.get(loss)
    form = FORMS.get(loss.func)
    return None if form is None or loss.args else partial(form, **loss.keywords)


def _forward_kl(log_q: Tensor, q: Tensor, log_p: Tensor, p: Tensor) -> Found:
    _finite(log_q, log_p)
    change = q.sub_(p)
    return p.mul_(log_p.sub_(log_q)).sum(-1), change


def _soft_cross_entropy(log_q: Tensor, q: Tensor, log_p: Tensor, p: Tensor) -> Found:
    _finite(log_q)
    change = q.sub_(p)
    return -p.mul_(log_q).sum(-1), change


def _reverse_kl(log_q: Tensor, q: Tensor, log_p: Tensor, p: Tensor) -> Found:
    _finite(log_q, log_p)
    return _of_own_ratio(q, log_q.sub_(log_p), spare=p)


def _jsd(log_q: Tensor, q: Tensor, log_p: Tensor, p: Tensor, *, beta: float) -> Found:
    _finite(log_q, log_p)
    log_m = _log_mixture(q, p, beta)
    theirs = p.mul_(log_p.sub_(log_m)).sum(-1)
    ours, change = _of_own_ratio(q, log_q.sub_(log_m), spare=p)
    return beta * theirs + (1 - beta) * ours, change.mul_(1 - beta)


def _skew_forward_kl(log_q: Tensor, q: Tensor, log_p: Tensor, p: Tensor, *, alpha: float | Tensor) -> Found:
    _finite(log_q, log_p)
    share = alpha.unsqueeze(-1) if isinstance(alpha, Tensor) else alpha
    log_m = _log_mixture(q, p, share)
    values = log_p.sub_(log_m).mul_(p).sum(-1)
    return values, _from_probabilities(q, p.div_(log_m.exp_()).mul_(share - 1), spare=log_q)


def _skew_reverse_kl(
    log_q: Tensor, q: Tensor, log_p: Tensor, p: Tensor, *, alpha: float | Tensor, detach_student: bool
) -> Found:
    _finite(log_q)
    share = alpha.unsqueeze(-1) if isinstance(alpha, Tensor) else alpha
    log_m = _log_mixture(p, q, share)
    ratio = log_q.sub_(log_m)
    values = torch.mul(q, ratio, out=log_p).sum(-1)
    if not detach_student:
        ratio = ratio.sub_(log_m.neg_().exp_().mul_(q).mul_(share))
    return values, _from_probabilities(q, ratio, spare=p)


def _interpolated(
    log_q: Tensor, q: Tensor, log_p: Tensor, p: Tensor, *, divergence: of.Divergence, share: float
) -> Found:
    target = of.between(log_q, log_p, share)
    form = written_out(divergence)
    if form is None:
        return by_autograd(divergence, log_q, q, target)
    return form(log_q, q, target, torch.exp(target, out=p))


def by_autograd(loss: Callable[..., Tensor], log_q: Tensor, q: Tensor, *others: Tensor) -> Found:
    """The losses of some rows, and the gradient of their sum for the logits that the log-probs are of."""
    with torch.enable_grad():
        leaf = log_q.detach().requires_grad_()
        values = loss(leaf, *others)
        (change,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), change.addcmul_(q, change.sum(-1, keepdim=True), value=-1)


def _of_own_ratio(q: Tensor, ratio: Tensor, *, spare: Tensor) -> Found:
    """KL(q||m) from q and log(q / m), and q (log(q / m) - KL); all three are overwritten."""
    values = torch.mul(q, ratio, out=spare).sum(-1)
    return values, q.mul_(ratio.sub_(values.unsqueeze(-1)))


def _from_probabilities(q: Tensor, for_q: Tensor, *, spare: Tensor) -> Tensor:
    """The gradient for the logits from that for the probabilities g: q (g - sum q g); all three are overwritten."""
    mean = torch.mul(q, for_q, out=spare).sum(-1, keepdim=True)
    return q.mul_(for_q.sub_(mean))


def _log_mixture(a: Tensor, b: Tensor, share: float | Tensor) -> Tensor:
    """log((1 - share) a + share b) of probabilities; where both are 0 it counts as in `divergence`."""
    return torch.lerp(a, b, share).clamp_(min=math.exp(of.LOG_ZERO)).log_()


def _finite(*log_probs: Tensor) -> None:
    """-inf becomes `LOG_ZERO`, in place."""
    for one in log_probs:
        one.nan_to_num_(nan=math.nan, posinf=math.inf, neginf=of.LOG_ZERO)


FORMS: dict[Any, Callable[..., Found]] = {
    of.forward_kl: _forward_kl,
    of.soft_cross_entropy: _soft_cross_entropy,
    of.reverse_kl: _reverse_kl,
    of._jsd: _jsd,
    of._skew_forward_kl: _skew_forward_kl,
    of._skew_reverse_kl: _skew_reverse_kl,
    of._interpolated: _interpolated,
}
