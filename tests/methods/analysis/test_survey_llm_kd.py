"""The survey of distilling language models: its axes, its table, and that each divergence pulls as it should.

.venv/bin/python -m pytest tests/methods/analysis/test_survey_llm_kd.py
"""

import math

import pytest
import torch

from stillroom import catalog
from stillroom.methods.analysis.survey_llm_kd import ALGORITHM, ELICITATION, coverage, in_one_cell, language_axes
from stillroom.objectives import forward_kl, jsd, reverse_kl

TAGS = {
    "one": {"elicitation": ("labeling",), "algorithm": ("supervised-fine-tuning",)},
    "two": {"elicitation": ("labeling", "feature"), "algorithm": ("supervised-fine-tuning", "rank-optimisation")},
    "idle": {"elicitation": ("none",), "algorithm": ("none",)},
    "shown": {"elicitation": ("self-knowledge",), "algorithm": ("none",)},
}


def test_the_axes_are_those_of_the_survey():
    axes = {axis.name: axis for axis in language_axes()}
    ways = ("labeling", "expansion", "curation", "feature", "feedback", "self-knowledge", "none")
    assert axes["elicitation"].names == ways
    assert axes["algorithm"].names == (
        "supervised-fine-tuning",
        "divergence-and-similarity",
        "reinforcement-learning",
        "rank-optimisation",
        "none",
    )
    assert axes["vertical"].names == ("law", "medical", "finance", "science", "other") and not axes["vertical"].base
    assert len(axes["skill"].names) == 11


def test_a_system_counts_in_every_cell_that_it_stands_in():
    table = coverage(TAGS)
    assert len(table) == 6 * 4
    assert table["labeling", "supervised-fine-tuning"] == ("one", "two")
    assert table["feature", "rank-optimisation"] == ("two",)
    assert table["curation", "reinforcement-learning"] == ()
    assert in_one_cell(TAGS) == (("one",), ("two",))


def test_the_table_of_the_catalogue_has_every_distilling_system():
    tags = {system.slug: system.tags for system in catalog.systems()}
    standing = {slug for slugs in coverage(tags).values() for slug in slugs}
    assert standing == {
        slug for slug, own in tags.items() if "none" not in own["elicitation"] and "none" not in own["algorithm"]
    }
    single, several = in_one_cell(tags)
    assert standing == {*single, *several} and len(single) > len(several)


def test_well_known_systems_stand_where_the_survey_puts_them():
    table = coverage({system.slug: system.tags for system in catalog.systems()})
    assert "minillm" in table["feature", "reinforcement-learning"]
    assert {"taid", "gkd", "uld"} <= set(table["feature", "divergence-and-similarity"])
    assert {"socratic-cot", "universalner"} <= set(table["labeling", "supervised-fine-tuning"])
    assert "lion" in table["feedback", "supervised-fine-tuning"]
    assert {"plad"} <= set(table["labeling", "rank-optimisation"])
    assert "system2-to-system1" in table["self-knowledge", "supervised-fine-tuning"]


def test_systems_behind_an_interface_do_not_read_its_numbers():
    for system in catalog.systems(where={"access": "black-box"}):
        if system.tags["access"] == ("black-box",) and set(system.tags["scheme"]) == {"offline"}:
            assert "feature" not in system.tags["elicitation"], system.slug


def test_divergences_of_three_classes_agree_with_sums_written_out():
    p, q = [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]
    student, teacher = (torch.tensor([values], dtype=torch.float64).log() for values in (q, p))

    def kl(a, b):
        return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True))

    middle = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
    assert float(forward_kl(student, teacher)) == pytest.approx(kl(p, q))
    assert float(reverse_kl(student, teacher)) == pytest.approx(kl(q, p))
    assert float(jsd(0.5)(student, teacher)) == pytest.approx((kl(p, middle) + kl(q, middle)) / 2)


def test_forward_kl_covers_both_of_two_modes_and_reverse_kl_seeks_one():
    """Three classes, the teacher has (0.49, 0.02, 0.49); one student spreads, the other takes one mode."""
    teacher = torch.tensor([[0.49, 0.02, 0.49]], dtype=torch.float64).log()
    spread, one = (torch.tensor([row], dtype=torch.float64).log() for row in ([1 / 3] * 3, [0.96, 0.02, 0.02]))
    assert float(forward_kl(spread, teacher)) < float(forward_kl(one, teacher))
    assert float(reverse_kl(spread, teacher)) > float(reverse_kl(one, teacher))


def test_a_wrong_tag_is_refused():
    from stillroom.taxonomy import checked

    with pytest.raises(
        ValueError, match="unknown value 'labelling' on the axis 'elicitation'; did you mean 'labeling'"
    ):
        checked(
            "x", {"elicitation": ["labelling"], "algorithm": ["none"]}, {a.name: a for a in (ELICITATION, ALGORITHM)}
        )
