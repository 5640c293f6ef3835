"""Quality on held-out rows, and agreement with the teacher, for each kind of model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from stillroom.data.rows import chosen_alone
from stillroom.engine.encoding import encode
from stillroom.engine.loop import micro_batches
from stillroom.evaluate import agreement
from stillroom.evaluate.calibration import brier_score, expected_calibration_error, reliability_table
from stillroom.evaluate.language import evaluate_language, trained_bytes
from stillroom.evaluate.running import Running
from stillroom.evaluate.segmentation import Confusion
from stillroom.evaluate.speech import error_rates
from stillroom.signals import Batch, Reduced, masked_sum
from stillroom.teachers import LocalTeacher
from stillroom.views.base import make_batch
from stillroom.views.causal_lm import CausalLM
from stillroom.views.encoder import TextClassifier
from stillroom.views.graph import NodeView
from stillroom.views.image import ImageClassifier, ImageEncoder
from stillroom.views.image_text import ImageText
from stillroom.views.late import LateInteraction
from stillroom.views.load import Opened
from stillroom.views.ranking import BiEncoder, CrossEncoder
from stillroom.views.segmentation import ImageSegmenter
from stillroom.views.sentence import SentenceEncoder
from stillroom.views.speech import CTC
from stillroom.views.static import StaticEncoder
from stillroom.views.vocabulary import compare


def batches_of(opened: Opened, rows: Any, other: Opened | None = None, size: int = 32) -> Iterator[Batch]:
    """The rows as batches on the model's device; read by the other model too, where its view differs."""
    same = other is None or other.view.fingerprint == opened.view.fingerprint
    other_view = None if same or other is None else other.view
    encoded, _ = encode(rows, opened.view, other_view)
    device = next(opened.model.parameters()).device
    for chunk in micro_batches(encoded, size):
        yield make_batch(opened.view, other_view, chunk).to(device)


@torch.no_grad()
def held_out(opened: Opened, teacher: Opened | None, rows: Any) -> dict[str, float]:
    """Quality on held-out rows, and agreement with the teacher where one is given."""
    if isinstance(opened.view, CausalLM):
        return _language(opened, teacher, chosen_alone(rows))
    if type(opened.view) in (SentenceEncoder, StaticEncoder):
        return _sentences(opened, teacher, rows)
    if isinstance(opened.view, BiEncoder | CrossEncoder | LateInteraction):
        return _rankings(opened, teacher, rows)
    if isinstance(opened.view, ImageEncoder):
        return _images(opened, teacher, rows)
    if isinstance(opened.view, ImageText):
        return _pairs(opened, teacher, rows)
    if isinstance(opened.view, ImageSegmenter):
        return _segments(opened, teacher, rows)
    if isinstance(opened.view, TextClassifier | ImageClassifier | NodeView):
        return _classes(opened, teacher, rows)
    if isinstance(opened.view, CTC):
        return _recognised(opened, rows)
    return {}


def _recognised(opened: Opened, rows: Any) -> dict[str, float]:
    """Error rates of what is read off the likeliest path."""
    view, device = opened.view, next(opened.model.parameters()).device
    assert isinstance(view, CTC)
    said: list[str] = []
    wanted: list[str] = []
    for chunk in micro_batches(encode(rows, view, keep=("text",))[0], 32):
        batch = make_batch(view, None, chunk).to(device)
        said += view.transcripts(view.emit(opened.model, batch.student, ("logits",)))
        wanted += batch.columns["text"]
    return error_rates(said, wanted)


def _language(opened: Opened, teacher: Opened | None, rows: Any) -> dict[str, float]:
    view = opened.view
    assert isinstance(view, CausalLM)

    def logits(batch: Batch) -> Tensor:
        found = view.emit(opened.model, batch.student, ("logits",)).logits
        assert found is not None
        return found

    measured = evaluate_language(batches_of(opened, rows), logits, count_bytes=trained_bytes(view.tokenizer))
    metrics = {name: measured[name] for name in ("perplexity", "bits_per_byte", "next_token_accuracy")}
    if teacher is None or not same_ids(opened, teacher):
        return metrics
    asked, running = LocalTeacher(teacher.model, teacher.view), Running()
    for batch in batches_of(opened, rows, teacher):
        theirs = asked(batch, ("logits",)).logits
        assert theirs is not None
        running.add(agreement.logit_agreement(logits(batch), theirs, batch.mask))
    means = running.means()
    return metrics | {"teacher_top1": means["label_loyalty"], "teacher_kl": means["forward_kl"]}


