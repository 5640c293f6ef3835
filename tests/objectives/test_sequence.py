"""Log-probs of labels and cross-entropy, against the definition.

Run: pytest tests/objectives/test_sequence.py
"""

import math

import pytest
import torch
from tests.objectives.cases import LABELS, TOKENS, normal
from tests.oracles import objectives as oracle

from stillroom import objectives as ob

LOGITS = normal(1, 3, 4, 5)
SAFE = LABELS.where(TOKENS, -100).clamp(max=4)


def expected_log_probs():
    rows = torch.zeros(3, 4, dtype=torch.float64)
    for place in oracle.masked_places(TOKENS.numpy()):
        rows[place] = math.log(oracle.softmax(LOGITS[place].tolist())[SAFE[place]])
    return rows


def test_three_tokens_by_hand():
    logits = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [math.log(3), 0.0]]])
    labels = torch.tensor([[0, 1, 0]])
    by_hand = [-math.log(1 + math.exp(-1)), -math.log(2), math.log(3 / 4)]
    assert ob.token_log_probs(logits, labels, torch.ones(1, 3)).tolist()[0] == pytest.approx(by_hand)
    assert float(ob.cross_entropy(logits, labels, torch.ones(1, 3)).mean) == pytest.approx(-sum(by_hand) / 3)


def test_token_log_probs():
    torch.testing.assert_close(ob.token_log_probs(LOGITS, SAFE, TOKENS), expected_log_probs())


def test_sequences_are_summed_or_averaged_over_their_own_tokens():
    rows = expected_log_probs()
    torch.testing.assert_close(ob.sequence_log_prob(LOGITS, SAFE, TOKENS), rows.sum(1))
    means = torch.stack([rows[0].sum() / 2, rows[1].sum() / 2, torch.zeros((), dtype=torch.float64)])
    torch.testing.assert_close(ob.sequence_log_prob(LOGITS, SAFE, TOKENS, reduce="mean"), means)
    with pytest.raises(ValueError, match="'sum' or 'mean', not 'max'"):
        ob.sequence_log_prob(LOGITS, SAFE, TOKENS, reduce="max")


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy(smoothing):
    loss = ob.cross_entropy(LOGITS, SAFE, TOKENS, label_smoothing=smoothing)
    expected = oracle.cross_entropy_sum(LOGITS.numpy(), SAFE.numpy(), TOKENS.numpy(), smoothing)
    assert float(loss.sum) == pytest.approx(expected, rel=1e-12)
    assert int(loss.count) == 4


def test_a_long_row_weighs_as_much_as_a_short_one_in_a_sequence_mean():
    values = torch.tensor([[1.0, 1.0, 1.0], [4.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    loss = ob.sequence_mean(values, mask)
    assert float(loss.sum) == 5 and int(loss.count) == 2
    assert ob.row_means(values, mask).tolist() == [1, 4, 0]


@pytest.mark.parametrize("label", [-100, 5])
def test_a_label_outside_the_vocabulary_is_refused_where_it_counts(label):
    labels = SAFE.clone()
    labels[0, 0] = label
    with pytest.raises(ValueError, match=r"must lie in \[0, 5\)"):
        ob.cross_entropy(LOGITS, labels, TOKENS)


def test_a_share_of_smoothing_is_a_share():
    with pytest.raises(ValueError, match=r"share in \[0, 1\], not 2"):
        ob.cross_entropy(LOGITS, SAFE, TOKENS, label_smoothing=2)
