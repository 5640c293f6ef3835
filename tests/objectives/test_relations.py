"""Relations among examples and among tokens, against slow references.

Run: pytest tests/objectives/test_relations.py
"""

import pytest
import torch
from tests.objectives.cases import ROWS, TOKENS, normal
from tests.oracles import objectives as oracle

from stillroom import objectives as ob

STUDENT, TEACHER = normal(1, 6, 4), normal(2, 6, 7)
KEPT = STUDENT[ROWS].numpy(), TEACHER[ROWS].numpy()
QUERIES = {"student": (normal(3, 3, 4, 6), normal(4, 3, 4, 6)), "teacher": (normal(5, 3, 4, 9), normal(6, 3, 4, 9))}


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (ob.distance_relation, oracle.distance_relation),
        (ob.angle_relation, oracle.angle_relation),
        (ob.gram_relation, lambda s, t: oracle.gram_relation(s, t, "vectors")),
        (ob.cka_relation, lambda s, t: 1 - oracle.linear_cka(s, t)),
    ],
)
def test_against_the_definition(loss, reference):
    value = loss(STUDENT, TEACHER, ROWS)
    assert float(value.sum) == pytest.approx(reference(*KEPT), rel=1e-9)
    assert int(value.count) == 1


@pytest.mark.parametrize("normalise", ["vectors", "rows", "none"])
def test_each_way_to_normalise_a_gram_matrix(normalise):
    value = ob.gram_relation(STUDENT, TEACHER, ROWS, normalise=normalise)
    assert float(value.sum) == pytest.approx(oracle.gram_relation(*KEPT, normalise), rel=1e-9)


def test_three_points_by_hand():
    """Sides 3, 4, 5 against three equal ones: distances 0.75, 1, 1.25 against 1, cosines 0, 0.6, 0.8 against 0.5."""
    right = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    equal = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]], dtype=torch.float64)
    everything = torch.ones(3)
    distance = ob.distance_relation(right, equal, everything).sum
    assert float(distance) == pytest.approx(2 * (0.5 * 0.25**2 + 0.5 * 0.25**2) / 9)
    angles = [0.5 * (cosine - 0.5) ** 2 for cosine in (0.0, 3 / 5, 4 / 5)]
    assert float(ob.angle_relation(right, equal, everything).sum) == pytest.approx(2 * sum(angles) / 27)


def test_neighbours_against_the_definition():
    value = ob.neighbour_relation(STUDENT, TEACHER, ROWS, temperature=0.3)
    assert float(value.sum) == pytest.approx(oracle.neighbour_relation(*KEPT, 0.3), rel=1e-9)
    assert int(value.count) == int(ROWS.sum())


def test_neighbours_by_hand():
    """Cosines 1 and 0 of the first row with the others, over ln 3: chances 3/4 and 1/4; the teacher's are equal."""
    student = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    teacher = torch.eye(3, dtype=torch.float64)
    temperature = 1 / float(torch.tensor(3.0, dtype=torch.float64).log())
    # The second row sees the same as the first; the third finds the two others equally alike, as the teacher does.
    wanted = 2 * 0.5 * float((torch.tensor([0.5 / 0.75, 0.5 / 0.25], dtype=torch.float64)).log().sum())
    assert float(ob.neighbour_relation(student, teacher, torch.ones(3), temperature=temperature).sum) == pytest.approx(
        wanted
    )


def test_neighbours_need_a_temperature_and_two_rows():
    with pytest.raises(ValueError, match="temperature must be > 0; it is 0"):
        ob.neighbour_relation(STUDENT, TEACHER, ROWS, temperature=0)
    nothing = ob.neighbour_relation(STUDENT[:1], TEACHER[:1], torch.ones(1), temperature=1.0)
    assert float(nothing.sum) == 0 and int(nothing.count) == 0


@pytest.mark.parametrize("loss", [ob.distance_relation, ob.angle_relation, ob.gram_relation, ob.cka_relation])
def test_a_rotated_and_scaled_copy_has_the_same_relations(loss):
    rotation = torch.linalg.qr(normal(7, 4, 4)).Q
    assert float(loss(3 * STUDENT @ rotation, STUDENT, ROWS).sum) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_angles_do_not_depend_on_the_chunk(chunk):
    student = STUDENT.clone().requires_grad_()
    whole, cut = (ob.angle_relation(student, TEACHER, ROWS, chunk=size).sum for size in (16, chunk))
    torch.testing.assert_close(whole, cut)
    torch.testing.assert_close(*(torch.autograd.grad(loss, student)[0] for loss in (whole, cut)))


