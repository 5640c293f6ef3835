"""Generated text against references: exact match, ROUGE, BLEU, chrF.

The measures are those of rouge-score and sacrebleu, unchanged, so that figures can be compared with published ones.
A prediction may have several references; ROUGE and exact match then take the best of them, BLEU and chrF use all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stillroom.errors import need

References = Sequence[str | Sequence[str]]

ROUGE = ("rouge1", "rouge2", "rougeL")


def exact_match(
    predictions: Sequence[str], references: References, *, normalise: Callable[[str], str] = str.strip
) -> float:
    """Share of predictions that equal one of their references; in [0, 1].

    Args:
        predictions: one text a row.
        references: one text, or a list of texts, a row.
        normalise: applied to both sides before they are compared.
    """
    rows = _paired(predictions, references)
    return sum(normalise(said) in {normalise(wanted) for wanted in among} for said, among in rows) / len(rows)


def rouge(predictions: Sequence[str], references: References) -> dict[str, float]:
    """Mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L, in [0, 1] (Lin, 2004; words stemmed, English tokens).

    Args:
        predictions: one text a row.
        references: one text, or a list of texts, a row.
    """
    scorer = need("rouge_score.rouge_scorer", "evaluation").RougeScorer(list(ROUGE), use_stemmer=True)
    rows = _paired(predictions, references)
    scores = [scorer.score_multi(among, said) for said, among in rows]
    return {name: sum(score[name].fmeasure for score in scores) / len(scores) for name in ROUGE}


def bleu(predictions: Sequence[str], references: References) -> float:
    """Corpus BLEU, in [0, 100], with sacrebleu's own tokens and smoothing (Papineni et al., 2002; Post, 2018)."""
    return _sacrebleu("BLEU", predictions, references)


def sentence_bleu(prediction: str, reference: str) -> float:
    """BLEU of one text against one, in [0, 100], by sacrebleu with 1 added to all counts but those of single words.

    Without that a text that shares no four words in a row with its reference would score 0 (Lin and Och, 2004).
    """
    metric: Any = need("sacrebleu.metrics", "evaluation").BLEU(
        smooth_method="add-k", smooth_value=1, effective_order=True
    )
    return float(metric.sentence_score(prediction, [reference]).score)


def chrf(predictions: Sequence[str], references: References) -> float:
    """Corpus chrF2, in [0, 100]: F-score of character n-grams up to 6, for any language (Popović, 2015)."""
    return _sacrebleu("CHRF", predictions, references)


def _sacrebleu(measure: str, predictions: Sequence[str], references: References) -> float:
    metric: Any = getattr(need("sacrebleu.metrics", "evaluation"), measure)()
    rows = _paired(predictions, references)
    most = max(len(among) for _, among in rows)
    # sacrebleu wants the first references of all rows, then the second ones, ...; None where a row has no such one.
    streams = [[among[place] if place < len(among) else None for _, among in rows] for place in range(most)]
    return float(metric.corpus_score([said for said, _ in rows], streams).score)


def _paired(predictions: Sequence[str], references: References) -> list[tuple[str, list[str]]]:
    if len(predictions) != len(references) or not len(predictions):
        raise ValueError(
            f"{len(predictions)} predictions and {len(references)} references; there must be as many, and some"
        )
    rows = [
        (said, [among] if isinstance(among, str) else list(among))
        for said, among in zip(predictions, references, strict=True)
    ]
    bare = [number for number, (_, among) in enumerate(rows) if not among]
    if bare:
        raise ValueError(f"row {bare[0]} has no reference")
    return rows
