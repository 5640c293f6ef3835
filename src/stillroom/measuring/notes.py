"""What each metric is called, and whether more of it is better."""

from __future__ import annotations

from typing import Any

# metric -> (title, more is better, unit)
NOTES: dict[str, tuple[str, bool, str]] = {
    "perplexity": ("perplexity", False, ""),
    "bits_per_byte": ("bits per byte", False, ""),
    "next_token_accuracy": ("next-token accuracy", True, ""),
    "teacher_top1": ("top token as the teacher's", True, ""),
    "teacher_kl": ("KL from the teacher", False, "nats"),
    "teacher_cosine": ("cosine with the teacher", True, ""),
    "teacher_pairwise": ("likeness of pairs as the teacher's, Spearman", True, ""),
    "calibration_error": ("expected calibration error", False, ""),
    "brier": ("Brier score", False, ""),
    "accuracy": ("accuracy", True, ""),
    "mean_iou": ("mean IoU", True, ""),
    "pixel_accuracy": ("accuracy of pixels", True, ""),
    "wer": ("word error rate", False, ""),
    "cer": ("character error rate", False, ""),
    "first_relevant": ("relevant candidate first", True, ""),
    "regression_loyalty": ("scores as the teacher's, Pearson", True, ""),
    "rank_loyalty": ("scores as the teacher's, Spearman", True, ""),
    "label_loyalty": ("label as the teacher's", True, ""),
    "probability_loyalty": ("probabilities as the teacher's", True, ""),
    "image_to_text@1": ("a picture's caption found first", True, ""),
    "text_to_image@1": ("a caption's picture found first", True, ""),
    "zero_shot": ("pictures named rightly, zero-shot", True, ""),
    "corrupted_kept": ("corrupted pairs among those chosen", False, ""),
    "ndcg@10": ("nDCG@10, docstring to function", True, ""),
    "mrr@10": ("MRR@10, docstring to function", True, ""),
    "recall@10": ("Recall@10, docstring to function", True, ""),
    "word_ndcg@10": ("nDCG@10, definition to word", True, ""),
    "word_mrr@10": ("MRR@10, definition to word", True, ""),
    "word_recall@10": ("Recall@10, definition to word", True, ""),
    "rouge_l": ("ROUGE-L of greedy answers", True, ""),
    "chrf": ("chrF of greedy answers", True, ""),
    "exact_match": ("greedy answers that are right", True, ""),
    "human_likeness": ("mean Spearman with people", True, ""),
    "wordsim353": ("WordSim-353, Spearman", True, ""),
    "simlex999": ("SimLex-999, Spearman", True, ""),
    "lee": ("Lee documents, Spearman", True, ""),
}

# What a report leads with: the first of these that everybody has.
FIRST = (
    *("ndcg@10", "human_likeness", "perplexity", "accuracy", "mean_iou", "first_relevant", "image_to_text@1"),
    *("wer", "teacher_cosine"),
)


def metric_notes(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Title, direction and unit of every metric that was measured."""
    names = dict.fromkeys(name for entry in entries for name in entry["metrics"])
    plain = {name: NOTES.get(name, (name, True, "")) for name in names}
    return {name: {"title": t, "higher_is_better": more, "unit": unit} for name, (t, more, unit) in plain.items()}


def primary_of(entries: list[dict[str, Any]]) -> str:
    """The metric that a report leads with; empty where nothing was measured."""
    students = [entry["metrics"] for entry in entries if entry["role"] != "teacher"] or [{}]
    shared = [name for name in FIRST if all(name in metrics for metrics in students)]
    return shared[0] if shared else next(iter(students[0]), "")