def test_angles_keep_no_cube_of_the_batch_for_the_backward_pass():
    kept = []
    rows = torch.randn(40, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        loss = ob.angle_relation(rows, torch.randn(40, 8), torch.ones(40), chunk=4).sum
    assert max(kept) <= 40 * 8
    loss.backward()
    assert torch.isfinite(rows.grad).all() and rows.grad.any()


@pytest.mark.parametrize("loss", [ob.distance_relation, ob.angle_relation, ob.gram_relation, ob.cka_relation])
@pytest.mark.parametrize("student", [torch.ones(5, 3), torch.tensor([[1.0], [1.0], [2.0], [4.0], [2.0]])])
def test_rows_that_coincide_give_finite_gradients(loss, student):
    student = student.clone().requires_grad_()
    value = loss(student, normal(8, 5, 3).float(), torch.ones(5)).sum
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()
    assert student.grad.abs().max() < 10


@pytest.mark.parametrize(("loss", "least"), [(ob.distance_relation, 2), (ob.angle_relation, 3), (ob.cka_relation, 2)])
def test_too_few_rows_relate_to_nothing(loss, least):
    for rows, count in ((least - 1, 0), (least, 1)):
        student = STUDENT[:rows].clone().requires_grad_()
        value = loss(student, TEACHER[:rows], torch.ones(rows))
        value.sum.backward()
        assert int(value.count) == count
        assert torch.isfinite(student.grad).all()
    assert torch.isfinite(value.sum)


def test_two_rows_always_have_the_same_relative_distance():
    assert float(ob.distance_relation(STUDENT[:2], TEACHER[:2], torch.ones(2)).sum) == 0


def test_cka_of_something_constant_is_no_similarity():
    assert float(ob.linear_cka(torch.ones(5, 2), torch.randn(5, 3))) == 0


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("sides", [(0, 0), (0, 1)])
def test_attention_relations(heads, sides):
    student, teacher = ([QUERIES[model][side] for side in sides] for model in ("student", "teacher"))
    loss = ob.attention_relation(tuple(student), tuple(teacher), TOKENS, heads=heads)
    expected = oracle.attention_relation(
        [side.numpy() for side in student], [side.numpy() for side in teacher], TOKENS.numpy(), heads
    )
    assert float(loss.sum) == pytest.approx(expected, rel=1e-9)
    assert int(loss.count) == 2  # the third sequence is all padding


def test_attention_relations_do_not_depend_on_where_a_batch_is_cut():
    whole = ob.attention_relation(QUERIES["student"], QUERIES["teacher"], TOKENS, heads=3).sum
    rows = (
        ob.attention_relation(
            tuple(side[row : row + 1] for side in QUERIES["student"]),
            tuple(side[row : row + 1] for side in QUERIES["teacher"]),
            TOKENS[row : row + 1],
            heads=3,
        ).sum
        for row in range(3)
    )
    torch.testing.assert_close(whole, sum(rows))


def test_relation_heads_must_divide_both_widths():
    with pytest.raises(ValueError, match="2 relation heads do not divide a width of 9"):
        ob.attention_relation(QUERIES["student"], QUERIES["teacher"], TOKENS, heads=2)
    with pytest.raises(ValueError, match="12 relation heads do not divide a width of 6"):
        ob.attention_relation(QUERIES["student"], QUERIES["teacher"], TOKENS, heads=12)


def test_relation_scores():
    first, second = QUERIES["student"]
    scores = ob.relation_scores(first, second, heads=3)
    assert scores.shape == (3, 3, 4, 4)
    by_hand = float(first[1, 2, 2:4] @ second[1, 0, 2:4]) / 2**0.5
    assert float(scores[1, 1, 2, 0]) == pytest.approx(by_hand)


def test_an_unknown_way_to_normalise_is_refused():
    with pytest.raises(ValueError, match="not 'columns'"):
        ob.gram_relation(STUDENT, TEACHER, ROWS, normalise="columns")
