"""What every method must keep, whatever it does; a new method is held to it by being in the catalogue.

Padding changes nothing; splitting the batch changes nothing; NaN outside the mask does no harm; an empty mask gives an
exact differentiable 0; counts are those declared; the teacher is untouched; what must learn gets gradient; a loss of
rows is the same without whole logits.

pytest tests/contracts/test_contracts.py
"""

from dataclasses import replace

import pytest
import torch
from tests.contracts import worlds
from tests.contracts.worlds import STEP
from torch.nn import functional as F

from stillroom.head import Unprojected
from stillroom.signals import TopK
from stillroom.teachers import LocalTeacher


def text_teacher(case):
    return "text" in case.objective.needs.teacher


def loss(case, batch, change_student=lambda s: s, change_teacher=lambda s: s):
    """Parts, the sum of all sums, and the gradients of everything that learns."""
    needs = case.objective.needs
    student = change_student(case.student.view.emit(case.student.model, batch.student, needs.student))
    teacher = None
    if needs.teacher and not text_teacher(case):
        teacher = change_teacher(case.ask(batch))
    parts = case.objective.parts(student, teacher, batch, STEP)
    total = sum(part.sum for part in parts.values())
    learning = case.trained
    gradients = torch.autograd.grad(total, learning, allow_unused=True, retain_graph=True)
    return parts, total, [torch.zeros_like(p) if g is None else g for p, g in zip(learning, gradients, strict=True)]


