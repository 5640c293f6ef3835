"""The run in one sentence, made of its figures: what the student keeps, what it costs, whether the teacher helped."""

from __future__ import annotations

from stillroom.report.reading import Run
from stillroom.report.schema import Evaluation, Metric, System
from stillroom.report.units import duration, number, share, times

TEACHERS, STUDENTS = "teacher\N{RIGHT SINGLE QUOTATION MARK}s", "student\N{RIGHT SINGLE QUOTATION MARK}s"


def ratio(value: float | None, reference: float | None) -> float | None:
    """``value / reference``; None where a ratio says nothing: one is unknown, or the reference is not above 0."""
    return None if value is None or reference is None or reference <= 0 else value / reference


def of_teacher(metric: Metric, value: float | None, teacher: float | None) -> str:
    """A share (``94.1 %``) where higher is better, else a factor (``1.14 ×``): 114 % would read as a gain."""
    return (share if metric.higher_is_better else times)(ratio(value, teacher))


def short(metric: Metric) -> str:
    """The title without what stands behind its comma, for a sentence or an axis."""
    return metric.title.partition(",")[0]


def better(metric: Metric, left: float, right: float) -> bool:
    """Whether ``left`` is the better value of the two."""
    return left > right if metric.higher_is_better else left < right


def speed(system: System) -> float | None:
    """Rows a second, from the median latency where throughput wasn't measured."""
    if system.cost.throughput is not None:
        return system.cost.throughput
    return ratio(1000.0, system.cost.p50_ms)


def rival(evaluation: Evaluation) -> System | None:
    """What the student has to beat: itself trained without the teacher, or else the best baseline."""
    measured = [one for one in evaluation.systems if one.role == "baseline" and evaluation.value(one) is not None]
    alone = [system for system in measured if system.without_teacher]
    sign = 1.0 if evaluation.leading.higher_is_better else -1.0
    return max(alone or measured, key=lambda system: sign * (evaluation.value(system) or 0.0), default=None)


def verdict(run: Run) -> str:
    """One sentence. Only what was measured is said."""
    evaluation = run.evaluation
    student = evaluation.role("student") if evaluation else None
    if evaluation is None or student is None or evaluation.value(student) is None:
        seconds = run.about.seconds
        return "Not evaluated" + (f" after {duration(seconds)} of training." if seconds is not None else " yet.")
    measured = ratio(evaluation.value(student), evaluation.value(evaluation.role("teacher"))) is not None
    prices = _prices(evaluation, student, "its" if measured else f"the {TEACHERS}")
    link = " with " if measured and evaluation.leading.higher_is_better else ", with "
    return _quality(evaluation, student) + (link if prices else "") + prices + _lesson(evaluation, student) + "."


def _quality(evaluation: Evaluation, student: System) -> str:
    metric = evaluation.leading
    value, goal = evaluation.value(student), evaluation.value(evaluation.role("teacher"))
    part = ratio(value, goal)
    if part is None:
        against = f" against the {TEACHERS} {number(goal, metric.unit)}" if goal is not None else ""
        return f"The student reaches {number(value, metric.unit)} in {short(metric)}{against}"
    if metric.higher_is_better:
        return f"The student {'keeps' if part <= 1 else 'reaches'} {share(part)} of the {TEACHERS} {short(metric)}"
    return f"The {STUDENTS} {short(metric)} is {times(part)} the {TEACHERS}"


def _prices(evaluation: Evaluation, student: System, whose: str) -> str:
    teacher = evaluation.role("teacher")
    if teacher is None:
        return ""
    size, pace = ratio(student.parameters, teacher.parameters), ratio(speed(student), speed(teacher))
    said = [f"{share(size, 2)} of {whose} parameters"] if size is not None else []
    said += [f"{times(pace, 2)} {whose} speed"] if pace is not None else []
    return " and ".join(said)


def _lesson(evaluation: Evaluation, student: System) -> str:
    """What training without the teacher, another baseline or no training at all would have given."""
    metric, other = evaluation.leading, rival(evaluation)
    if other is None:
        start = evaluation.role("start")
        return "" if evaluation.value(start) is None else f"; untrained it stood at {_level(evaluation, start)}"
    name = "training without the teacher" if other.without_teacher else f"the best baseline, {other.name},"
    mine, theirs = evaluation.value(student), evaluation.value(other)
    if mine is not None and theirs is not None and not better(metric, mine, theirs):
        return f"; {name} {'does better' if theirs != mine else 'does as well'}: {_level(evaluation, other)}"
    return f"; {name} reaches {_level(evaluation, other)}"


def _level(evaluation: Evaluation, system: System | None) -> str:
    """The system's primary metric in the sentence's own terms: of the teacher's, or plain where there is no ratio."""
    metric, value = evaluation.leading, evaluation.value(system)
    goal = evaluation.value(evaluation.role("teacher"))
    return number(value, metric.unit) if ratio(value, goal) is None else of_teacher(metric, value, goal)
