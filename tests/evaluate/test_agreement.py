"""Agreement of student and teacher, against scipy, scikit-learn and figures worked out by hand.

Run: pytest tests/evaluate/test_agreement.py
"""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics.pairwise import cosine_similarity

from stillroom.evaluate import agreement
from stillroom.evaluate.running import Running


def logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def softmax(values):
    values = np.exp(values.double().numpy())
    return values / values.sum(-1, keepdims=True)


def every(shape):
    return torch.ones(shape, dtype=torch.bool)


def test_label_loyalty_counts_shared_favourites():
    student = torch.tensor([[3.0, 1, 0], [0, 2, 1], [5, 1, 1], [0, 0, 9]])
    teacher = torch.tensor([[2.0, 1, 0], [4, 2, 1], [5, 1, 1], [0, 1, 0]])
    assert agreement.label_loyalty(student, teacher, every(4)).mean == 0.5
    assert agreement.label_loyalty(student, teacher, torch.tensor([True, True, True, False])).mean == pytest.approx(
        2 / 3
    )


@pytest.mark.parametrize("base", [math.e, 2])
def test_probability_loyalty_is_one_minus_the_jensen_shannon_distance(base):
    student, teacher = logits(40, 7), logits(40, 7, seed=1)
    distances = [jensenshannon(p, q, base=base) for p, q in zip(softmax(teacher), softmax(student), strict=True)]
    found = agreement.probability_loyalty(student, teacher, every(40), base=base)
    assert found.mean == pytest.approx(1 - np.mean(distances), abs=1e-6)


def test_probability_loyalty_ends_where_the_paper_says():
    same = logits(5, 4)
    assert agreement.probability_loyalty(same, same, every(5)).mean == pytest.approx(1, abs=1e-4)
    left, right = torch.tensor([[200.0, 0]]), torch.tensor([[0.0, 200]])
    assert agreement.probability_loyalty(left, right, every(1)).mean == pytest.approx(1 - math.sqrt(math.log(2)))
    assert agreement.probability_loyalty(left, right, every(1), base=2).mean == pytest.approx(0, abs=1e-6)


def test_forward_kl_is_the_teachers():
    # Teacher (0.7, 0.2, 0.1), student (0.5, 0.3, 0.2): 0.7 ln 1.4 + 0.2 ln (2/3) + 0.1 ln 0.5.
    teacher, student = torch.tensor([[0.7, 0.2, 0.1]]).log(), torch.tensor([[0.5, 0.3, 0.2]]).log()
    by_hand = 0.7 * math.log(1.4) + 0.2 * math.log(2 / 3) + 0.1 * math.log(0.5)
    assert agreement.mean_forward_kl(student, teacher, every(1)).mean == pytest.approx(by_hand, abs=1e-6)


def test_all_three_at_once_and_in_any_batches(monkeypatch):
    monkeypatch.setattr(agreement, "ROWS_AT_ONCE", 7)
    student, teacher = logits(6, 5, 11), logits(6, 5, 11, seed=1)
    mask = torch.rand(6, 5, generator=torch.Generator().manual_seed(2)) > 0.4
    p, q = softmax(teacher)[mask.numpy()], softmax(student)[mask.numpy()]
    expected = {
        "label_loyalty": (p.argmax(-1) == q.argmax(-1)).mean(),
        "probability_loyalty": 1 - np.mean([jensenshannon(a, b) for a, b in zip(p, q, strict=True)]),
        "forward_kl": (p * np.log(p / q)).sum(-1).mean(),
    }
    for sizes in ((6,), (1, 5), (2, 2, 2)):
        running = Running()
        for part in zip(student.split(sizes), teacher.split(sizes), mask.split(sizes), strict=True):
            running.add(agreement.logit_agreement(*part))
        assert running.means() == pytest.approx(expected, abs=1e-6)


def test_what_is_masked_is_not_looked_at():
    student, teacher, mask = logits(3, 4, 5), logits(3, 4, 5, seed=1), every((3, 4))
    mask[:, 2:] = False
    clean = agreement.logit_agreement(student, teacher, mask)
    student[:, 2:], teacher[:, 2:] = math.nan, math.inf
    assert agreement.logit_agreement(student, teacher, mask) == clean


def test_an_empty_mask_counts_nothing():
    empty = agreement.label_loyalty(logits(2, 3), logits(2, 3), ~every(2))
    assert (empty.sum, empty.count) == (0, 0)
    running = Running()
    running.add({"label_loyalty": empty})
    with pytest.raises(ValueError, match="nothing was measured of label_loyalty"):
        running.means()


def test_half_precision_is_measured_in_single():
    student, teacher = logits(50, 30).bfloat16(), logits(50, 30, seed=1).bfloat16()
    wide = agreement.logit_agreement(student.float(), teacher.float(), every(50))
    assert agreement.logit_agreement(student, teacher, every(50)) == wide


def test_logits_of_other_vocabularies_are_refused():
    with pytest.raises(ValueError, match=r"\[\.\.\., C\].*\(2, 3\), \(2, 4\)"):
        agreement.label_loyalty(logits(2, 3), logits(2, 4), every(2))


def test_cosine_agreement():
    student = torch.tensor([[1.0, 0], [3, 4], [0, 0], [math.nan, 0]])
    teacher = torch.tensor([[2.0, 0], [4, 3], [1, 0], [1, 1]])
    found = agreement.cosine_agreement(student, teacher, torch.tensor([True, True, True, False]))
    assert found.mean == pytest.approx((1 + 24 / 25 + 0) / 3)
    with pytest.raises(ValueError, match="pairwise_agreement"):
        agreement.cosine_agreement(student, torch.ones(4, 3), every(4))


def test_pairwise_agreement_of_different_widths_is_spearman_of_the_upper_triangles():
    student, teacher = logits(30, 4), logits(30, 9, seed=1)
    teacher[:, :4] += student
    mask = every(30)
    mask[25:] = False
    upper = np.triu_indices(25, k=1)
    expected = spearmanr(cosine_similarity(student[:25])[upper], cosine_similarity(teacher[:25])[upper])[0]
    assert agreement.pairwise_agreement(student, teacher, mask) == pytest.approx(expected)
    sampled = agreement.pairwise_agreement(student, teacher, mask, pairs=200)
    assert sampled == agreement.pairwise_agreement(student, teacher, mask, pairs=200)
    assert sampled == pytest.approx(expected, abs=0.15)


def test_sampled_pairs_are_of_two_rows():
    first, second = agreement._pairs(1000, 5000, seed=0)
    assert len(first) == 5000
    assert (first != second).all()
    assert max(first.max(), second.max()) == 999


def test_score_loyalty():
    student = torch.tensor([[0.1, 0.5, 9.0], [0.4, 0.2, math.nan]])
    teacher = torch.tensor([[1.0, 3.0, 2.0], [2.5, 2.0, 0.0]])
    mask = torch.tensor([[True, True, False], [True, True, False]])
    chosen = ([0.1, 0.5, 0.4, 0.2], [1.0, 3.0, 2.5, 2.0])
    found = agreement.score_loyalty(student, teacher, mask)
    assert found.pearson == pytest.approx(pearsonr(*chosen)[0], abs=1e-6)
    assert found.spearman == pytest.approx(1.0)
    assert found.mean_absolute_difference == pytest.approx((0.9 + 2.5 + 2.1 + 1.8) / 4)


def test_a_collapsed_student_has_no_correlation(recwarn):
    found = agreement.score_loyalty(torch.ones(4), torch.arange(4.0), every(4))
    assert math.isnan(found.pearson)
    assert math.isnan(found.spearman)
    assert not recwarn.list
