"""The head, the centre and the temperatures of self-distillation.

.venv/bin/python -m pytest tests/blocks/test_self_distillation.py
"""

import math

import pytest
import torch

from stillroom.blocks.self_distillation import Centre, Directions, PrototypeHead, prototype_cross_entropy, warm_up


def test_logits_are_cosines_with_directions():
    torch.manual_seed(0)
    head, vectors = PrototypeHead(4, 5, hidden=6, bottleneck=3), torch.randn(2, 7, 4)
    found = head(vectors)
    assert found.shape == (2, 7, 5) and found.abs().max() <= 1 + 1e-6
    inner = head.layers(vectors[1, 2])
    for k in range(5):
        direction = head.directions.weight[k]
        cosine = torch.nn.functional.cosine_similarity(inner, direction, dim=0)
        torch.testing.assert_close(found[1, 2, k], cosine)
    with torch.no_grad():
        head.directions.weight.mul_(7)  # lengths are fixed at 1, so they change nothing
    torch.testing.assert_close(head(vectors), found)


def test_a_frozen_last_layer_passes_gradient_on_and_takes_none():
    head = PrototypeHead(4, 5, hidden=6, bottleneck=3)
    head(torch.randn(3, 4), frozen=True)[:, 0].sum().backward()
    assert head.directions.weight.grad is None and float(head.layers[0].weight.grad.abs().sum()) > 0
    assert Directions(3, 5)(torch.randn(2, 3)).shape == (2, 5)


def test_the_loss_is_that_of_the_definition_and_only_the_student_learns():
    student = torch.tensor([[0.2, -0.1, 0.4]], requires_grad=True)
    teacher = torch.tensor([[0.3, 0.1, 0.0]], requires_grad=True)
    centre = torch.tensor([0.1, 0.0, -0.2])
    settings = {"student_temperature": 0.1, "teacher_temperature": 0.04}
    found = prototype_cross_entropy(student, teacher, centre, **settings)
    sharp = [math.exp(value / 0.04) for value in (0.2, 0.1, 0.2)]
    soft = [math.exp(value / 0.1) for value in (0.2, -0.1, 0.4)]
    expected = -sum(t / sum(sharp) * math.log(s / sum(soft)) for t, s in zip(sharp, soft, strict=True))
    assert found.tolist() == [pytest.approx(expected, rel=1e-5)]
    found.sum().backward()
    assert teacher.grad is None and float(student.grad.abs().sum()) > 0
    with pytest.raises(ValueError, match="temperatures must be > 0"):
        prototype_cross_entropy(student, teacher, centre, student_temperature=0, teacher_temperature=1)


def test_the_centre_moves_once_a_step_by_the_mean_of_all_that_was_added():
    centre, rows = Centre(3, momentum=0.9), torch.randn(6, 3)
    centre.add(rows[:2])
    centre.add(rows[2:])
    assert torch.equal(centre.value, torch.zeros(3))
    centre.update()
    torch.testing.assert_close(centre.value, 0.1 * rows.mean(0))
    centre.update()  # nothing was added since
    torch.testing.assert_close(centre.value, 0.1 * rows.mean(0))
    centre.eval().add(rows)
    centre.update()
    torch.testing.assert_close(centre.value, 0.1 * rows.mean(0))
    assert set(centre.state_dict()) == {"value"}
    with pytest.raises(ValueError, match=r"a momentum lies in \[0, 1\]"):
        Centre(3, momentum=1.5)


def test_a_centre_takes_off_what_always_wins():
    """A teacher that likes one prototype whatever it sees is, once centred, undecided."""
    centre, rows = Centre(4, momentum=0.0), torch.zeros(5, 4)
    rows[:, 2] = 3.0
    centre.add(rows)
    centre.update()
    assert torch.equal((rows - centre.value).softmax(-1), torch.full((5, 4), 0.25))


def test_a_warm_up_is_a_straight_line_and_then_flat():
    schedule = warm_up(0.04, 0.07, 0.5)
    assert [schedule(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert warm_up(0.04, 0.07, 0.0)(0.0) == 0.07
