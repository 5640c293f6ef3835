"""The survey by access: its axes, and the checklist of a table of results by hand.

.venv/bin/python -m pytest tests/methods/analysis/test_survey_llm_kd_methods.py
"""

import pytest

from stillroom import catalog
from stillroom.methods.analysis.survey_llm_kd_methods import access_axes, checklist


def line(name, value, parameters, queries=0, train_seconds=None):
    return {
        "name": name,
        "value": value,
        "parameters": parameters,
        "queries": queries,
        "train_seconds": train_seconds,
    }


ENTRIES = [line("large", 0.8, 1000, 0, 60.0), line("alone", 0.5, 100, 0, 10.0), line("small", 0.65, 100, 400, 25.0)]


def test_the_axes_are_those_of_the_survey_and_its_grey_between():
    axes = {axis.name: axis.names for axis in access_axes()}
    assert axes["access"] == ("white-box", "grey-box", "black-box", "none")
    assert axes["transfer"][:2] == ("logits-based", "hint-based")
    assert axes["transfer"][2:5] == ("in-context-learning", "chain-of-thought", "instruction-following")


def test_applications_of_both_surveys_stand_on_one_axis():
    names = catalog.axes()["application"].names
    assert {"visual-recognition", "nlp", "speech", "other"} | {"domain", "multimodal", "on-device"} < set(names)


def test_the_checklist_by_hand():
    teacher, alone, small = checklist(ENTRIES, teacher="large", alone="alone")
    assert (small.retained, small.gap_closed) == (pytest.approx(0.8125), pytest.approx(0.5))
    assert (small.compression, small.queries, small.cost) == (10.0, 400, 2.5)
    assert (alone.gap_closed, alone.cost) == (0.0, 1.0)
    assert (teacher.retained, teacher.gap_closed, teacher.compression, teacher.cost) == (1.0, 1.0, 1.0, 6.0)


def test_of_a_loss_no_share_is_retained_but_the_gap_is_closed():
    small = checklist(
        [line("large", 2.0, 10), line("alone", 6.0, 5), line("small", 3.0, 5)],
        teacher="large",
        alone="alone",
        higher_is_better=False,
    )[2]
    assert (small.retained, small.gap_closed, small.cost) == (None, 0.75, None)


def test_where_the_teacher_is_no_better_there_is_no_gap():
    assert (
        checklist([line("large", 0.5, 10), line("alone", 0.5, 5)], teacher="large", alone="alone")[1].gap_closed is None
    )


def test_a_table_without_the_plain_student_is_refused():
    with pytest.raises(
        ValueError, match="needs the teacher and the student without it; 'alone' is not among large, small"
    ):
        checklist([ENTRIES[0], ENTRIES[2]], teacher="large", alone="alone")