def same(ours, theirs, tolerance=1e-8):
    parts, _, gradients = ours
    others, _, other_gradients = theirs
    assert parts.keys() == others.keys()
    for name in parts:
        torch.testing.assert_close(parts[name].sum, others[name].sum, atol=tolerance, rtol=tolerance)
        assert int(parts[name].count) == int(others[name].count), name
    for one, other in zip(gradients, other_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


# What has no place for padding: pictures, and lists whose filling a mask of their own tells.
UNPADDED = ("pixel_values", "candidates", "nodes", "pairs", "sample")


def padded(batch, columns=3):
    """The batch with further columns of garbage that is marked as padding; pictures have no padding."""
    if set(batch.student) == {"pixel_values"}:
        return batch

    def wider(arguments):
        out = {}
        for name, value in arguments.items():
            if name in UNPADDED or value.dim() == 1:
                out[name] = value
            elif name == "input_features":
                out[name] = F.pad(value, (0, 0, 0, columns), value=7.0)
            else:
                filler = 7 if name.endswith("input_ids") else 0
                out[name] = F.pad(value, (0, columns), value=filler)
        return out

    return replace(
        batch,
        student=wider(batch.student),
        teacher=None if batch.teacher is None else wider(batch.teacher),
        mask=F.pad(batch.mask, (0, columns), value=False) if batch.mask.dim() == 2 else batch.mask,
        teacher_mask=batch.teacher_mask
        if batch.teacher_mask is None or batch.teacher_mask.dim() == 1
        else F.pad(batch.teacher_mask, (0, columns), value=False),
        labels=F.pad(batch.labels, (0, columns), value=7)
        if batch.labels is not None and batch.labels.dim() == 2
        else batch.labels,
    )


def test_counts_are_those_declared(case):
    batch = case.batch(case.world.rows)
    parts, _, _ = loss(case, batch)
    assert parts
    for name, part in parts.items():
        unit = case.objective.units.get(name, "token")
        if unit != "own":
            assert int(part.count) == int(batch.counts()[unit]), f"{name} counts {unit}s"


def test_padding_changes_nothing(case):
    batch = case.batch(case.world.rows)
    same(loss(case, batch), loss(case, padded(batch)))


def test_splitting_the_batch_changes_nothing(case):
    if case.objective.across_rows:
        pytest.skip(f"{case.method} declares that a row's loss depends on the other rows of its batch")
    rows = case.world.rows
    _, whole, gradients = loss(case, case.batch(rows))
    for size in (1, 2, 3):
        pieces = [loss(case, case.batch(rows[start : start + size])) for start in range(0, len(rows), size)]
        torch.testing.assert_close(sum(total for _, total, _ in pieces), whole, atol=1e-8, rtol=1e-8)
        for place, gradient in enumerate(gradients):
            together = sum(found[place] for _, _, found in pieces)
            torch.testing.assert_close(together, gradient, atol=1e-8, rtol=1e-8)


def poison(signals, mask):
    """NaN wherever nothing is trained: in logits outside the mask, elsewhere in padded places and masked rows."""

    def at(value, where):
        return value.masked_fill(where.reshape(*where.shape, *[1] * (value.dim() - where.dim())), float("nan"))

    tokens = mask if mask.dim() == 2 else None
    real = signals.mask
    changed = {}
    if signals.logits is not None:
        frames = tokens is not None and tokens.shape != signals.logits.shape[:2]  # labels that are not aligned
        changed["logits"] = at(signals.logits, ~(real if frames else mask))
    if signals.embedding is not None:
        changed["embedding"] = at(signals.embedding, ~mask)
    if signals.clean is not None:
        changed["clean"] = at(signals.clean, ~mask.repeat(len(signals.clean) // len(mask)))
    if signals.towers:
        changed["towers"] = {name: at(value, ~mask) for name, value in signals.towers.items()}
    if signals.scores is not None:
        changed["scores"] = at(signals.scores, ~mask)
    if signals.crossed is not None:
        changed["crossed"] = at(at(signals.crossed, ~mask), ~mask[:, None] | ~mask[None])
    if signals.topk is not None:
        changed["topk"] = TopK(signals.topk.ids, at(signals.topk.log_probs, ~tokens), at(signals.topk.tail, ~tokens))
    if real is not None:
        where = ~real if real.shape[0] != mask.shape[0] or mask.dim() == 2 else ~real | ~mask[:, None]
        for kind in ("hidden", "taps"):
            changed[kind] = {name: at(v, where) if v.dim() == 3 else v for name, v in getattr(signals, kind).items()}
    return replace(signals, **changed)


def test_nan_outside_the_mask_does_no_harm(case):
    batch = case.batch(case.world.rows)
    clean = loss(case, batch)
    dirty = loss(case, batch, lambda s: poison(s, batch.mask), lambda s: poison(s, batch.mask))
    same(clean, dirty)


def test_masked_rows_count_for_nothing(case):
    rows = case.world.rows
    batch, fewer = case.batch(rows), case.batch(rows[:5])
    if batch.mask.dim() == 2:
        gone = torch.arange(len(batch)) >= len(fewer)  # a row of the data may be several of the batch
        theirs = None if batch.teacher_mask is None else batch.teacher_mask & ~gone[:, None]
        masked = replace(batch, mask=batch.mask & ~gone[:, None], teacher_mask=theirs)
    else:
        masked = replace(batch, mask=torch.arange(len(batch)) < len(fewer))
    left, right = loss(case, masked), loss(case, fewer)
    torch.testing.assert_close(left[1], right[1], atol=1e-7, rtol=1e-7)
    assert {n: int(p.count) for n, p in left[0].items()} == {n: int(p.count) for n, p in right[0].items()}


def test_an_empty_mask_gives_an_exact_differentiable_zero(case):
    batch = case.batch(case.world.rows)
    theirs = None if batch.teacher_mask is None else torch.zeros_like(batch.teacher_mask)
    parts, total, gradients = loss(case, replace(batch, mask=torch.zeros_like(batch.mask), teacher_mask=theirs))
    assert float(total.detach()) == 0.0 and all(
        int(part.count) == 0 for n, part in parts.items() if case.objective.units.get(n) != "batch"
    )
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)


def test_the_teacher_gets_no_gradient_and_does_not_change(case):
    before = {name: tensor.clone() for name, tensor in case.teacher.model.state_dict().items()}
    batch = case.batch(case.world.rows)
    LocalTeacher(case.teacher.model, case.teacher.view)
    if not case.objective.needs_prepare:
        batch = case.objective.prepare(batch, STEP, case.student.model, case.student.view)
    loss(case, batch)[1].backward()
    case.objective.after_step(STEP, {"x": 1.0} | {name: 1.0 for name in loss(case, batch)[0]})
    assert not case.teacher.model.training
    for name, tensor in case.teacher.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in case.teacher.model.parameters())


def test_a_teacher_learns_only_where_the_method_says_so(case):
    if case.learning is None:
        pytest.skip("this method leaves its teacher as it is")
    total = loss(case, case.batch(case.world.rows))[1]
    found = torch.autograd.grad(total, list(case.learning.model.parameters()), allow_unused=True)
    assert sum(float(gradient.abs().sum()) for gradient in found if gradient is not None) > 0


def test_the_student_learns(case):
    _, _, gradients = loss(case, case.batch(case.world.rows))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    own = [parameter for parameter in case.objective.parameters() if parameter.requires_grad]
    if own:
        _, total, _ = loss(case, case.batch(case.world.rows))
        found = torch.autograd.grad(total, own, allow_unused=True)
        learning = [g is not None and bool(g.abs().sum() > 0) for g in found]
        assert all(learning), "a parameter made in setup gets no gradient"


ROWWISE = [method for method in worlds.methods() if worlds.make(method).rowwise]


@pytest.mark.parametrize("method", ROWWISE)
def test_logits_that_are_never_made_teach_the_same(method, world_of):
    case = worlds.case(method, world_of(worlds.kind_of(method)))
    batch = case.batch(case.world.rows)
    whole = loss(case, batch)
    unprojected = [
        one._replace(view=one.view.unprojected(one.model, batch.student)) for one in (case.student, case.teacher)
    ]
    assert all(
        isinstance(one.view.emit(one.model, batch.student, ("logits",)).logits, Unprojected) for one in unprojected
    )
    same(loss(replace(case, student=unprojected[0], teacher=unprojected[1]), batch), whole)
