"""Projectors.

Run: pytest tests/blocks/test_projectors.py
"""

import pytest
import torch
from torch import nn

from stillroom.blocks import MLP, projector
from stillroom.errors import UserError


def test_a_linear_projector_is_only_there_where_widths_differ():
    assert isinstance(projector(8, 8), nn.Identity)
    made = projector(4, 8)
    vectors = torch.randn(2, 3, 4)
    torch.testing.assert_close(made(vectors), vectors @ made.weight.T + made.bias)


def test_an_mlp_is_linear_gelu_linear():
    made = projector(4, 6, "mlp")
    first, _, second = made.layers
    vectors = torch.randn(5, 4)
    torch.testing.assert_close(made(vectors), second(nn.functional.gelu(first(vectors))))
    assert first.out_features == 6
    assert MLP(4, 6, hidden=32).layers[0].out_features == 32
    assert sum(p.numel() for p in projector(4, 4, "mlp").parameters()) > 0


def test_what_is_refused():
    with pytest.raises(UserError, match="did you mean 'linear'"):
        projector(4, 8, "linaer")
    with pytest.raises(ValueError, match="at least 1"):
        projector(0, 8)
