"""TAID: Temporally Adaptive Interpolated Distillation.

**Paper**: Shing, Misaki, Bao, Yokoi and Akiba 2025, "TAID: Temporally Adaptive Interpolated Distillation for Efficient
Knowledge Transfer in Language Models" (ICLR 2025).

**Idea**: Distil towards a target that starts near the student and moves to the teacher, faster while the loss is
falling. A large teacher is then never too far ahead of a small student.

**Objective**: with student logits zS and teacher logits zT [N, V] at the N trained tokens,

    p_t = softmax((1 - t) sg(zS) + t zT),    loss = KL(p_t || softmax(zS)), averaged over tokens.

After step n = 1, 2, ... with loss J_n (that of step 0 only initialises): d = (J_{n-1} - J_n) / J_{n-1};
v <- b v + (1 - b) d; t <- min(t_end, max(t_start + (t_end - t_start) n / total, t + a sigmoid(v) (1 - t))). So t never
falls, and never stays behind a straight line from t_start to t_end.

**Kept and changed**: Logits, not probabilities, are interpolated, as in the paper and its code. The paper writes a KL,
the authors' code returns the cross-entropy: the same gradient, but the schedule reads the loss's value, so ``t`` moves
a little differently; ``parity="code"`` gives theirs. ``t`` moves once an optimiser step, whatever the accumulation.
1e-15 in the denominator is theirs too.

**Use it when**: the teacher is much larger than the student and plain KL stalls or smooths; logits of a teacher with
the same tokenizer are at hand. Not with a cache of a few top log-probs: the interpolation needs all logits.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from stillroom.method import Objective, Step
from stillroom.objectives.divergence import forward_kl, interpolated, soft_cross_entropy
from stillroom.objectives.logits import divergence_loss
from stillroom.signals import Batch, Needs, Reduced, Signals

__all__ = ["TAID"]


class TAID(Objective):
    """KL from a target between student and teacher that moves to the teacher.

    Args:
        t_start: where the target starts, in [0, 1); 0 is the student itself.
        t_end: where it ends, in (0, 1], at or above ``t_start``; 1 is the teacher.
        alpha: the largest step of t, > 0.
        beta: momentum of the relative fall of the loss, in [0, 1).
        adaptive: move ahead of the straight line while the loss falls; False follows the line.
        parity: ``paper`` returns the KL, ``code`` the cross-entropy that the authors' code returns.

    Raises:
        ValueError: a value outside its range.
    """

    needs = Needs(student=("logits",), teacher=("logits",))
    same_tokenizer: bool = True
    live_teacher: bool = True
    rowwise: ClassVar[bool] = True

    t: Tensor
    previous: Tensor
    momentum: Tensor

    def __init__(
        self,
        *,
        t_start: float = 0.4,
        t_end: float = 1.0,
        alpha: float = 5e-4,
        beta: float = 0.99,
        adaptive: bool = True,
        parity: Literal["paper", "code"] = "paper",
    ) -> None:
        super().__init__()
        if not 0 <= t_start < 1 or not 0 < t_end <= 1 or t_start > t_end:
            raise ValueError(f"0 <= t_start <= t_end <= 1 and t_start < 1 must hold; they are {t_start} and {t_end}")
        if alpha <= 0 or not 0 <= beta < 1:
            raise ValueError(f"alpha must be > 0 and beta in [0, 1); they are {alpha} and {beta}")
        if parity not in ("paper", "code"):
            raise ValueError(f"parity is 'paper' or 'code', not {parity!r}")
        self.t_start, self.t_end, self.alpha, self.beta, self.adaptive = t_start, t_end, alpha, beta, adaptive
        self.divergence = forward_kl if parity == "paper" else soft_cross_entropy
        self.register_buffer("t", torch.tensor(t_start, dtype=torch.float64))
        self.register_buffer("previous", torch.tensor(float("nan"), dtype=torch.float64))
        self.register_buffer("momentum", torch.tensor(0.0, dtype=torch.float64))

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``taid``, over trained tokens."""
        assert student.logits is not None and teacher is not None and teacher.logits is not None
        rule = interpolated(self.divergence, float(self.t) if self.training else self.t_end)
        return {"taid": divergence_loss(student.logits, teacher.logits, batch.mask, divergence=rule)}

    def after_step(self, step: Step, losses: dict[str, float]) -> None:
        """Move t."""
        line = self.t_start + (self.t_end - self.t_start) * step.number / step.total
        ahead = self.t
        if self.adaptive and self.previous > 0:  # NaN before the first step
            fall = (self.previous - losses["taid"]) / (self.previous + 1e-15)
            self.momentum.mul_(self.beta).add_((1 - self.beta) * fall)
            ahead = self.t + self.alpha * self.momentum.sigmoid() * (1 - self.t)
        self.t.copy_(ahead.clamp(min=line).clamp(max=self.t_end))
        self.previous.fill_(losses["taid"])

    def log(self) -> dict[str, float]:
        """Where the target stands."""
        return {"t": float(self.t)}
