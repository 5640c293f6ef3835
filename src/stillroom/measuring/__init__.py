"""What is measured on everybody at the end of a run: quality on held-out rows, agreement with the teacher, cost.

Named suites go beyond the recipe's own rows: retrieval over functions that were never trained on, human judgements of
likeness. Everything is measured in the same process, on the same inputs, each model through its own view of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillroom.evaluate import cost
from stillroom.measuring.disagreement import worst_disagreements as worst_disagreements
from stillroom.measuring.held_out import calibration_of, held_out
from stillroom.measuring.held_out import embed as embed
from stillroom.measuring.notes import metric_notes as metric_notes
from stillroom.measuring.notes import primary_of
from stillroom.measuring.provenance import refuse_trained_on
from stillroom.measuring.speed import peak_bytes, saved_bytes, speeds
from stillroom.measuring.suites import SUITES as SUITES
from stillroom.measuring.suites import Suite as Suite
from stillroom.measuring.suites import check_suites as check_suites
from stillroom.measuring.suites import on_rows
from stillroom.measuring.suites import pydocs_retrieval as pydocs_retrieval
from stillroom.measuring.suites import word_similarity as word_similarity
from stillroom.views.load import Opened, kind_of, open_model


@dataclass
class Measured:
    """Somebody to measure: teacher, student, baseline, or the untrained start."""

    name: str
    role: str
    opened: Opened
    train_seconds: float | None = None
    without_teacher: bool = False


def measure_all(
    everybody: list[Measured],
    validation: Any,
    names: Sequence[str],
    suites: Mapping[str, Suite],
    *,
    timed: bool = True,
) -> dict[str, Any]:
    """Measure everybody.

    Args:
        everybody: the teacher, if there is one, first.
        validation: raw held-out rows; None leaves out what needs them.
        names: of the suites to run.
        suites: what the names mean.
        timed: whether speed, size, memory and the worst disagreements are looked at too.

    Returns:
        The content of evaluation.json: ``primary``, ``metrics``, ``systems``, and ``calibration`` and ``worst`` where
        there are any.
    """
    suites = {**on_rows(validation), **suites}
    teacher = next((other for other in everybody if other.role == "teacher"), None)
    entries: list[dict[str, Any]] = []
    for one in everybody:
        one.opened.model.eval()
        metrics: dict[str, float] = {}
        for name in names:
            metrics |= suites[name](one.opened)
        if validation is not None:
            metrics |= held_out(one.opened, teacher.opened if teacher and one is not teacher else None, validation)
        entry: dict[str, Any] = {"name": one.name, "role": one.role, "metrics": metrics, "cost": {}}
        entry["parameters"] = cost.parameters(one.opened.model).total
        entry["without_teacher"] = one.without_teacher
        if one.train_seconds is not None:
            entry["cost"]["train_seconds"] = one.train_seconds
        entries.append(entry)
    found: dict[str, Any] = {"primary": primary_of(entries), "metrics": metric_notes(entries), "systems": entries}
    if timed:
        _add_costs(everybody, entries, validation)
    if timed and validation is not None:
        found["calibration"] = [
            {"system": one.name, **table} for one in everybody if (table := calibration_of(one.opened, validation))
        ]
        student = next((other for other in everybody if other.role == "student"), None)
        if teacher is not None and student is not None:
            found["worst"] = worst_disagreements(student.opened, teacher.opened, validation)
    return finite(found)


def finite(value: Any) -> Any:
    """The same data with None for NaN and infinity, which JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, list) else value


def _add_costs(everybody: list[Measured], entries: list[dict[str, Any]], rows: Any) -> None:
    """Bytes on disk; and where there are rows to run, speed (everybody in turn) and peak memory."""
    timed = speeds({one.name: one.opened for one in everybody}, rows) if rows is not None else {}
    for one, entry in zip(everybody, entries, strict=True):
        entry["disk_bytes"] = saved_bytes(one.opened)
        if (speed := timed.get(one.name)) is not None:
            entry["cost"] |= {"throughput": speed.throughput, "p50_ms": speed.p50_ms, "p95_ms": speed.p95_ms}
            entry["cost"]["peak_bytes"] = peak_bytes(one.opened, rows)


def evaluate(
    student: str,
    data: str,
    *,
    teacher: str | None = None,
    view: str | None = None,
    split: str = "test",
    limit: int | None = None,
    suites: Sequence[str] = (),
    task: str | None = None,
    allow_overlap: bool = False,
) -> dict[str, Any]:
    """Measure a saved student on held-out rows, alone or beside its teacher.

    Rows that the student was trained on, or its teacher, or a model that either comes from, are refused, as far as the
    models' folders tell what that was: what a teacher learnt by heart reaches its student on other rows.

    Args:
        student: a folder or hub id.
        data: a file, a built-in source, or a hub data set.
        teacher: a folder or hub id, of the same kind.
        view: which rows of a built-in source.
        split: of a built-in source or hub data set; files are read whole.
        limit: at most so many rows.
        suites: names of further measurements.
        task: the kind of model, where its files don't tell.
        allow_overlap: measure on rows that were trained on, all the same.

    Returns:
        The content of a run's evaluation.json.

    Raises:
        UserError: a model or the data can't be read, a suite is for another kind of model, or the rows were trained on.
    """
    from stillroom.data.files import BUILT_IN, load

    kind = task or kind_of(student)
    check_suites(suites, kind, SUITES)
    rows = load(data, view=view, split=split if data in BUILT_IN else None, limit=limit)
    everybody = [Measured("student", "student", open_model(student, kind))]
    if teacher is not None:
        everybody.insert(0, Measured("teacher", "teacher", open_model(teacher, kind)))
    if not allow_overlap:
        refuse_trained_on(student, rows, teacher)
    return measure_all(everybody, rows, suites, SUITES)
