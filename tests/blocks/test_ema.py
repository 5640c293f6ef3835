"""The moving average of a model.

Run: pytest tests/blocks/test_ema.py
"""

import pytest
import torch
from torch import nn

from stillroom.blocks import EMA, cosine_momentum


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))


def move(module):
    with torch.no_grad():
        for value in (*module.parameters(), *module.buffers()):
            value += 1


def test_it_starts_equal_and_moves_by_its_momentum():
    followed = model()
    ema = EMA(followed, momentum=0.9)
    before = followed[0].weight.detach().clone()
    assert torch.equal(ema.copy[0].weight, before)
    move(followed)
    ema.update(followed)
    torch.testing.assert_close(ema.copy[0].weight, 0.9 * before + 0.1 * (before + 1))
    ema.update(followed)
    torch.testing.assert_close(ema.copy[0].weight, 0.81 * before + 0.19 * (before + 1))
    assert torch.equal(ema.copy[1].running_mean, followed[1].running_mean)


@pytest.mark.parametrize(("momentum", "same"), [(1.0, "start"), (0.0, "model")])
def test_the_ends_of_the_momentum(momentum, same):
    followed = model()
    start = followed[0].weight.detach().clone()
    ema = EMA(followed, momentum)
    move(followed)
    ema.update(followed)
    assert torch.equal(ema.copy[0].weight, start if same == "start" else followed[0].weight)


def test_a_schedule_is_followed():
    momentum = cosine_momentum(0.996, 1.0)
    assert [momentum(progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([0.996, 0.998, 1.0])
    ema = EMA(model(), momentum)
    assert ema.momentum_at(0.5) == pytest.approx(0.998)
    with pytest.raises(ValueError, match=r"\[0, 1\], not at 1.5"):
        EMA(model(), 1.5).update(model())


def test_it_gives_and_takes_no_gradient_and_stays_in_eval_mode():
    followed = model()
    ema = EMA(followed).train()
    assert not any(module.training for module in ema.modules())
    inputs = torch.randn(4, 3, requires_grad=True)
    assert not ema(inputs).requires_grad
    assert torch.equal(ema(inputs), ema(inputs))  # no dropout
    assert not any(parameter.requires_grad for parameter in ema.parameters())
    assert all(parameter.requires_grad for parameter in followed.parameters())


def test_its_state_is_what_a_resumed_run_goes_on_from():
    followed = model()
    ema, other = EMA(followed, 0.9), EMA(model(), 0.9)
    move(followed)
    ema.update(followed)
    other.load_state_dict(ema.state_dict())
    for one in (ema, other):
        one.update(followed)
    assert all(torch.equal(a, b) for a, b in zip(ema.state_dict().values(), other.state_dict().values(), strict=True))


def test_another_model_is_refused():
    with pytest.raises(ValueError, match="zip"):
        EMA(model()).update(nn.Linear(3, 2, bias=False))
