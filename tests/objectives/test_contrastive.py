"""Contrastive losses, against the definition written out row by row.

Run: pytest tests/objectives/test_contrastive.py
"""

import math

import pytest
import torch
from tests.objectives.cases import ROWS, normal
from tests.oracles import objectives as oracle

from stillroom import objectives as ob

ANCHORS, TARGETS = normal(1, 6, 4), normal(2, 6, 4)
KEPT = [i for i in range(6) if ROWS[i]]
A, T = ANCHORS.numpy(), TARGETS.numpy()


def one_sided(
    first, second, scale=1.0, margin=0.0, similarity=oracle.cosine, allowed=lambda i, j: True, more=lambda i: ()
):
    total = 0.0
    for i in KEPT:
        columns = [j for j in KEPT if allowed(i, j) or i == j]
        scores = [scale * (similarity(first[i], second[j]) - margin * (i == j)) for j in columns]
        scores += [scale * similarity(first[i], other) for other in more(i)]
        total += oracle.contrast(scores, [j == i for j in columns] + [False] * len(more(i)))
    return total


def test_the_positive_against_the_batch():
    loss = ob.info_nce(ANCHORS, TARGETS, ROWS, scale=20.0)
    assert float(loss.sum) == pytest.approx(one_sided(A, T, scale=20.0))
    assert int(loss.count) == 4


def test_two_rows_by_hand():
    """Two orthogonal pairs: each anchor gives its own target e / (e + 1)."""
    rows = torch.eye(2)
    loss = ob.info_nce(rows, rows, torch.ones(2))
    assert float(loss.mean) == pytest.approx(math.log(1 + math.exp(-1)))
    assert float(ob.two_sided_info_nce(rows, rows, torch.ones(2)).mean) == pytest.approx(float(loss.mean))


def test_inner_products_and_a_margin():
    loss = ob.info_nce(ANCHORS, TARGETS, ROWS, scale=2.0, margin=0.3, normalise=False)
    assert float(loss.sum) == pytest.approx(one_sided(A, T, scale=2.0, margin=0.3, similarity=lambda a, b: a @ b))


def test_others_of_the_same_class_are_no_negatives():
    classes = torch.tensor([0, 1, 0, 1, 0, 1])
    loss = ob.info_nce(ANCHORS, TARGETS, ROWS, allowed=classes[:, None] != classes)
    assert float(loss.sum) == pytest.approx(one_sided(A, T, allowed=lambda i, j: bool(classes[i] != classes[j])))


def test_a_queue_and_hard_negatives():
    queue, own = normal(3, 5, 4), normal(4, 6, 2, 4)
    with_queue = ob.info_nce(ANCHORS, TARGETS, ROWS, negatives=queue)
    assert float(with_queue.sum) == pytest.approx(one_sided(A, T, more=lambda i: queue.numpy()))
    with_own = ob.info_nce(ANCHORS, TARGETS, ROWS, negatives=own)
    assert float(with_own.sum) == pytest.approx(one_sided(A, T, more=lambda i: own[i].numpy()))
    fewer = torch.tensor([[1, 0]] * 6)
    with_fewer = ob.info_nce(ANCHORS, TARGETS, ROWS, negatives=own, negative_mask=fewer)
    assert float(with_fewer.sum) == pytest.approx(one_sided(A, T, more=lambda i: own[i, :1].numpy()))


def test_an_empty_queue_adds_nothing():
    empty = torch.zeros(0, 4, dtype=torch.float64)
    assert ob.info_nce(ANCHORS, TARGETS, ROWS, negatives=empty).sum == ob.info_nce(ANCHORS, TARGETS, ROWS).sum


def test_the_other_anchors_as_negatives():
    """Same-tower negatives (Gecko): a mask per row leaves the anchor itself out."""
    others = ROWS & ~torch.eye(6).bool()
    loss = ob.info_nce(ANCHORS, TARGETS, ROWS, negatives=ANCHORS, negative_mask=others)
    assert float(loss.sum) == pytest.approx(one_sided(A, T, more=lambda i: [A[j] for j in KEPT if j != i]))


