"""Distillation of large language models: how knowledge is elicited, how it is learnt, for which skill and field.

**Paper**: Xu, Li, Tao, Shen, Cheng, Li, Xu, Tao and Zhou 2024, "A Survey on Knowledge Distillation of Large Language
Models" (arXiv 2402.13116).

**Idea**: With a large language model as teacher, distillation has two halves: eliciting knowledge, for which data are
generated, and training a student on it. The two halves span a table, and most systems stand in one cell of it.

**Objective**: a skill is steered to, seed knowledge is given, the teacher generates, and the student learns

    L = sum over D of L_I(D; student),  D each a set of elicited knowledge,

with L_I of one of four kinds: supervised fine-tuning, -log p_s(y | x); divergence and similarity, D(p_t, p_s) or
|r(f_s) - f_t|; reinforcement learning, E over y of the student of a reward; rank optimisation, as of preferred y over
others.

The divergences of the survey are in `stillroom.objectives`. Towards a teacher with two modes a student with one
behaves as the direction says: forward KL covers both, reverse KL seeks one.

**Kept and changed**: Numbers that a teacher gives out (logits, scores, vectors) are ``feature`` here, its texts and
choices ``labeling``, which the survey sometimes mixes. An axis has ``none`` where it does not apply: a system that only
makes data and trains no student on them is no distillation. Systems may stand in several cells; `coverage` counts each
in all of them. The survey's list of open problems is not an axis.

**Use it when**: the teacher is a language model and you know what you can ask of it, or the skill that you need:
``stillroom methods --where elicitation=feedback --where skill=context-following``.
"""

from __future__ import annotations

from collections.abc import Mapping

from stillroom.taxonomy import NOTHING, Axis, Tags, Value

__all__ = ["language_axes", "coverage", "in_one_cell"]  # noqa: RUF022 - the first name is the method

ELICITATION = Axis(
    "elicitation",
    "How is the teacher's knowledge drawn out?",
    (
        Value("labeling", "The teacher answers inputs that are there: labels, rationales, rewritten texts."),
        Value("expansion", "The teacher makes more examples like a few that it is shown."),
        Value(
            "curation",
            "The teacher makes examples from what is known about them: topics, documents, pictures put into words.",
        ),
        Value("feature", "The teacher's numbers are read: logits, scores, hidden states, vectors."),
        Value(
            "feedback", "The teacher ranks, scores or corrects what others wrote, or writes to the student's errors."
        ),
        Value("self-knowledge", "The student draws on itself: it filters, refines or imitates its own outputs."),
        Value(NOTHING, "Nothing is asked of a teacher."),
    ),
)

ALGORITHM = Axis(
    "algorithm",
    "How does the student learn it?",
    (
        Value(
            "supervised-fine-tuning",
            "By likelihood of the teacher's texts or labels, or as positives of a contrast.",
            "stillroom.objectives.cross_entropy",
        ),
        Value(
            "divergence-and-similarity",
            "By nearness of distributions (forward and reverse KL, JSD) or of vectors (L2, L1, cosine, contrast, MMD).",
            "stillroom.objectives.divergence_loss",
        ),
        Value("reinforcement-learning", "By a reward for what the student writes."),
        Value(
            "rank-optimisation",
            "By the order of answers or candidates: preference losses, pairwise and listwise ranking.",
            "stillroom.objectives.dpo",
        ),
        Value(NOTHING, "No objective is put on a teacher's knowledge, or nothing is trained."),
    ),
)

SKILL = Axis(
    "skill",
    "Which skill is it for?",
    (
        Value("context-following", "Instructions, dialogue, and answers from a given context."),
        Value("alignment", "Ways of thinking, such as chains of thought; preferences; values."),
        Value("agent", "Tools and plans."),
        Value("understanding", "Classes, tags, entailment, similarity, knowledge graphs."),
        Value("generation", "Translation, summaries, paraphrases, free text."),
        Value("information-retrieval", "Search and reranking."),
        Value("recommendation", "Items for users."),
        Value("text-evaluation", "Judging texts."),
        Value("code", "Programs, queries and calls."),
        Value("multi-modality", "Language together with images, clips or speech."),
        Value(NOTHING, "Images, sounds or graphs without language."),
    ),
)

VERTICAL = Axis(
    "vertical",
    "Is it made for a field?",
    (
        Value("law", "Law."),
        Value("medical", "Medicine and health."),
        Value("finance", "Finance."),
        Value("science", "Science, mathematics among it."),
        Value("other", "Another field."),
    ),
    base=False,
)


def language_axes() -> tuple[Axis, ...]:
    """The axes of this survey: ``elicitation``, ``algorithm``, ``skill``, ``vertical``."""
    return (ELICITATION, ALGORITHM, SKILL, VERTICAL)


def coverage(tags: Mapping[str, Tags]) -> dict[tuple[str, str], tuple[str, ...]]:
    """The survey's table: for each pair of an elicitation and an algorithm, the slugs of the systems that have both.

    Args:
        tags: of each system, by its slug.

    Returns:
        A cell for every pair but those with ``none``, empty ones too; slugs in the order of ``tags``.
    """
    pairs = [(way, how) for way in ELICITATION.names for how in ALGORITHM.names if NOTHING not in (way, how)]
    return {
        (way, how): tuple(slug for slug, own in tags.items() if way in own["elicitation"] and how in own["algorithm"])
        for way, how in pairs
    }


def in_one_cell(tags: Mapping[str, Tags]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The distilling systems that have exactly one elicitation and one algorithm, and those that have several.

    The survey's order claims that the first are nearly all of those with a language model for a teacher.
    """
    distilling = {slug: own for slug, own in tags.items() if NOTHING not in (*own["elicitation"], *own["algorithm"])}
    single = [slug for slug, own in distilling.items() if len(own["elicitation"]) == len(own["algorithm"]) == 1]
    return tuple(single), tuple(slug for slug in distilling if slug not in set(single))
