"""How far a student's distribution is from its teacher's: row functions on log-probabilities.

Every divergence has one shape, ``(student_log_probs, teacher_log_probs) -> one number a row``, so that each can run on
whole logits, on kept ids with a tail, or inside a fused head. Those with a parameter are made by a factory:
``jsd(0.5)`` is such a function. `named` finds them by the name that a recipe gives.

Symbols: ``p`` teacher, ``q`` student, KL(a||b) = sum_v a_v log(a_v / b_v), in nats.
Shapes: log-probs ``[..., V]``, a divergence ``[...]``; ``V`` classes, or whatever set of them was kept.

A worked example, teacher p = (0.7, 0.2, 0.1) and student q = (0.5, 0.3, 0.2):
forward_kl = 0.7 log(0.7/0.5) + 0.2 log(0.2/0.3) + 0.1 log(0.1/0.2) = 0.0851,
reverse_kl = 0.5 log(0.5/0.7) + 0.3 log(0.3/0.2) + 0.2 log(0.2/0.1) = 0.0920, total_variation = 0.2.

A class of probability exactly 0 (log-prob -inf) counts as float32's smallest normal number, e^-87.3. It then adds
nothing where it should add nothing, and a large finite penalty where the true divergence is infinite, whose gradient
would be NaN. Nothing is detached: a teacher whose log-probs carry gradient receives it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from stillroom.errors import UserError, nearest
from stillroom.objectives.rows import in_float32

Divergence = Callable[[Tensor, Tensor], Tensor]

LOG_ZERO = math.log(torch.finfo(torch.float32).tiny)


def forward_kl(student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """KL(p||q), teacher first: the student must cover what the teacher finds likely (Hinton et al., 2015)."""
    log_q, log_p = _both(student_log_probs, teacher_log_probs)
    return _kl(log_p, log_q)


def reverse_kl(student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """KL(q||p), student first: the student must avoid what the teacher finds unlikely (MiniLLM, Gu et al., 2024)."""
    log_q, log_p = _both(student_log_probs, teacher_log_probs)
    return _kl(log_q, log_p)


def symmetric_kl(student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """The mean of forward and reverse KL (half of Jeffreys' divergence)."""
    log_q, log_p = _both(student_log_probs, teacher_log_probs)
    return 0.5 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1)


def total_variation(student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """Half the summed absolute difference of the probabilities, in [0, 1] (f-distill, Wen et al., 2023)."""
    log_q, log_p = _both(student_log_probs, teacher_log_probs)
    return 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1)


