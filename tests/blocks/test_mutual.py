"""Two models that teach each other: each side's value by hand, and that each moves itself alone.

.venv/bin/python -m pytest tests/blocks/test_mutual.py
"""

import pytest
import torch

from stillroom.blocks.mutual import mutual_divergence

MASK = torch.tensor([True, True, False])


def test_each_model_is_measured_from_the_other_and_moves_itself_alone():
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 4, generator=draw, dtype=torch.float64).requires_grad_() for _ in range(2))
    p, q = first.detach().softmax(-1), second.detach().softmax(-1)
    ours, theirs = mutual_divergence(first, second, MASK)
    assert ours.sum.item() == pytest.approx(float((q * (q / p).log())[:2].sum()))  # KL(second || first)
    assert theirs.sum.item() == pytest.approx(float((p * (p / q).log())[:2].sum()))
    assert int(ours.count) == int(theirs.count) == 2
    ours.sum.backward(retain_graph=True)
    assert second.grad is None and torch.allclose(first.grad[:2], (p - q)[:2]) and (first.grad[2] == 0).all()
    theirs.sum.backward()
    assert torch.allclose(second.grad[:2], (q - p)[:2]) and torch.allclose(first.grad[:2], (p - q)[:2])


def test_equal_models_have_nothing_to_teach():
    logits = torch.arange(12.0, dtype=torch.float64).reshape(3, 4).requires_grad_()
    ours, theirs = mutual_divergence(logits, logits.detach().clone(), MASK, temperature=3.0, scale_by_t2=True)
    assert ours.sum.item() == theirs.sum.item() == 0
