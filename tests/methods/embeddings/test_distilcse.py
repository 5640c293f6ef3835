"""DistilCSE: the contrast by hand, what is in the queue and when, sentences that occur twice, the second stage.

.venv/bin/python -m pytest tests/methods/embeddings/test_distilcse.py
"""

import math

import pytest
import torch

from stillroom.method import Step
from stillroom.methods.embeddings.distilcse import DistilCSE
from stillroom.signals import Batch, Signals

STEP = Step(0, 10)
STUDENT, TEACHER = 3, 4


class Vectors:
    """A view whose model is a table of vectors."""

    def emit(self, model, arguments, needs):
        return Signals(embedding=torch.zeros(2, STUDENT))


def batch(names, pairs=(), negatives=(), mask=None):
    columns = {
        "pairs": torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
        "negatives": torch.tensor(negatives, dtype=torch.long),
    }
    mask = torch.ones(len(names), dtype=torch.bool) if mask is None else torch.tensor(mask)
    return Batch(ids=list(names), student={}, mask=mask, columns=columns)


def method(**settings):
    torch.manual_seed(0)
    made = DistilCSE(**({"queue": 4} | settings))
    sample = batch("ab", pairs=[[0, 1]])
    sample.emitted = Signals(embedding=torch.zeros(2, TEACHER))
    made.setup(None, None, sample, Vectors())
    return made


def vectors(seed, rows=3):
    torch.manual_seed(seed)
    return torch.randn(rows, STUDENT, requires_grad=True), torch.randn(rows, TEACHER)


def parts(made, student, teacher, rows):
    return made.parts(Signals(embedding=student), Signals(embedding=teacher), rows, STEP)


def cosine(a, b):
    dot, norms = sum(x * y for x, y in zip(a, b, strict=True)), [math.sqrt(sum(x * x for x in v)) for v in (a, b)]
    return dot / norms[0] / norms[1]


def by_hand(projected, keys, queue, scale):
    """CE(s q [k; K]^T, diagonal), summed, from lists of numbers."""
    total = 0.0
    for place, q in enumerate(projected):
        scores = [scale * cosine(q, k) for k in [*keys, *queue]]
        total += math.log(sum(math.exp(score) for score in scores)) - scores[place]
    return total


def test_the_contrast_by_hand_with_an_empty_queue_and_a_filled_one():
    made = method()
    past = []
    for seed in range(3):
        student, teacher = vectors(seed)
        projected = (student @ made.project.weight.T).tolist()
        found = parts(made, student, teacher, batch([f"{seed}{n}" for n in range(3)]))["ckd"]
        assert found.sum.item() == pytest.approx(by_hand(projected, teacher.tolist(), past, math.e), rel=1e-5)
        assert int(found.count) == 3
        made.after_step(STEP, {})
        past = (teacher.tolist() + past)[:4]


def test_the_queue_holds_the_newest_first_of_whole_steps_and_of_training_alone():
    made = method()
    (first, a), (second, b), (third, c) = vectors(1), vectors(2), vectors(3)
    parts(made, first, a, batch("abc"))
    parts(made, second, b, batch("def", mask=[True, False, True]))  # another micro-batch of the same step
    assert len(made.queue.rows) == 0
    made.after_step(STEP, {})
    made.eval()
    parts(made, third, c, batch("ghi"))
    made.after_step(STEP, {})
    expected = torch.nn.functional.normalize(torch.cat([a, b[:1]]), dim=-1)
    torch.testing.assert_close(made.queue.rows, expected)


def test_a_resumed_run_has_the_same_queue():
    made, other = method(), method()
    parts(made, *vectors(1), batch("abc"))
    made.after_step(STEP, {})
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(other.queue.rows, made.queue.rows)
    assert len(other.queue.rows) == 3


def test_gradient_reaches_the_student_the_map_and_the_scale_and_never_the_teacher():
    made = method()
    student, teacher = vectors(1)
    teacher.requires_grad_(True)
    parts(made, student, teacher, batch("abc"))["ckd"].sum.backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in (student, made.project.weight, made.log_scale))
    assert teacher.grad is None


