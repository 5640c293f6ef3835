"""Self-consistency: the answer that most of several solutions come to."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from stillroom.verify.answers import TOLERANCE, same_number


def vote(
    answers: Sequence[Fraction | None], weights: Sequence[float] | None = None, *, tolerance: float = TOLERANCE
) -> Fraction | None:
    """The answer with the most votes; of equal ones that which came first. None where nobody has an answer.

    Wang et al. 2023, "Self-Consistency Improves Chain of Thought Reasoning in Language Models".

    Args:
        answers: numbers; None abstains.
        weights: of each answer, at least 0; 1 if not given.
        tolerance: numbers that differ by no more are one.

    Raises:
        ValueError: another number of weights than answers, or a negative weight.
    """
    given = [1.0] * len(answers) if weights is None else list(weights)
    if len(given) != len(answers) or min(given, default=0) < 0:
        raise ValueError(f"give each of {len(answers)} answers one weight of at least 0; there are {given[:5]}")
    groups: list[tuple[Fraction, float]] = []
    for answer, weight in zip(answers, given, strict=True):
        if answer is None:
            continue
        for place, (like, votes) in enumerate(groups):
            if same_number(like, answer, tolerance):
                groups[place] = (like, votes + weight)
                break
        else:
            groups.append((answer, weight))
    return max(groups, key=lambda group: group[1])[0] if groups else None
