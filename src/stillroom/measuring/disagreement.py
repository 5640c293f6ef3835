"""The held-out rows on which student and teacher differ most."""

from __future__ import annotations

from typing import Any

import torch

from stillroom.measuring.held_out import batches_of, embed, same_ids
from stillroom.objectives.logits import divergence_rows
from stillroom.teachers import LocalTeacher
from stillroom.views.causal_lm import CausalLM
from stillroom.views.load import Opened
from stillroom.views.sentence import SentenceEncoder
from stillroom.views.static import StaticEncoder


def worst_disagreements(student: Opened, teacher: Opened, rows: Any, count: int = 12) -> list[dict[str, Any]]:
    """The held-out texts on which student and teacher differ most."""
    if type(student.view) in (SentenceEncoder, StaticEncoder):
        return _worst_neighbours(student, teacher, rows, count)
    if same_ids(student, teacher):
        return _worst_tokens(student, teacher, rows, count)
    return []


def _worst_neighbours(student: Opened, teacher: Opened, rows: Any, count: int) -> list[dict[str, Any]]:
    """Texts whose nearest other text differs, where the student's choice is least alike in the teacher's eyes."""
    from stillroom.students.open import texts_of

    texts = list(dict.fromkeys(texts_of(rows)))[:500]
    if len(texts) < 3:
        return []
    ours, theirs = embed(student, texts), embed(teacher, texts)
    cosines = theirs @ theirs.T - 2 * torch.eye(len(texts))
    chosen = (ours @ ours.T - 2 * torch.eye(len(texts))).argmax(1)
    best = cosines.argmax(1)
    lost = cosines.gather(1, best[:, None])[:, 0] - cosines.gather(1, chosen[:, None])[:, 0]
    return [
        {"input": texts[n], "teacher": texts[best[n]], "student": texts[chosen[n]], "disagreement": float(lost[n])}
        for n in lost.argsort(descending=True)[:count].tolist()
        if lost[n] > 0
    ]


@torch.no_grad()
def _worst_tokens(student: Opened, teacher: Opened, rows: Any, count: int) -> list[dict[str, Any]]:
    """Places where KL(teacher || student) is largest, at most one a row, with the favourite token of each."""
    asked, found = LocalTeacher(teacher.model, teacher.view), []
    assert isinstance(student.view, CausalLM)
    tokenizer = student.view.tokenizer
    for batch in batches_of(student, rows.select(range(min(len(rows), 200))), teacher):
        ours = student.view.emit(student.model, batch.student, ("logits",)).logits
        theirs = asked(batch, ("logits",)).logits
        assert ours is not None and theirs is not None
        values, places = divergence_rows(ours, theirs, batch.mask).max(-1)
        for row, (value, place) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
            before = batch.student["input_ids"][row, max(place - 40, 0) : place + 1]
            favourites = [tokenizer.decode([int(logits[row, place].argmax())]) for logits in (theirs, ours)]
            found.append((value, tokenizer.decode(before), *favourites))
    found.sort(key=lambda one: -one[0])
    return [
        {"input": text, "teacher": first, "student": second, "disagreement": value}
        for value, text, first, second in found[:count]
    ]