def test_several_positives_and_rows_without_any():
    positives = torch.zeros(6, 6).bool()
    positives[0, 2] = positives[0, 3] = positives[2, 4] = positives[3, 1] = True  # column 1 is padding
    loss = ob.info_nce(ANCHORS, TARGETS, ROWS, positives=positives, columns=ROWS)
    expected = sum(
        oracle.contrast([oracle.cosine(A[i], T[j]) for j in KEPT], [bool(positives[i, j]) for j in KEPT])
        for i in (0, 2)
    )
    assert float(loss.sum) == pytest.approx(expected)
    assert int(loss.count) == 2


def test_more_targets_than_anchors():
    positives = torch.zeros(2, 6).bool()
    positives[0, 0] = positives[1, 3] = True
    loss = ob.info_nce(ANCHORS[:2], TARGETS, torch.ones(2), positives=positives)
    scores = [[oracle.cosine(A[i], T[j]) for j in range(6)] for i in range(2)]
    expected = oracle.contrast(scores[0], positives[0]) + oracle.contrast(scores[1], positives[1])
    assert float(loss.sum) == pytest.approx(expected)
    with pytest.raises(ValueError, match="2 anchors and 6 targets do not pair up"):
        ob.info_nce(ANCHORS[:2], TARGETS, torch.ones(2))


def test_two_sides_are_the_mean_of_one_side_each_way():
    loss = ob.two_sided_info_nce(ANCHORS, TARGETS, ROWS, scale=5.0, margin=0.1)
    expected = (one_sided(A, T, scale=5.0, margin=0.1) + one_sided(T, A, scale=5.0, margin=0.1)) / 2
    assert float(loss.sum) == pytest.approx(expected)
    assert int(loss.count) == 4


def test_two_sides_turn_their_pair_masks_round():
    allowed, positives = torch.ones(6, 6).tril().bool(), torch.zeros(6, 6).bool()
    positives[0, 3] = True
    there = ob.two_sided_info_nce(ANCHORS, TARGETS, ROWS, allowed=allowed, positives=positives)
    turned = ob.two_sided_info_nce(TARGETS, ANCHORS, ROWS, allowed=allowed.T, positives=positives.T)
    torch.testing.assert_close(there.sum, turned.sum)
    for wrong in ({"allowed": allowed, "positives": positives.T}, {"allowed": allowed.T, "positives": positives}):
        assert abs(float(there.sum - ob.two_sided_info_nce(TARGETS, ANCHORS, ROWS, **wrong).sum)) > 1e-3


def test_sigmoid_pairs_by_the_definition():
    positives = torch.eye(6).bool()
    positives[0, 3] = True
    loss = ob.sigmoid_pairs(ANCHORS, TARGETS, positives, ROWS, columns=ROWS, scale=10.0, bias=-5.0)
    expected = sum(
        oracle.logistic((1 if positives[i, j] else -1) * (10 * oracle.cosine(A[i], T[j]) - 5))
        for i in KEPT
        for j in KEPT
    )
    assert float(loss.sum) == pytest.approx(expected)
    assert int(loss.count) == 4


def test_a_learned_scale_gets_a_gradient():
    scale = torch.tensor(2.0, requires_grad=True)
    ob.info_nce(ANCHORS, TARGETS, ROWS, scale=scale).sum.backward()
    assert scale.grad != 0


def test_huge_scores_stay_finite():
    scores = torch.tensor([[1e4, -1e4], [3e4, 2e4]], requires_grad=True)
    loss = ob.softmax_contrast(scores, torch.eye(2).bool(), torch.ones(2)).sum
    loss.backward()
    assert loss.item() == pytest.approx(1e4)
    assert torch.isfinite(scores.grad).all()