def test_a_sentence_alone_has_nothing_to_be_told_from():
    student, teacher = vectors(1, rows=1)
    assert parts(method(queue=0), student, teacher, batch("a"))["ckd"].sum.item() == 0.0


def test_a_sentence_that_occurs_twice_is_no_negative_of_itself():
    """In the batch or in the queue: the loss is that of the sentence alone."""
    student, teacher = vectors(1, rows=1)
    twice = batch("aa")
    assert parts(method(), student.repeat(2, 1), teacher.repeat(2, 1), twice)["ckd"].sum.item() == pytest.approx(0)
    made = method()
    parts(made, student, teacher, batch("a"))
    made.after_step(STEP, {})
    assert parts(made, student, 3 * teacher, batch("a"))["ckd"].sum.item() == pytest.approx(0)
    other = vectors(2, rows=1)[1]
    assert parts(made, student, other, batch("b"))["ckd"].sum.item() > 0.1


def test_a_student_that_has_the_teachers_vectors_loses_nothing_at_a_high_scale():
    made = method(initial_log_scale=5.0)
    student, teacher = vectors(1)
    teacher = (student @ made.project.weight.T).detach()
    assert parts(made, student, teacher, batch("abc"))["ckd"].sum.item() == pytest.approx(0, abs=1e-3)


def test_the_squared_error_stands_beside_the_contrast_where_it_has_a_weight():
    made = method(mse=0.5)
    student, teacher = vectors(1)
    found = parts(made, student, teacher, batch("abc"))
    differences = (student @ made.project.weight.T - teacher).tolist()
    expected = sum(sum(x * x for x in row) / TEACHER for row in differences)
    assert found["mse"].sum.item() == pytest.approx(expected, rel=1e-5) and made.weights == {"ckd": 1.0, "mse": 0.5}
    assert set(parts(method(), student, teacher, batch("abc"))) == {"ckd"}


def test_what_lies_outside_the_mask_reaches_neither_value_nor_gradient():
    plain, poisoned = method(), method()
    student, teacher = vectors(1)
    left = parts(plain, student[:2], teacher[:2], batch("ab"))["ckd"]
    dirty = torch.cat([student[:2], torch.full((1, STUDENT), math.nan)])
    theirs = torch.cat([teacher[:2], torch.full((1, TEACHER), math.inf)])
    right = parts(poisoned, dirty, theirs, batch("abc", mask=[True, True, False]))["ckd"]
    assert right.sum.item() == left.sum.item() and int(right.count) == 2
    for made, part in ((plain, left), (poisoned, right)):
        part.sum.backward()
        made.after_step(STEP, {})
    torch.testing.assert_close(poisoned.project.weight.grad, plain.project.weight.grad)
    torch.testing.assert_close(poisoned.queue.rows, plain.queue.rows)


def test_the_second_stage_by_hand():
    """Supervised SimCSE: each anchor's positive among all positives and all hard negatives, at 20 times the cosine."""
    made = method(stage=2)
    student = vectors(1, rows=5)[0]
    rows = batch("apqbn", pairs=[[0, 1], [3, 2]], negatives=[4])
    found = made.parts(Signals(embedding=student), None, rows, STEP)["pairs"]
    a, p, q, b, n = student.tolist()
    total = 0.0
    for anchor, own in ((a, p), (b, q)):
        scores = [20 * cosine(anchor, other) for other in (p, q, n)]
        total += math.log(sum(math.exp(score) for score in scores)) - 20 * cosine(anchor, own)
    assert found.sum.item() == pytest.approx(total, rel=1e-5) and int(found.count) == 2
    assert made.needs.teacher == () and not list(made.parameters())


def test_the_second_stage_reads_pairs_alone():
    assert DistilCSE(stage=2).reads == ("pair", "triple") and DistilCSE().reads == ()


@pytest.mark.parametrize("settings", [{"stage": 3}, {"queue": -1}, {"mse": -0.1}, {"pair_scale": 0.0}])
def test_values_outside_their_range_are_refused(settings):
    with pytest.raises(ValueError):
        DistilCSE(**settings)


def test_vectors_of_other_rows_are_refused():
    student, teacher = vectors(1)
    with pytest.raises((ValueError, IndexError)):
        parts(method(), student, teacher[:2], batch("abc"))
