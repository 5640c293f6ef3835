"""The queue of past vectors.

Run: pytest tests/blocks/test_queue.py
"""

import pytest
import torch

from stillroom.blocks import Queue
from stillroom.objectives import info_nce


def numbered(*values):
    return torch.tensor(values, dtype=torch.float32).unsqueeze(-1)


def test_the_newest_stand_in_front_and_the_oldest_fall_out():
    queue = Queue(4, 1)
    assert queue.rows.shape == (0, 1)
    queue.push(numbered(1, 2))
    assert queue.rows.flatten().tolist() == [1, 2]
    queue.push(numbered(3, 4, 5))
    assert queue.rows.flatten().tolist() == [3, 4, 5, 1]
    queue.push(numbered(6, 7, 8, 9, 10, 11))
    assert queue.rows.flatten().tolist() == [6, 7, 8, 9]
    queue.push(numbered())
    assert queue.rows.flatten().tolist() == [6, 7, 8, 9]


def test_a_queue_of_no_size_stays_empty():
    queue = Queue(0, 3)
    queue.push(torch.randn(5, 3))
    assert queue.rows.shape == (0, 3)
    with pytest.raises(ValueError, match="not -1 and 3"):
        Queue(-1, 3)


def test_what_it_holds_is_checkpointed():
    queue, other = Queue(3, 2), Queue(3, 2)
    queue.push(torch.randn(2, 2))
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.rows, queue.rows) and len(other.rows) == 2


def test_rows_come_in_without_their_gradient():
    queue = Queue(3, 2)
    queue.push(torch.randn(2, 2, requires_grad=True))
    assert not queue.rows.requires_grad


def test_pushing_before_the_backward_pass_does_no_harm():
    queue = Queue(3, 2)
    queue.push(torch.randn(3, 2))
    anchors = torch.randn(2, 2, requires_grad=True)
    loss = info_nce(anchors, torch.randn(2, 2), torch.ones(2), negatives=queue.rows).sum
    queue.push(anchors)
    loss.backward()
    assert torch.isfinite(anchors.grad).all()


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"width 2, not \(3, 4\)"):
        Queue(3, 2).push(torch.randn(3, 4))
