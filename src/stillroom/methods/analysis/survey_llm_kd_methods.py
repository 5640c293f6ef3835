"""Distillation of language models by access to the teacher, and what every result of one should tell.

**Paper**: Yang, Lu, Zhu, Wang, Chen, Gao, Yan and Chen 2024, "Survey on Knowledge Distillation for Large Language
Models: Methods, Evaluation, and Application" (ACM Transactions on Intelligent Systems and Technology, arXiv
2407.01885).

**Idea**: What can be done depends on how far the teacher can be looked into. With its internals at hand (white box),
logits or hints are matched; where it only writes (black box), its answers, its chains of thought or its use of context
are imitated. Results can be compared only if they tell the same things.

**Objective**: a line of the checklist holds, for a student s beside its teacher t and the same student 0 that was
trained without it on the same data for as many steps,

    retained     value_s / value_t                         share of the teacher's, where more is better
    gap closed   (value_s - value_0) / (value_t - value_0)
    compression  parameters_t / parameters_s
    queries      inputs on which the teacher was asked
    cost         seconds of training over those of student 0

**Kept and changed**: A third kind of access stands between the survey's two, as numbers that a service gives out with
its answers (log-probabilities of the likeliest tokens, class probabilities, scores, vectors) are less than the
teacher's logits and more than its text: ``grey-box``. What is copied from images, labels or trees is none of the
survey's ways of a black box, and is ``other``. The survey also lists task families to measure on; which of them a
ground covers is told by its metrics. Retained share and gap closed are left out where they have no meaning: where less
is better, and where teacher and student 0 are equal.

**Use it when**: the teacher decides the method, as when it is behind an interface:
``stillroom methods --where access=black-box``. The checklist is for a table of your own results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stillroom.taxonomy import NOTHING, Axis, Value

__all__ = ["access_axes", "Line", "checklist"]  # noqa: RUF022 - the first name is the method

ACCESS = Axis(
    "access",
    "What must one have of the teacher, or of the large model that is worked with?",
    (
        Value("white-box", "Its weights: hidden states, attention, whole distributions over a vocabulary, gradients."),
        Value(
            "grey-box",
            "Numbers that it gives out with its answers: log-probabilities of the likeliest tokens, class "
            "probabilities, scores of candidates, embeddings.",
        ),
        Value("black-box", "What it says, and no more: text, labels, trees."),
        Value(NOTHING, "No model but the one in training: there is no teacher, or the student is its own."),
    ),
)

TRANSFER = Axis(
    "transfer",
    "By which way does it cross?",
    (
        Value("logits-based", "Distributions and scores in the space of outputs are matched."),
        Value("hint-based", "Features, attention, embeddings or relations are matched."),
        Value("in-context-learning", "What demonstrations in the prompt taught the teacher goes into the student."),
        Value("chain-of-thought", "The student learns to reason as the teacher wrote it down."),
        Value("instruction-following", "The student learns from the teacher's answers to instructions."),
        Value("other", "Texts, labels or choices in none of these ways."),
        Value(NOTHING, "Nothing crosses."),
    ),
)

APPLICATION = Axis(
    "application",
    "What is it for?",
    (
        Value("domain", "One field of knowledge or trade."),
        Value("multimodal", "Language together with images, clips or speech."),
        Value("on-device", "Phones and other small machines: size and latency are the point."),
        Value("retrieval-and-agents", "Search, answers from retrieved text, tools."),
    ),
)


def access_axes() -> tuple[Axis, ...]:
    """The axes of this survey: ``access``, ``transfer``, and its part of ``application``."""
    return (ACCESS, TRANSFER, APPLICATION)


@dataclass(frozen=True)
class Line:
    """One row of the checklist; what has no meaning is None.

    Attributes:
        name: of the system.
        value: of the metric.
        retained: share of the teacher's value.
        gap_closed: share of the way from the student without a teacher to the teacher.
        compression: how many times fewer parameters than the teacher.
        queries: inputs on which the teacher was asked.
        cost: training time over that of the student without a teacher.
    """

    name: str
    value: float
    retained: float | None
    gap_closed: float | None
    compression: float
    queries: int
    cost: float | None


def checklist(
    entries: Sequence[Mapping[str, float | int | str | None]],
    *,
    teacher: str,
    alone: str,
    higher_is_better: bool = True,
) -> list[Line]:
    """What a table of results must tell, a line a system.

    Args:
        entries: each with ``name``, ``value``, ``parameters``, ``queries`` and ``train_seconds`` (None where nothing
            was trained).
        teacher: the name of the teacher's entry.
        alone: the name of the entry of the student that was trained without it.
        higher_is_better: of the value.

    Raises:
        ValueError: the teacher, or the student without it, is missing; then there is no table.
    """
    by_name = {str(entry["name"]): entry for entry in entries}
    if missing := [name for name in (teacher, alone) if name not in by_name]:
        raise ValueError(
            f"a table of results needs the teacher and the student without it; {missing[0]!r} is not among "
            f"{', '.join(by_name)}"
        )
    top, floor = (float(by_name[name]["value"] or 0.0) for name in (teacher, alone))
    seconds = by_name[alone]["train_seconds"]
    lines = []
    for name, entry in by_name.items():
        value, spent = float(entry["value"] or 0.0), entry["train_seconds"]
        lines.append(
            Line(
                name=name,
                value=value,
                retained=value / top if higher_is_better and top else None,
                gap_closed=(value - floor) / (top - floor) if top != floor else None,
                compression=float(by_name[teacher]["parameters"] or 0) / float(entry["parameters"] or 1),
                queries=int(entry["queries"] or 0),
                cost=float(spent) / float(seconds) if spent and seconds else None,
            )
        )
    return lines
