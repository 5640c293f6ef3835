"""HPD: the components by another way, what they keep, the layer on the student, what can't be reduced.

.venv/bin/python -m pytest tests/methods/embeddings/test_hpd.py
"""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from stillroom.blocks.projectors import principal_components
from stillroom.errors import UserError
from stillroom.method import Step
from stillroom.methods.embeddings.hpd import HPD
from stillroom.recipe import Scratch
from stillroom.signals import Batch, Signals
from stillroom.students.open import new_model
from stillroom.views.load import open_model

STEP = Step(0, 10)
WIDTH = 6
BERT = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("student")
    scratch = Scratch(architecture="bert", config=BERT, vocabulary=300)
    new_model(scratch, "embeddings", lambda: ["one two three"], made)
    return made


@pytest.fixture
def opened(folder):
    return open_model(str(folder), "embeddings")


def batch(rows, mask=None):
    mask = torch.ones(rows, dtype=torch.bool) if mask is None else torch.tensor(mask)
    return Batch(ids=[str(n) for n in range(rows)], student={}, mask=mask)


def teacher_vectors(rows=40, seed=0, shift=0.3):
    """Unit vectors with directions of different weight, away from the origin."""
    torch.manual_seed(seed)
    spread = torch.tensor([1.0, 0.7, 0.5, 0.3, 0.1, 0.05])
    return nn.functional.normalize(torch.randn(rows, WIDTH) * spread + shift, dim=-1)


def method(opened, vectors, **settings):
    made = HPD(**({"dimensions": 3, "fit_on": 40} | settings))
    sample = batch(2)
    sample.emitted = Signals(embedding=vectors[:2])
    made.setup(opened.model, None, sample, opened.view)
    made.look(iter([(batch(len(part)), Signals(embedding=part)) for part in vectors.split(8)]))
    return made


def components_by_hand(vectors, count):
    """Eigenvectors of the covariance, the largest first, each with its largest entry positive."""
    values, directions = np.linalg.eigh(np.cov(vectors.double().numpy().T))
    found = directions[:, np.argsort(-values)[:count]].T
    return np.stack([row * np.sign(row[np.abs(row).argmax()]) for row in found])


def test_the_components_are_the_covariances_eigenvectors():
    vectors = teacher_vectors()
    found = principal_components(vectors, 3)
    np.testing.assert_allclose(found, components_by_hand(vectors, 3), atol=1e-5)
    turned = principal_components(vectors.flip(0), 3)
    torch.testing.assert_close(found, turned, atol=1e-5, rtol=1e-4)  # signs included


def test_the_loss_is_the_squared_error_from_the_reduced_vectors(opened):
    """The mean of the teacher's vectors is not taken off."""
    vectors = teacher_vectors()
    made = method(opened, vectors)
    torch.manual_seed(1)
    student = torch.randn(4, 3).tanh().requires_grad_(True)
    part = made.parts(Signals(embedding=student), Signals(embedding=vectors[:4]), batch(4), STEP)["mse"]
    targets = vectors[:4].double().numpy() @ components_by_hand(vectors, 3).T
    expected = ((student.detach().double().numpy() - targets) ** 2).mean(1).sum()
    assert part.sum.item() == pytest.approx(expected, rel=1e-4) and int(part.count) == 4


def test_only_the_first_sentences_are_looked_at_and_no_masked_one(opened):
    vectors = teacher_vectors()
    stream = iter(
        [
            (batch(8, mask=[True] * 6 + [False] * 2), Signals(embedding=vectors[:8])),
            (batch(8), Signals(embedding=vectors[8:16])),
            (batch(8), Signals(embedding=vectors[16:24])),
        ]
    )
    made = HPD(dimensions=3, fit_on=10)
    sample = batch(2)
    sample.emitted = Signals(embedding=vectors[:2])
    made.setup(opened.model, None, sample, opened.view)
    made.look(stream)
    fitted_on = torch.cat([vectors[:6], vectors[8:12]])
    np.testing.assert_allclose(made.components, components_by_hand(fitted_on, 3), atol=1e-5)
    assert len(list(stream)) == 1  # the third batch was not asked for


def cosines(vectors):
    unit = nn.functional.normalize(vectors, dim=-1)
    return unit @ unit.T


def test_at_the_teachers_width_all_cosines_are_kept(opened):
    vectors = teacher_vectors()
    made = method(opened, vectors, dimensions=WIDTH)
    torch.testing.assert_close(cosines(vectors @ made.components.T), cosines(vectors), atol=1e-5, rtol=1e-4)


def test_components_keep_more_of_the_cosines_than_chance_does(opened, folder):
    vectors = teacher_vectors(shift=0.0)
    chosen = method(opened, vectors).components
    torch.manual_seed(0)
    drawn = method(open_model(str(folder), "embeddings"), vectors, projection="random").components
    torch.testing.assert_close(drawn @ drawn.T, torch.eye(3), atol=1e-5, rtol=1e-4)
    lost = [float((cosines(vectors @ each.T) - cosines(vectors)).abs().mean()) for each in (chosen, drawn)]
    assert lost[0] < 0.5 * lost[1]


def test_the_student_gets_a_layer_that_is_saved_with_it(opened, tmp_path):
    from sentence_transformers import SentenceTransformer

    texts = ["one two", "three one two", "two"]
    method(opened, teacher_vectors())
    wanted = opened.model.eval().encode(texts, convert_to_tensor=True)
    assert wanted.shape == (3, 3) and float(wanted.abs().max()) < 1
    assert not torch.allclose(wanted.norm(dim=-1), torch.ones(3), atol=1e-2)  # the final normalisation is gone
    body, pooling, dense = opened.model
    with torch.no_grad():
        pooled = pooling(body(opened.model.preprocess(texts)))["sentence_embedding"]
    torch.testing.assert_close(wanted, torch.tanh(pooled @ dense.linear.weight.T + dense.linear.bias))
    opened.view.save(opened.model, tmp_path / "saved")
    loaded = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    torch.testing.assert_close(loaded.encode(texts, convert_to_tensor=True), wanted)


def test_the_components_stay_with_the_run_and_not_with_the_student(opened):
    made = method(opened, teacher_vectors())
    assert set(made.state_dict()) == {"components"} and not list(made.parameters())
    assert not [name for name in opened.model.state_dict() if "components" in name]


def test_vectors_beyond_the_reach_of_tanh_are_warned_about(opened, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method(opened, teacher_vectors())
    with pytest.warns(UserWarning, match="teachers of unit norm"):
        method(open_model(str(folder), "embeddings"), 5 * teacher_vectors())


def test_what_can_not_be_reduced_is_refused(opened):
    with pytest.raises(UserError, match="have 6 dimensions and can't be reduced to 7"):
        method(opened, teacher_vectors(), dimensions=7)
    with pytest.raises(UserError, match="2 sentences are too few for 3"):
        method(opened, teacher_vectors(rows=2))


@pytest.mark.parametrize("settings", [{"dimensions": 0}, {"dimensions": 9, "fit_on": 8}, {"projection": "ica"}])
def test_values_outside_their_range_are_refused(settings):
    with pytest.raises(ValueError):
        HPD(**settings)
