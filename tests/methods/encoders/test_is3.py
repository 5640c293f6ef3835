"""IS3: each part against a slow reference, damped gradients, prototypes that travel, more classes, spans, words.

pytest tests/methods/encoders/test_is3.py
"""

import pytest
import torch
import transformers
from tests.contracts import worlds

from stillroom.blocks.prototypes import class_prototypes, remember, remembered
from stillroom.data.rows import check as check_row
from stillroom.errors import UserError
from stillroom.evaluate.spans import span_f1, spans
from stillroom.method import Step
from stillroom.methods.encoders.is3 import IS3
from stillroom.students.classes import add_classes, classifier_of
from stillroom.views.load import open_model

STEP = Step(0, 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return worlds.build("token-classifier", tmp_path_factory.mktemp("world"))


def set_up(world, prototypes=None, **settings):
    """The method on the world's models (3 old classes, 5 in all), and what both emit on all rows."""
    student, teacher = world.open("student"), world.open("teacher")
    if prototypes:
        remember(teacher.model, prototypes)
    made = worlds.Case("is3", world, IS3(**settings), student, teacher)
    sample = made.batch(world.rows[:2])
    sample.emitted = made.ask(sample)
    made.objective.setup(student.model, teacher.model, sample, student.view)
    made.objective.double().eval()
    student.model.eval()
    batch = made.batch(world.rows)
    return made, batch, student.view.emit(student.model, batch.student, made.objective.needs.student), made.ask(batch)


def test_the_parts_are_those_of_the_definition(world):
    torch.manual_seed(0)
    vectors = {1: torch.randn(16).double(), 2: torch.randn(16).double()}
    made, batch, student, teacher = set_up(world, vectors)
    found = made.objective.parts(student, teacher, batch, STEP)
    ours, theirs = student.logits.detach(), teacher.logits
    ce = kd = 0.0
    new = nothing = 0
    for b in range(len(batch)):
        for t in range(batch.mask.shape[1]):
            if not batch.mask[b, t]:
                continue
            label = int(batch.labels[b, t])
            if label >= 3:
                ce -= float(ours[b, t].log_softmax(0)[label])
                new += 1
            if label == 0:
                p, s = theirs[b, t].softmax(0), ours[b, t].log_softmax(0)[:3]  # over all five, then cut
                kd += float((p * (p.log() - s)).sum())
                nothing += 1
    assert new and nothing
    assert float(found["ce"].sum) == pytest.approx(ce) and int(found["ce"].count) == new
    assert float(found["kd"].sum) == pytest.approx(kd) and int(found["kd"].count) == nothing
    head = made.student.model.classifier
    each = [-(head.weight @ vector + head.bias).log_softmax(0)[kind] for kind, vector in vectors.items()]
    assert float(found["prototypes"].mean) == pytest.approx(float(sum(each)) / 2, rel=1e-6)


def test_the_softmax_is_taken_before_the_cut(world):
    """A new class that takes all the mass is punished; over the old classes alone it would not be."""
    made, batch, student, teacher = set_up(world)
    student.logits = torch.cat([teacher.logits, torch.full_like(teacher.logits[..., :2], 20.0)], -1)
    found = made.objective.parts(student, teacher, batch, STEP)
    assert float(found["kd"].mean) > 10


def test_what_new_labels_do_to_old_classes_is_damped(world):
    gradients = {}
    for damping in (1.0, 0.6):
        made, batch, student, teacher = set_up(world, damping=damping)
        found = made.objective.parts(student, teacher, batch, STEP)
        head = made.student.model.classifier
        ce = torch.autograd.grad(
            found["ce"].sum,
            [head.weight, head.bias, made.student.model.bert.embeddings.word_embeddings.weight],
            retain_graph=True,
        )
        kd = torch.autograd.grad(found["kd"].sum, [head.weight])
        gradients[damping] = ce, kd
    (plain, plain_kd), (damped, damped_kd) = gradients[1.0], gradients[0.6]
    factors = torch.tensor([1.0, 0.6, 0.6, 1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(damped[0], factors[:, None] * plain[0])
    torch.testing.assert_close(damped[1], factors * plain[1])
    torch.testing.assert_close(damped[2], plain[2])  # the encoder's own gradient is as it was
    torch.testing.assert_close(damped_kd[0], plain_kd[0])


def test_without_new_entities_there_is_nothing_but_distillation(world):
    made, batch, student, teacher = set_up(world, {1: torch.ones(16).double()})
    batch.labels = batch.labels.clamp(max=2)
    found = made.objective.parts(student, teacher, batch, STEP)
    assert float(found["ce"].sum) == float(found["prototypes"].sum) == 0.0
    assert int(found["ce"].count) == int(found["prototypes"].count) == 0 and float(found["kd"].sum) > 0


def test_a_student_without_new_classes_is_refused(world):
    teacher = world.open("teacher")
    made = worlds.Case("is3", world, IS3(), teacher, teacher)
    sample = made.batch(world.rows[:2])
    sample.emitted = made.ask(sample)
    with pytest.raises(UserError, match="add_classes"):
        made.objective.setup(teacher.model, teacher.model, sample, teacher.view)
    with pytest.raises(ValueError, match="damping in"):
        IS3(damping=2.0)


def test_classes_are_added_below_the_old_ones_and_load_plainly(world, tmp_path):
    opened = world.open("teacher")
    old = opened.model.classifier.weight.detach().clone()
    add_classes(opened.model, 2)
    assert torch.equal(classifier_of(opened.model).weight[:3], old)
    opened.view.save(opened.model, tmp_path / "model")
    loaded = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "model")
    assert loaded.classifier.out_features == 5 == loaded.config.num_labels
    with pytest.raises(ValueError, match="at least 1"):
        add_classes(opened.model, 0)


def test_prototypes_are_mean_unit_vectors_and_stay_as_they_were(world, tmp_path):
    rows = [
        (torch.tensor([[3.0, 4.0], [0.0, 2.0], [9.0, 0.0]]), torch.tensor([1, 1, 2])),
        (torch.tensor([[1.0, 0.0]]), torch.tensor([1])),
    ]
    found = class_prototypes(rows, [1, 3])
    assert found.keys() == {1} and found[1].tolist() == pytest.approx([1.6 / 3, 1.8 / 3])
    opened = world.open("teacher")
    remember(opened.model, found)
    remember(opened.model, {1: torch.zeros(2), 2: torch.ones(2)})
    opened.view.save(opened.model, tmp_path / "model")
    again = remembered(open_model(str(tmp_path / "model"), "token-classifier").model)
    assert again[1].tolist() == pytest.approx([1.6 / 3, 1.8 / 3]) and again[2].tolist() == [1, 1]


def test_spans_by_hand():
    assert spans([0, 1, 1, 2, 0, 1]) == {(1, 1, 3), (2, 3, 4), (1, 5, 6)}
    # class 1: one of two said is right, one of one is found: 2/3; class 2: nothing right: 0
    said, wanted = [[1, 1, 0, 1], [0, 2]], [[1, 1, 0, 0], [2, 2]]
    found = span_f1(said, wanted, [1, 2, 3])
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2) and found["micro_f1"] == pytest.approx(2 / 5)


def test_a_words_class_stands_at_its_first_token(world):
    view = world.open("student").view
    row = view.encode({"tokens": ["unbelievable", "row"], "tags": [2, 1]})
    told = [(tag, first) for tag, first in zip(row["tags"], row["trained"], strict=True)]
    assert [tag for tag, first in told if first] == [2, 1] and len(told) > 4
    assert all(tag == 0 for tag, first in told if not first)
    tags = view.tag(world.open("student").model, [["a", "word"], ["more"] * 90])
    assert [len(each) for each in tags] == [2, 90] and set(tags[1][60:]) == {0}  # beyond what is read


def test_rows_of_words_and_tags_are_checked():
    check_row({"tokens": ["a"], "tags": [0]}, "tagged", "row 1")
    with pytest.raises(UserError, match="row 2: there are 2 tokens and 1 tags"):
        check_row({"tokens": ["a", "b"], "tags": [0]}, "tagged", "row 2")
    with pytest.raises(UserError, match="'tags' must be a list"):
        check_row({"tokens": ["a"], "tags": ["B-X"]}, "tagged", "row 3")
