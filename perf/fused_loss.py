"""A divergence of next-token distributions from hidden states, forward and backward: in chunks against dense logits.

Both sides start from the same hidden states and heads in float32 and end with the gradients of states and head.
"""

from __future__ import annotations

from functools import partial

from versus import Bar, Figure, extra_peak, seconds

TOKENS, VOCABULARY, STUDENT, TEACHER = 1024, 32_768, 512, 1024
BETAS = {"forward_kl": 0.0, "jsd": 0.5}


def states():
    """Hidden states and heads, drawn so that logits have a standard deviation of 2."""
    import torch

    torch.manual_seed(0)
    ours = torch.randn(1, TOKENS, STUDENT, requires_grad=True)
    head = (torch.randn(VOCABULARY, STUDENT) * 2 / STUDENT**0.5).requires_grad_()
    theirs, other = torch.randn(1, TOKENS, TEACHER), torch.randn(VOCABULARY, TEACHER) * 2 / TEACHER**0.5
    return ours, head, theirs, other


def measured(step) -> dict[str, float]:
    """Time and memory of a step, and its loss, which both sides must agree on."""
    ours, head, theirs, other = states()

    def work():
        ours.grad = head.grad = None
        return step(ours, head, theirs, other)

    loss = work()
    ours.grad = head.grad = None
    return {"extra MiB": extra_peak(work), "seconds": seconds(work), "loss": float(loss)}


def stillroom(beta: float) -> dict[str, float]:
    import torch

    from stillroom.blocks.fused import linear_divergence
    from stillroom.objectives import jsd

    mask = torch.ones(1, TOKENS, dtype=torch.bool)

    def step(ours, head, theirs, other):
        total, count = linear_divergence(ours, head, theirs, other, mask, divergence=jsd(beta))
        (total / count).backward()
        return total / count

    return measured(step)


def trl(beta: float) -> dict[str, float]:
    import torch
    from trl.experimental.gkd import GKDTrainer

    labels = torch.zeros(1, TOKENS, dtype=torch.long)

    def step(ours, head, theirs, other):
        student = ours @ head.T
        with torch.no_grad():
            teacher = theirs @ other.T
        loss = GKDTrainer.generalized_jsd_loss(student, teacher, labels=labels, beta=beta)
        loss.backward()
        return loss

    return measured(step)


def figure(name: str) -> Figure:
    beta = BETAS[name]
    return Figure(
        name=f"fused_{name}",
        work=(
            f"{name} of {TOKENS:,} tokens, {VOCABULARY:,} ids, widths {STUDENT} and {TEACHER}, with gradients for "
            "states and head"
        ),
        sides={"stillroom": partial(stillroom, beta), "TRL generalized_jsd_loss": partial(trl, beta)},
        bars=(Bar("seconds", 1.5 if beta == 0 else 2.0), Bar("extra MiB", 8.0)),
        packages=("torch", "transformers", "trl"),
    )
