"""Data laundering: the loss by hand, its two ends, and what is refused.

.venv/bin/python -m pytest tests/methods/analysis/test_data_laundering.py
"""

import math

import pytest
import torch

from stillroom.method import Step
from stillroom.methods.analysis.data_laundering import DataLaundering
from stillroom.signals import Batch, Signals

OURS = [[1.0, 0.0, 2.0, 0.0], [0.5, 0.5, 0.0, 0.0]]
THEIRS = [[2.0, 0.0, 0.0, 1.0], [0.5, -0.5, 9.0, 9.0]]
REAL = [[True] * 4, [True, True, False, False]]  # the second item has two choices


def parts(**settings):
    objective = DataLaundering(**settings)
    candidates = torch.tensor(REAL)
    batch = Batch(ids=["a", "b"], student={}, mask=torch.tensor([True, True]), columns={"candidates": candidates})
    teacher = Signals(scores=torch.tensor(THEIRS)) if objective.needs.teacher else None
    found = objective.parts(Signals(scores=torch.tensor(OURS)), teacher, batch, Step(0, 1))
    return {name: float(part.mean) for name, part in found.items()}, objective


def softmax(values, heat=1.0):
    powers = [math.exp(value / heat) for value in values]
    return [power / sum(powers) for power in powers]


def test_scores_are_matched_item_by_item():
    found, objective = parts()
    assert found == {"distil": pytest.approx(((1 + 0 + 4 + 1) / 4 + (0 + 1) / 2) / 2)}
    assert objective.weights["distil"] == 1


def test_softened_choices_are_matched_with_the_temperature_squared():
    found, _ = parts(loss="kl", temperature=2.0)
    wanted = 0.0
    for ours, theirs, count in zip(OURS, THEIRS, (4, 2), strict=True):
        p, q = softmax(theirs[:count], 2), softmax(ours[:count], 2)
        wanted += 4 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 2
    assert found == {"distil": pytest.approx(wanted, rel=1e-5)}


def test_without_a_teacher_it_is_plain_training_on_labels():
    found, objective = parts(alpha=0.0)
    wanted = -(math.log(softmax(OURS[0])[0]) + math.log(softmax(OURS[1][:2])[0])) / 2
    assert found == {"labels": pytest.approx(wanted, rel=1e-5)} and objective.needs.teacher == ()


def test_between_the_ends_both_count():
    found, objective = parts(alpha=0.3)
    assert set(found) == {"distil", "labels"} and objective.weights == {"distil": 0.3, "labels": 0.7}


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\]"):
        DataLaundering(alpha=1.5)
    with pytest.raises(ValueError, match="loss must be mse or kl; it is 'ce'"):
        DataLaundering(loss="ce")