def same_ids(student: Opened, teacher: Opened) -> bool:
    """Whether two language models' logits can be compared id by id."""
    ours, theirs = student.view, teacher.view
    if not isinstance(ours, CausalLM) or not isinstance(theirs, CausalLM) or ours.vocabulary != theirs.vocabulary:
        return False
    return compare(theirs.tokenizer, ours.tokenizer).usable


def _sentences(opened: Opened, teacher: Opened | None, rows: Any) -> dict[str, float]:
    if teacher is None:
        return {}
    from stillroom.students.open import texts_of

    texts = list(texts_of(rows))
    ours, theirs = embed(opened, texts), embed(teacher, texts)
    pairwise = agreement.pairwise_agreement(ours, theirs, torch.ones(len(texts), dtype=torch.bool))
    metrics = {"teacher_pairwise": float(pairwise)}
    if ours.shape == theirs.shape:
        metrics["teacher_cosine"] = float(
            agreement.cosine_agreement(ours, theirs, torch.ones(len(texts), dtype=torch.bool)).mean
        )
    return metrics


def _rankings(opened: Opened, teacher: Opened | None, rows: Any) -> dict[str, float]:
    """How often the relevant candidate comes first; how the scores agree with the teacher's."""
    running, pairs = Running(), []
    for batch in batches_of(opened, rows, teacher):
        scores, candidates = _scores(opened, batch.student), batch.columns["candidates"]
        first = scores.masked_fill(~candidates, -math.inf).argmax(-1) == 0
        running.add({"first_relevant": masked_sum(first.float(), batch.mask)})
        if teacher is not None:
            theirs = _scores(teacher, batch.student if batch.teacher is None else batch.teacher)
            pairs.append((scores[candidates], theirs[candidates]))
    metrics = running.means()
    if pairs:
        ours, theirs = (torch.cat(side) for side in zip(*pairs, strict=True))
        loyalty = agreement.score_loyalty(ours, theirs, torch.ones(len(ours), dtype=torch.bool))
        metrics |= {"regression_loyalty": float(loyalty.pearson), "rank_loyalty": float(loyalty.spearman)}
    return metrics


def _scores(opened: Opened, arguments: dict[str, Tensor]) -> Tensor:
    scores = opened.view.emit(opened.model, arguments, ("scores",)).scores
    assert scores is not None
    return scores


def _images(opened: Opened, teacher: Opened | None, rows: Any) -> dict[str, float]:
    if teacher is None:
        return {}
    vectors = []
    for each in (opened, teacher):
        found = [
            each.view.emit(each.model, batch.student, ("embedding",)).embedding for batch in batches_of(each, rows)
        ]
        vectors.append(torch.cat([vector for vector in found if vector is not None]))
    everywhere = torch.ones(len(rows), dtype=torch.bool)
    return {"teacher_pairwise": float(agreement.pairwise_agreement(vectors[0], vectors[1], everywhere))}


def _pairs(opened: Opened, teacher: Opened | None, rows: Any) -> dict[str, float]:
    """How often a picture's nearest caption is its own (or says the same), and the other way round."""
    ours = tower_vectors(opened, rows)
    metrics = first_of_all(ours["image"] @ ours["text"].T, list(rows["text"]))
    if teacher is None:
        return metrics
    theirs = tower_vectors(teacher, rows)
    both, taught = (torch.cat([side["image"], side["text"]]) for side in (ours, theirs))
    everywhere = torch.ones(len(both), dtype=torch.bool)
    return metrics | {"teacher_pairwise": float(agreement.pairwise_agreement(both, taught, everywhere))}


@torch.no_grad()
def tower_vectors(opened: Opened, rows: Any, size: int = 128) -> dict[str, Tensor]:
    """``image`` and ``text`` [rows, D], normalised, in float32."""
    opened.model.eval()
    found: dict[str, list[Tensor]] = {"image": [], "text": []}
    for batch in batches_of(opened, rows, size=size):
        towers = opened.view.emit(opened.model, batch.student, ("tower:image", "tower:text")).towers
        for side, vectors in towers.items():
            found[side].append(torch.nn.functional.normalize(vectors.float(), dim=-1).cpu())
    return {side: torch.cat(parts) for side, parts in found.items()}


def first_of_all(similarities: Tensor, texts: list[str]) -> dict[str, float]:
    """``image_to_text@1`` and ``text_to_image@1``: the share whose nearest is right, a caption of the same words too.

    Args:
        similarities: [N, N], of the n-th picture with the n-th caption.
        texts: the captions.
    """
    numbers = {text: number for number, text in enumerate(texts)}
    said = torch.tensor([numbers[text] for text in texts])
    there, back = similarities.argmax(1), similarities.argmax(0)
    return {
        "image_to_text@1": float((said[there] == said).float().mean()),
        "text_to_image@1": float((said[back] == said).float().mean()),
    }