def soft_cross_entropy(student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """-sum_v p_v log q_v: forward KL plus the teacher's entropy, with the same gradient for the student."""
    log_q, log_p = _both(student_log_probs, teacher_log_probs)
    return -(log_p.exp() * log_q).sum(-1)


def jsd(beta: float = 0.5) -> Divergence:
    """Generalised Jensen-Shannon divergence, beta KL(p||M) + (1 - beta) KL(q||M) with M = beta p + (1 - beta) q.

    0.5 gives the ordinary one, at most ln 2. The ends are defined as in GKD (Agarwal et al., 2024): 0 *is*
    forward KL and 1 *is* reverse KL. They are not limits of the value, which shrinks to 0 towards both ends; what tends
    to forward KL is jsd(beta) / beta as beta -> 0, and to reverse KL jsd(beta) / (1 - beta) as beta -> 1.

    Args:
        beta: the teacher's share of the mixture, in [0, 1]. A warning is given where it is within 0.05 of an end.

    Raises:
        ValueError: ``beta`` is outside [0, 1].
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"jsd takes a beta in [0, 1], not {beta}")
    if beta in (0, 1):
        return reverse_kl if beta else forward_kl
    if min(beta, 1 - beta) < 0.05:
        warnings.warn(
            f"jsd with beta={beta} is almost 0 whatever the student does: its size shrinks with the distance to the "
            "nearer end; take beta=0 for forward KL, beta=1 for reverse KL, or a larger weight",
            stacklevel=2,
        )
    return partial(_jsd, beta=beta)


def skew_forward_kl(alpha: float | Tensor = 0.1) -> Divergence:
    """KL(p || alpha p + (1 - alpha) q), bounded by -log alpha (DistiLLM, Ko et al., 2024).

    Args:
        alpha: the teacher's share of the mixture, in [0, 1); 0 is forward KL. A tensor gives one share a row.

    Raises:
        ValueError: ``alpha`` is outside [0, 1).
    """
    _need_share("skew_forward_kl", alpha)
    return partial(_skew_forward_kl, alpha=alpha)


def skew_reverse_kl(alpha: float | Tensor = 0.1, *, detach_student: bool = False) -> Divergence:
    """KL(q || (1 - alpha) p + alpha q), bounded by -log alpha (DistiLLM, Ko et al., 2024).

    Args:
        alpha: the student's share of the mixture, in [0, 1); 0 is reverse KL. A tensor gives one share a row.
        detach_student: treat the student inside the mixture as a constant, as DistiLLM-2's code does.

    Raises:
        ValueError: ``alpha`` is outside [0, 1).
    """
    _need_share("skew_reverse_kl", alpha)
    return partial(_skew_reverse_kl, alpha=alpha, detach_student=detach_student)


def alpha_beta(alpha: float = 0.2, beta: float = 0.7) -> Divergence:
    """The alpha-beta divergence (Cichocki et al., 2011; for distillation ABKD, Wang et al., 2025).

    D = -1/(alpha beta) sum_v [p^alpha q^beta - alpha/(alpha+beta) p^(alpha+beta) - beta/(alpha+beta) q^(alpha+beta)],
    continued where alpha, beta or their sum is 0. (1, 0) is forward KL, (0, 1) reverse KL, (1, 1) half the squared
    distance of the probabilities, (0, 0) half that of the log-probs. Defaults are those of ABKD for language models.

    Args:
        alpha: exponent of the teacher's probabilities, any real.
        beta: exponent of the student's. Either exponent, or their sum, counts as 0 when nearer to it than 0.001, where
            the formula above is a small difference of large terms.
    """
    return partial(_alpha_beta, alpha=alpha, beta=beta)


def interpolated(divergence: Divergence, share: float) -> Divergence:
    """A divergence from a target between student and teacher: softmax((1 - share) sg(zS) + share zT) in place of p.

    Of logits zS and zT; sg: without gradient (TAID, Shing et al., 2025).

    Args:
        divergence: of the student from the target.
        share: the teacher's, in [0, 1].
    """
    return partial(_interpolated, divergence=divergence, share=share)


_PLAIN: dict[str, Divergence] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "symmetric_kl": symmetric_kl,
    "total_variation": total_variation,
    "soft_cross_entropy": soft_cross_entropy,
}
_FACTORIES: dict[str, Callable[..., Divergence]] = {
    "jsd": jsd,
    "skew_forward_kl": skew_forward_kl,
    "skew_reverse_kl": skew_reverse_kl,
    "alpha_beta": alpha_beta,
}


def named(name: str, **parameters: float | bool) -> Divergence:
    """A divergence by its name in a recipe: ``named("reverse_kl")``, ``named("jsd", beta=0.3)``.

    Raises:
        UserError: there is none of that name, or it does not take these parameters.
    """
    if name in _PLAIN and not parameters:
        return _PLAIN[name]
    if name in _PLAIN:
        raise UserError(f"{name} takes no parameters; remove {', '.join(parameters)}")
    if name not in _FACTORIES:
        known = (*_PLAIN, *_FACTORIES)
        raise UserError(f"unknown divergence {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    try:
        return _FACTORIES[name](**parameters)
    except (TypeError, ValueError) as error:
        raise UserError(str(error)) from None


def mixture(first_log_probs: Tensor, second_log_probs: Tensor, weight: float | Tensor) -> Tensor:
    """log(weight a + (1 - weight) b) of two distributions [..., V], without leaving the log domain.

    ``weight`` is in [0, 1], one number or one a row [...]. A class of probability 0 is handled as everywhere here.
    """
    return _mixture(*_both(first_log_probs, second_log_probs), weight)


def _jsd(student_log_probs: Tensor, teacher_log_probs: Tensor, *, beta: float) -> Tensor:
    log_q, log_p = _both(student_log_probs, teacher_log_probs)
    log_m = _mixture(log_p, log_q, beta)
    return beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m)


def _skew_forward_kl(student_log_probs: Tensor, teacher_log_probs: Tensor, *, alpha: float | Tensor) -> Tensor:
    log_q, log_p = _both(student_log_probs, teacher_log_probs)
    return _kl(log_p, _mixture(log_p, log_q, alpha))


def _skew_reverse_kl(
    student_log_probs: Tensor, teacher_log_probs: Tensor, *, alpha: float | Tensor, detach_student: bool
) -> Tensor:
    log_q, log_p = _both(student_log_probs, teacher_log_probs)
    return _kl(log_q, _mixture(log_q.detach() if detach_student else log_q, log_p, alpha))


def _interpolated(
    student_log_probs: Tensor, teacher_log_probs: Tensor, *, divergence: Divergence, share: float
) -> Tensor:
    return divergence(student_log_probs, between(student_log_probs, teacher_log_probs, share))


def between(student_log_probs: Tensor, teacher_log_probs: Tensor, share: float) -> Tensor:
    """The log-probs of the target of `interpolated`; log-probs differ from logits by what a softmax takes away."""
    log_q, log_p = _both(student_log_probs, teacher_log_probs)
    return torch.lerp(log_q.detach(), log_p, share).log_softmax(-1)


def _alpha_beta(student_log_probs: Tensor, teacher_log_probs: Tensor, *, alpha: float, beta: float) -> Tensor:
    log_q, log_p = _both(student_log_probs, teacher_log_probs)
    total = alpha + beta
    if _zero(alpha) and _zero(beta):
        terms = 0.5 * (log_p - log_q).square()
    elif _zero(beta):
        terms = _one_power(log_p, log_q, alpha)
    elif _zero(alpha):
        terms = _one_power(log_q, log_p, beta)
    elif _zero(total):
        ratio = alpha * (log_p - log_q)
        terms = (torch.expm1(ratio) - ratio) / alpha**2
    else:
        own = (alpha * (total * log_p).exp() + beta * (total * log_q).exp()) / total
        terms = (own - (alpha * log_p + beta * log_q).exp()) / (alpha * beta)
    return terms.sum(-1)


def _one_power(log_a: Tensor, log_b: Tensor, power: float) -> Tensor:
    """The alpha-beta divergence whose other exponent is 0: [a^w log(a^w / b^w) - a^w + b^w] / w^2."""
    a, b = (power * log_a).exp(), (power * log_b).exp()
    return (a * power * (log_a - log_b) - a + b) / power**2


def _mixture(log_a: Tensor, log_b: Tensor, weight: float | Tensor) -> Tensor:
    share = weight.unsqueeze(-1) if isinstance(weight, Tensor) else log_a.new_tensor(weight)
    return torch.logaddexp(log_a + share.log(), log_b + torch.log1p(-share))


def _kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def _both(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    if student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"the student has {student.shape[-1]} classes, the teacher {teacher.shape[-1]}; cut both to what they share"
        )
    return _without_zeros(student), _without_zeros(teacher)


def _without_zeros(log_probs: Tensor) -> Tensor:
    """-inf becomes LOG_ZERO, in one pass; a NaN stays one, to be found."""
    return in_float32(log_probs).nan_to_num(nan=math.nan, posinf=math.inf, neginf=LOG_ZERO)


def _zero(exponent: float) -> bool:
    return abs(exponent) < 1e-3


def _need_share(name: str, alpha: float | Tensor) -> None:
    if not isinstance(alpha, Tensor) and not 0 <= alpha < 1:
        raise ValueError(f"{name} takes an alpha in [0, 1), not {alpha}")
