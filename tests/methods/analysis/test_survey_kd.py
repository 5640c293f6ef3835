"""The general survey: its axes, and the equations that its docstring gives for the plainest forms.

.venv/bin/python -m pytest tests/methods/analysis/test_survey_kd.py
"""

import math

import pytest
import torch

from stillroom import catalog
from stillroom.methods.analysis.survey_kd import general_axes
from stillroom.objectives import angle_relation, attention_map, distance_relation, divergence_loss, gram_relation, mse

EVERY = torch.ones(3, dtype=torch.bool)


def test_the_axes_are_those_of_the_survey():
    axes = {axis.name: axis.names for axis in general_axes()}
    assert axes["knowledge"] == ("response", "feature", "relation", "none")
    assert axes["scheme"] == ("offline", "online", "self", "none")
    assert {"adversarial", "multi-teacher", "cross-modal", "graph-based", "attention-based"} < set(axes["technique"])
    assert {"data-free", "quantised", "lifelong", "searched"} < set(axes["technique"])
    assert axes["architecture"][:5] == ("simplified", "quantised", "same", "efficient", "searched")
    assert all(axis.base for axis in general_axes())


@pytest.mark.parametrize("axis", ["knowledge", "scheme", "technique", "architecture", "application"])
def test_every_value_is_taken_by_a_system(axis):
    for value in catalog.axes()[axis].names:
        assert catalog.systems(where={axis: value}), value


def test_the_catalogue_has_the_systems_that_the_survey_would_name():
    def have(**where):
        return {
            system.slug for system in catalog.systems(where={key.rstrip("_"): value for key, value in where.items()})
        }

    assert {"rkd", "l2d", "trg", "gid"} <= have(knowledge="relation")
    assert {"ctcd", "mokd", "rocketqa-v2"} <= have(scheme="online")
    assert {"ibot", "m3-embedding", "self-kd-ambiguity"} <= have(scheme="self")
    assert have(technique="quantised") == {"tsld", "ternaryllm"}
    assert have(technique="searched") == {"autodistil", "diswot"}
    assert {"boot", "kd3"} <= have(technique="data-free")
    assert {"lifelong-pretraining", "is3", "mulki"} == have(technique="lifelong")


def test_response_in_two_classes_by_hand():
    """T = 2, teacher logits (2, 0), student (0, 0): T^2 (p log(p / 0.5) + (1 - p) log((1 - p) / 0.5))."""
    p = 1 / (1 + math.exp(-1))
    student, teacher = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    found = divergence_loss(student, teacher, EVERY[:1], temperature=2.0, scale_by_t2=True).sum
    assert float(found) == pytest.approx(4 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))))


def test_a_student_that_is_the_teacher_in_another_size_has_no_relation_to_learn():
    teacher = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    student = torch.cat([torch.zeros(3, 1), 5 * teacher], 1)  # wider, and five times as large
    for relation in (distance_relation, angle_relation):
        assert float(relation(student, teacher, EVERY).sum) == pytest.approx(0, abs=1e-12)
    assert float(gram_relation(student, teacher, EVERY, normalise="rows").sum) == pytest.approx(0, abs=1e-12)
    assert float(mse(student[:, 1:], teacher, EVERY).sum) > 1  # features are not free of scale
    maps = teacher.reshape(3, 2, 1, 1).expand(3, 2, 2, 2)
    assert float(attention_map(5 * maps, maps, EVERY).sum) == pytest.approx(0, abs=1e-12)


def test_a_tag_of_another_survey_is_refused():
    from stillroom.taxonomy import checked

    with pytest.raises(ValueError, match="an unknown value 'white-box' on the axis 'knowledge'"):
        checked("x", {"knowledge": ["white-box"]}, {axis.name: axis for axis in general_axes()})
