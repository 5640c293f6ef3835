"""DPO-ST: self-training whose samples come from a model that learnt to prefer its right solutions to its wrong ones.

**Paper**: Wang, Li and Lu 2024, "Self-Training with Direct Preference Optimization Improves Chain-of-Thought Reasoning"
(ACL 2024, arXiv 2407.18248). Code: TianduoWang/DPO-ST.

**Idea**: A model can learn from those of its own solutions that come to the right answer, but it finds few, and much
the same ones. Its wrong solutions are of use, too: trained by DPO to prefer the right to the wrong, it finds more and
more different right ones, and from these the model is fine-tuned anew, from its pretrained start.

**Objective**: with the prompt x, a right solution y+, a wrong one y-, the model pi and a frozen copy ref of its start,

    loss = -log sigmoid(beta [(log pi(y+|x) - log ref(y+|x)) - (log pi(y-|x) - log ref(y-|x))])

where log-probabilities are summed over the solution's tokens, end of sequence included, and the loss is averaged over
pairs. Around it the loop (`SelfTraining`): f_0 is M_0 fine-tuned on the labelled solutions; in each round f is sampled,
pairs are made of its right and wrong solutions, DPO starts from f, the DPO model is sampled, and M_0 is fine-tuned on
labelled and right new solutions, which gives the next f.

**Kept and changed**: From the code: the gold solution stands first among the right ones; of right and of wrong ones
each, a text is dropped whose words have a Jaccard index above 0.7 with one that stays; of all pairs the three with the
most different words are taken; samples of earlier rounds stay in the pool; at most as many solutions a question as the
90th percentile has, the gold one always among them. Words are what white space divides, so that signs count. Where a
question has no gold solution, its pseudo-labels alone stand for it. The code evaluates DPO on its first training pairs;
here validation rows are the recipe's. What trains and samples is passed as functions, so the loop runs with any recipe.
The authors' calculator is `stillroom.blocks.calculator`. For Flan-T5 they fine-tune 8 epochs at 3e-4 and take 150 steps
of DPO at 7e-7 (LLaMA: 100 at 3e-7), cosine to a tenth; that is a recipe's affair.

**Use it when**: answers can be checked, solutions to learn from are few, and no larger model may be asked. With
answers that are right by luck (few choices), right solutions are not right reasoning, and this learns both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn

from stillroom.blocks.reference import Reference
from stillroom.errors import UserError
from stillroom.method import Objective, Step
from stillroom.objectives.preference import dpo
from stillroom.objectives.sequence import sequence_log_prob
from stillroom.signals import Batch, Needs, Reduced, Signals, Unit, masked_sum
from stillroom.synthesis.duplicates import jaccard
from stillroom.synthesis.writers import Generate
from stillroom.verify.answers import number_in, same_number

if TYPE_CHECKING:
    from stillroom.views.base import View

__all__ = [
    "DPOSelfTraining",
    "Round",
    "SelfTraining",
    "capped",
    "distinct",
    "preference_pairs",
    "right_and_wrong",
]


class DPOSelfTraining(Objective):
    """Direct preference optimisation against a frozen copy of the student's start.

    Args:
        beta: how strongly the student is held to the copy, above 0; the larger, the nearer it stays.

    Raises:
        ValueError: beta is not above 0.
    """

    needs = Needs(student=("logits",))
    units: ClassVar[dict[str, Unit]] = {"dpo": "pair", "preferred": "pair"}
    reads: tuple[str, ...] = ("preference",)

    def __init__(self, *, beta: float = 0.1) -> None:
        super().__init__()
        if not beta > 0:
            raise ValueError(f"beta must be above 0; it is {beta}")
        self.beta = beta
        self.weights = {"dpo": 1.0, "preferred": 0.0}

    def setup(self, student: nn.Module, teacher: nn.Module | None, sample: Batch, view: View) -> None:
        """Keep a copy of the student as it is now."""
        self.reference = Reference(student, view)

    def parts(self, student: Signals, teacher: Signals | None, batch: Batch, step: Step) -> dict[str, Reduced]:
        """``dpo``, and ``preferred``, the share of pairs that the student sees rightly, which is only watched."""
        reference = self.reference(batch)
        assert student.logits is not None and reference.logits is not None and batch.labels is not None
        pairs = batch.columns["pairs"]
        mask = batch.mask.any(-1)[pairs].all(-1)
        ours = sequence_log_prob(student.logits, batch.labels, batch.mask)
        theirs = sequence_log_prob(reference.logits, batch.labels, batch.mask).to(ours.dtype)
        (chosen, rejected), (before, otherwise) = ours[pairs].unbind(1), theirs[pairs].unbind(1)
        loss = dpo(chosen, rejected, before, otherwise, mask, beta=self.beta)
        with torch.no_grad():
            right = (ours - theirs)[pairs].diff(dim=1)[:, 0] < 0
        return {"dpo": loss, "preferred": masked_sum(right.to(ours.dtype), mask)}


# --- what the loop does with samples ----------------------------------------------------------------------------------

Extract = Callable[[str], Fraction | None]


def right_and_wrong(
    texts: Sequence[str], answer: Fraction | float | str, extract: Extract = number_in
) -> tuple[list[str], list[str]]:
    """Solutions that come to the answer, and those that do not or state none; each text once, sorted.

    Args:
        texts: sampled solutions.
        answer: the right number, or a text that states it.
        extract: a solution to its number, or to None.
    """
    wanted = number_in(answer) if isinstance(answer, str) else answer
    right = {text for text in texts if same_number(extract(text), wanted)}
    return sorted(right), sorted(set(texts) - right)


def distinct(texts: Sequence[str], most: float = 0.7) -> list[str]:
    """Each text unless its words have a Jaccard index above ``most`` with those of an earlier one that stays."""
    kept: list[str] = []
    for text in texts:
        if all(_likeness(text, other) <= most for other in kept):
            kept.append(text)
    return kept


def preference_pairs(
    right: Sequence[str], wrong: Sequence[str], *, gold: str | None = None, most: float = 0.7, pairs: int = 3
) -> list[tuple[str, str]]:
    """The most different pairs of a right and a wrong solution of one question.

    Args:
        right: solutions that come to the answer.
        wrong: others.
        gold: the labelled solution, which stands before them; None where there is none.
        most: Jaccard index, in [0, 1], above which two right ones, or two wrong ones, are the same.
        pairs: at most so many, at least 1.

    Returns:
        (chosen, rejected), the most different first; none where either side is empty.

    Raises:
        ValueError: ``most`` or ``pairs`` out of range.
    """
    if not 0 <= most <= 1 or pairs < 1:
        raise ValueError(f"most must be in [0, 1] and pairs at least 1; they are {most} and {pairs}")
    good = distinct(([gold] if gold is not None else []) + sorted(set(right)), most)
    bad = distinct(sorted(set(wrong) - set(good)), most)
    every = sorted(((_likeness(one, other), one, other) for one in good for other in bad), key=lambda found: found[0])
    return [(one, other) for _, one, other in every[:pairs]]


def capped(solutions: Sequence[Sequence[str]], percentile: float = 90) -> list[list[str]]:
    """At most as many solutions of each question, the first ones, as the percentile of questions has (nearest rank).

    Args:
        solutions: of each question, best first.
        percentile: in [0, 100].
    """
    counts = [len(some) for some in solutions]
    most = int(np.percentile(counts, percentile, method="inverted_cdf")) if counts else 0
    return [list(some[:most]) for some in solutions]


def _likeness(one: str, other: str) -> float:
    return jaccard(set(one.split()), set(other.split()))


# --- the loop ---------------------------------------------------------------------------------------------------------


@dataclass
class Round:
    """What a round came to.

    Attributes:
        pairs: made for DPO; 0 without it.
        compared: questions that had any.
        right: different right solutions that were found, over all questions.
        solved: questions with at least one.
        rows: that the model was fine-tuned on.
    """

    pairs: int = 0
    compared: int = 0
    right: int = 0
    solved: int = 0
    rows: int = 0


@dataclass
class SelfTraining:
    """The loop, stage by stage; `run` goes through all of them. Without ``prefer`` it is classic self-training.

    Attributes:
        questions: {prompt, answer}, and ``completion``, the labelled solution, where there is one. At least one has it.
        fine_tune: rows {prompt, completion} -> a model. It starts from the pretrained model each time, never from the
            last one.
        sample: a model -> a function of prompts, n and temperature that gives n texts a prompt.
        prefer: a model, and rows {prompt, chosen, rejected} -> the model after DPO, with its start as the reference.
        rounds: how many, at least 1.
        samples: of each question, for pairs (without ``prefer`` for the labels), at least 1.
        relabels: of each question, from the DPO model, for the labels, at least 1.
        temperature: of sampling, above 0.
        most: Jaccard index above which two solutions are the same, in [0, 1].
        pairs: of each question, at most.
        percentile: of the counts that caps the solutions of a question, in [0, 100].
        extract: a solution to its number, or to None.
        model: the newest one.
        pool: what has been sampled of each question, in all rounds.
        history: one entry a round.
    """

    questions: Sequence[Mapping[str, Any]]
    fine_tune: Callable[[list[dict[str, str]]], Any]
    sample: Callable[[Any], Generate]
    prefer: Callable[[Any, list[dict[str, str]]], Any] | None = None
    rounds: int = 3
    samples: int = 5
    relabels: int = 3
    temperature: float = 0.7
    most: float = 0.7
    pairs: int = 3
    percentile: float = 90
    extract: Extract = number_in
    model: Any = None
    pool: list[list[str]] = field(default_factory=list)
    history: list[Round] = field(default_factory=list)

    def __post_init__(self) -> None:
        if min(self.rounds, self.samples, self.relabels, self.pairs) < 1 or not self.temperature > 0:
            raise ValueError("rounds, samples, relabels and pairs must be at least 1, and temperature above 0")
        for place, row in enumerate(self.questions):
            if number_in(str(row["answer"])) is None:
                raise UserError(f"question {place} has no number for an answer ({row['answer']!r}); leave it out")
        if not any(row.get("completion") for row in self.questions):
            raise UserError("no question has a solution (completion) to begin with; label some")
        self.pool = [[] for _ in self.questions]

    def run(self) -> Any:
        """All rounds; the last model."""
        self.warm_up()
        for _ in range(self.rounds):
            self.round()
        return self.model

    def warm_up(self) -> Any:
        """f_0: the pretrained model, fine-tuned on the labelled solutions."""
        self.model = self.fine_tune(self.labelled())
        return self.model

    def round(self) -> Any:
        """One round; the next f."""
        told = Round()
        drawn = self.draw(self.model, self.samples)
        for known, texts in zip(self.pool, drawn, strict=True):
            known += [text for text in texts if text not in known]
        if self.prefer is not None:
            rows = self.compared()
            told.pairs, told.compared = len(rows), len({row["prompt"] for row in rows})
            if not rows:
                raise UserError("no question has a wrong solution beside a right one, so there is nothing to prefer")
            drawn = self.draw(self.prefer(self.model, rows), self.relabels)
        rows, told.right, told.solved = self.relabelled(drawn)
        told.rows = len(rows)
        self.model = self.fine_tune(rows)
        self.history.append(told)
        return self.model

    def labelled(self) -> list[dict[str, str]]:
        """The rows of the labelled questions."""
        return [
            {"prompt": row["prompt"], "completion": row["completion"]}
            for row in self.questions
            if row.get("completion")
        ]

    def draw(self, model: Any, count: int) -> list[list[str]]:
        """So many solutions of each question; empty ones are left out."""
        found = self.sample(model)([row["prompt"] for row in self.questions], count, self.temperature)
        return [[text for text in texts if text.strip()] for texts in found]

    def compared(self) -> list[dict[str, str]]:
        """The preference pairs of all that has been sampled."""
        rows = []
        for row, texts in zip(self.questions, self.pool, strict=True):
            right, wrong = right_and_wrong(texts, str(row["answer"]), self.extract)
            found = preference_pairs(right, wrong, gold=row.get("completion"), most=self.most, pairs=self.pairs)
            rows += [{"prompt": row["prompt"], "chosen": one, "rejected": other} for one, other in found]
        return rows

    def relabelled(self, drawn: Sequence[Sequence[str]]) -> tuple[list[dict[str, str]], int, int]:
        """Labelled and right new solutions as rows; how many new ones there are, and of how many questions."""
        every, found, solved = [], 0, 0
        for row, texts in zip(self.questions, drawn, strict=True):
            right, _ = right_and_wrong(texts, str(row["answer"]), self.extract)
            gold = [row["completion"]] if row.get("completion") else []
            every.append(distinct([*gold, *right], self.most))
            new = len(every[-1]) - len(gold)
            found, solved = found + new, solved + bool(new)
        kept = capped([some for some in every if some], self.percentile)
        prompts = [row["prompt"] for row, some in zip(self.questions, every, strict=True) if some]
        rows = [
            {"prompt": prompt, "completion": text} for prompt, some in zip(prompts, kept, strict=True) for text in some
        ]
        return rows, found, solved
