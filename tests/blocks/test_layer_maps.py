"""Layer maps: each rule by hand, and what is refused.

Run: pytest tests/blocks/test_layer_maps.py
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.blocks import layer_map
from stillroom.errors import UserError


@pytest.mark.parametrize(
    ("rule", "student", "teacher", "expected"),
    [
        ("uniform", 3, 6, [(1, (2,)), (2, (4,)), (3, (6,))]),
        ("uniform", 3, 4, [(1, (1,)), (2, (3,)), (3, (4,))]),
        ("uniform", 4, 2, [(1, (1,)), (2, (1,)), (3, (2,)), (4, (2,))]),
        ("last", 3, 12, [(3, (12,))]),
        ("last-2", 3, 12, [(2, (11,)), (3, (12,))]),
        ("top-aligned", 3, 12, [(1, (10,)), (2, (11,)), (3, (12,))]),
        ("top-aligned", 3, 2, [(2, (1,)), (3, (2,))]),
        ("one-to-n", 2, 6, [(1, (1, 2, 3)), (2, (4, 5, 6))]),
        ([[1, 4], [2, [7, 8]], [0, 0], [-1, -1]], 3, 8, [(0, (0,)), (1, (4,)), (2, (7, 8)), (3, (8,))]),
    ],
)
def test_each_rule(rule, student, teacher, expected):
    assert layer_map(rule, student, teacher) == expected


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_uniform_map_rises_to_the_last_layer(student, teacher):
    pairs = layer_map("uniform", student, teacher)
    targets = [layers[0] for _, layers in pairs]
    assert [layer for layer, _ in pairs] == list(range(1, student + 1))
    assert targets == sorted(targets) and targets[-1] == teacher and targets[0] >= 1
    assert student > teacher or len(set(targets)) == student


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("unifrom", "did you mean 'uniform'"),
        ("last-5", "last 5 layers of a student with 4 and a teacher with 10; take 1 to 4"),
        ("last-0", "take 1 to 4"),
        ("one-to-n", "10 teacher layers can't be cut into 4 equal blocks"),
        ([[1, 11]], "teacher has layers 0 to 10"),
        ([[5, 1]], "student has layers 0 to 4"),
        ([[1, 2], [1, 3]], "student layer 1 must stand once"),
        ([[-1, 2], [4, 3]], "student layer 4 must stand once"),
        ([[1, []]], "at least one teacher layer"),
        ([[1, 2, 3]], "pairs of a student layer"),
        ([["1", 2]], "pairs of a student layer"),
        ([], "empty"),
    ],
)
def test_what_is_refused(rule, message):
    with pytest.raises(UserError, match=message):
        layer_map(rule, 4, 10)


def test_a_model_without_layers_is_refused():
    with pytest.raises(UserError, match="depths 0 and 12"):
        layer_map("uniform", 0, 12)
