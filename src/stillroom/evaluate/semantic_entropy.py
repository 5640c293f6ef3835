"""How far a model's answers to one question differ in what they mean (Kuhn, Gal and Farquhar, 2023), in nats.

Answers are put into clusters of equal meaning; then the entropy is taken over clusters and not over wordings. The
clusters serve whoever counts votes for answers, too.

Shapes: ``N`` sampled answers to one question, ``C`` clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from stillroom.evaluate.arrays import column, matrix

CONTRADICTION, NEUTRAL, ENTAILMENT = 0, 1, 2

Variant = Literal["rao", "mc", "discrete"]


def semantic_clusters(answers: Sequence[str], equivalent: Callable[[str, str], bool]) -> list[int]:
    """The cluster of each answer, numbered from 0 in the order in which meanings come up.

    An answer that belongs to none founds a cluster, and takes in all later ones that are equivalent to it and belong to
    none yet. Of a relation that is not transitive, as an entailment model's, the founder decides.

    Args:
        answers: texts.
        equivalent: whether two texts mean the same; `entailed_both_ways` makes one of an entailment model.
    """
    found = [-1] * len(answers)
    count = 0
    for first, text in enumerate(answers):
        if found[first] >= 0:
            continue
        found[first] = count
        for second in range(first + 1, len(answers)):
            if found[second] < 0 and equivalent(text, answers[second]):
                found[second] = count
        count += 1
    return found


def entailed_both_ways(
    entails: Callable[[str, str], int], *, question: str = "", strict: bool = False
) -> Callable[[str, str], bool]:
    """Equivalence by an entailment model that is asked in both directions.

    Args:
        entails: premise and hypothesis -> 0 contradiction, 1 neutral, 2 entailment.
        question: put before both texts, so that short answers are read as statements about it.
        strict: both must be entailed; otherwise it is enough that neither contradicts and not both are neutral.
    """
    before = f"{question} " if question else ""

    def equivalent(one: str, other: str) -> bool:
        there, back = entails(before + one, before + other), entails(before + other, before + one)
        for said in (there, back):
            if said not in (CONTRADICTION, NEUTRAL, ENTAILMENT):
                raise ValueError(
                    f"an entailment model says 0, 1 or 2 for contradiction, neutral, entailment, not {said}"
                )
        if strict:
            return there == back == ENTAILMENT
        return CONTRADICTION not in (there, back) and not there == back == NEUTRAL

    return equivalent


def cluster_log_probs(log_likelihoods: ArrayLike, clusters: Sequence[int]) -> np.ndarray:
    """The log-probability of each cluster [C]: of its answers' likelihoods, as a share of those of all.

    Args:
        log_likelihoods: [N] of the answers; their mean over tokens, so that long answers don't count for less, or sum.
        clusters: [N], numbers from 0 to C - 1, each of them taken.
    """
    scores, where = _checked(log_likelihoods, clusters)
    return np.array([logsumexp(scores[where == c]) for c in range(where.max() + 1)]) - logsumexp(scores)


def semantic_entropy(log_likelihoods: ArrayLike | None, clusters: Sequence[int], *, variant: Variant = "rao") -> float:
    """The entropy over meanings, in nats; 0 where all answers mean the same.

    Args:
        log_likelihoods: [N] as in `cluster_log_probs`; ``discrete`` needs none.
        clusters: [N], numbers from 0 to C - 1.
        variant: ``rao``, -sum_c p_c log p_c; ``mc``, the mean of -log p_c over clusters; ``discrete``, the entropy of
            the shares of answers.
    """
    if variant == "discrete":
        _, where = _checked(np.zeros(len(clusters)), clusters)
        shares = np.bincount(where) / len(where)
        return max(0.0, -float((shares * np.log(shares)).sum()))
    if variant not in ("rao", "mc") or log_likelihoods is None:
        raise ValueError(f"variant is rao or mc, with log-likelihoods, or discrete; it is {variant!r}")
    found = cluster_log_probs(log_likelihoods, clusters)
    return max(0.0, -float((np.exp(found) * found).sum() if variant == "rao" else found.mean()))


def entropies(
    texts: Sequence[Sequence[str]],
    log_likelihoods: ArrayLike,
    equivalent: Callable[[str, str], bool],
    *,
    variant: Variant = "rao",
) -> np.ndarray:
    """The semantic entropy of each question [N] from its sampled answers, in nats.

    Args:
        texts: [N][S] answers.
        log_likelihoods: [N, S].
        equivalent: whether two answers mean the same.
        variant: see `semantic_entropy`.
    """
    scores = matrix(log_likelihoods, "log-likelihoods")
    pairs = zip(texts, scores, strict=True)
    return np.array(
        [semantic_entropy(row, semantic_clusters(said, equivalent), variant=variant) for said, row in pairs]
    )


def naive_entropy(log_likelihoods: ArrayLike) -> float:
    """The mean of -log p over the sampled answers [N], each wording for itself."""
    return -float(column(log_likelihoods, "log-likelihoods").mean())


def _checked(log_likelihoods: ArrayLike, clusters: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    scores, where = column(log_likelihoods, "log-likelihoods"), np.asarray(clusters)
    if where.shape != scores.shape:
        raise ValueError(f"{len(scores)} answers need as many clusters, not {where.shape}")
    if set(where.tolist()) != set(range(int(where.max()) + 1)):
        raise ValueError("clusters must be numbered from 0, each number taken")
    return scores, where