def _classes(opened: Opened, teacher: Opened | None, rows: Any) -> dict[str, float]:
    if "label" not in rows.column_names:
        return {}
    running = Running()
    for batch in batches_of(opened, rows, teacher):
        logits = opened.view.emit(opened.model, batch.student, ("logits",)).logits
        assert logits is not None and batch.labels is not None
        right = (logits.argmax(-1) == batch.labels).float()
        brier = brier_score(logits.float().softmax(-1).cpu(), batch.labels.cpu())
        running.add({"brier": Reduced(torch.tensor(brier * len(batch)), torch.tensor(len(batch)))})
        running.add({"accuracy": masked_sum(right, batch.mask)})
        if teacher is not None:
            theirs = teacher.view.emit(
                teacher.model, batch.student if batch.teacher is None else batch.teacher, ("logits",)
            ).logits
            assert theirs is not None
            found = agreement.logit_agreement(logits, theirs, batch.mask)
            running.add({name: found[name] for name in ("label_loyalty", "probability_loyalty")})
    return running.means()


def _segments(opened: Opened, teacher: Opened | None, rows: Any) -> dict[str, float]:
    """Mean IoU and accuracy of pixels; how often the teacher chooses the same class."""
    if "mask" not in rows.column_names:
        return {}
    confusion, running = Confusion(), Running()
    for batch in batches_of(opened, rows, teacher):
        logits = opened.view.emit(opened.model, batch.student, ("logits",)).logits
        assert logits is not None and batch.labels is not None
        confusion.add(batch.labels[batch.mask], logits.argmax(-1)[batch.mask], logits.shape[-1])
        if teacher is not None:
            arguments = batch.student if batch.teacher is None else batch.teacher
            theirs = teacher.view.emit(teacher.model, arguments, ("logits",)).logits
            assert theirs is not None
            running.add({"label_loyalty": agreement.logit_agreement(logits, theirs, batch.mask)["label_loyalty"]})
    found = {"mean_iou": confusion.mean_iou, "pixel_accuracy": confusion.accuracy}
    return found | (running.means() if teacher is not None else {})


@torch.no_grad()
def calibration_of(opened: Opened, rows: Any) -> dict[str, Any]:
    """How far the model's confidence can be believed on held-out rows; empty for models that give no distribution.

    Returns:
        ``error``, the expected calibration error (15 equal bins of the likeliest class, or token), and the ``bins``.
    """
    sure, right = [], []
    for batch in batches_of(opened, rows) if _gives_distributions(opened, rows) else ():
        logits = opened.view.emit(opened.model, batch.student, ("logits",)).logits
        assert logits is not None and batch.labels is not None
        confidence, choice = logits[batch.mask].float().softmax(-1).max(-1)
        sure.append(confidence.cpu())
        right.append((choice == batch.labels[batch.mask]).cpu())
    if not sure:
        return {}
    table = reliability_table(torch.cat(sure).clamp(max=1).numpy(), torch.cat(right).numpy())
    bins = [{"confidence": part.confidence, "accuracy": part.accuracy, "count": part.count} for part in table]
    return {"error": expected_calibration_error(table), "bins": bins}


def _gives_distributions(opened: Opened, rows: Any) -> bool:
    labelled = isinstance(opened.view, TextClassifier | ImageClassifier | NodeView) and "label" in rows.column_names
    return isinstance(opened.view, CausalLM) or (labelled and not isinstance(opened.view, ImageEncoder))


@torch.no_grad()
def embed(opened: Opened, texts: list[str], size: int = 64) -> Tensor:
    """Vectors [texts, D], normalised, in float32; texts of like length are run together."""
    view, device = opened.view, next(opened.model.parameters()).device
    rows = [view.encode({"text": text}) for text in texts]
    order = sorted(range(len(rows)), key=lambda place: rows[place]["length"])
    found: list[Tensor] = []
    opened.model.eval()
    for start in range(0, len(order), size):
        inputs = view.collate([rows[place] for place in order[start : start + size]])
        arguments = {name: value.to(device) for name, value in inputs.arguments.items()}
        vectors = view.emit(opened.model, arguments, ("embedding",)).embedding
        assert vectors is not None
        found.append(torch.nn.functional.normalize(vectors.float(), dim=-1).cpu())
    stacked = torch.cat(found)
    vectors = torch.empty_like(stacked)
    vectors[torch.tensor(order)] = stacked
    return vectors
