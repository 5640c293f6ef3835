"""What every method that is fitted to arrays must keep, as scikit-learn's own estimators do.

It is copied by its parameters alone; fitting gives itself back, twice the same, and leaves alone what it was given; a
row has one answer, alone or among others; and what cannot be fitted is refused in one sentence. A new method is held to
it by being in the catalogue.

pytest tests/contracts/test_estimators.py
"""

import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags

from stillroom import catalog

ROWS, WIDTH = 60, 4


def estimators():
    """Every built method of the catalogue that is an estimator."""
    built = [system.slug for system in catalog.systems() if system.state != "planned"]
    return [slug for slug in built if _reads_arrays(catalog.load(slug), slug)]


def _reads_arrays(made, slug):
    """Whether it is an estimator of rows of numbers, as its own tags say; some are of trees or of texts."""
    return isinstance(made, type) and issubclass(made, BaseEstimator) and get_tags(make(slug)).input_tags.two_d_array


def make(slug):
    """An estimator with its defaults, or such settings as rows of four columns need."""
    made = catalog.load(slug)
    return made.example() if hasattr(made, "example") else made()


@pytest.fixture(params=estimators())
def slug(request):
    return request.param


@pytest.fixture
def rows():
    """Rows, and a number for each that one of their columns tells nearly, in two groups."""
    draw = np.random.default_rng(0)
    X = draw.exponential(size=(ROWS, WIDTH))
    X[:, 2] += 2 * (np.arange(ROWS) % 2)
    return X, np.where(np.arange(ROWS) % 2, 1.5, 0.1) + 0.1 * draw.random(ROWS)


def outputs(made, X):
    """All that a fitted estimator says of rows: method -> array."""
    names = ("transform", "predict", "predict_proba", "decision_function")
    return {name: getattr(made, name)(X) for name in names if hasattr(made, name)}


def fitted_arrays(made):
    """Every array, number and list of numbers that fitting left."""
    kept = {name: value for name, value in vars(made).items() if name.endswith("_")}
    return {name: np.asarray(value) for name, value in kept.items() if isinstance(value, np.ndarray | float | int)}


def test_there_are_some():
    assert {"retrofitting", "isotropy", "semantic-entropy-probes", "s3-topics"} <= set(estimators())


def test_it_is_copied_by_its_parameters(slug, rows):
    made = make(slug)
    settings = made.get_params(deep=False)
    made.fit(*rows)
    for name, value in settings.items():
        assert made.get_params(deep=False)[name] is value, f"fit changed {name}"
    copied = clone(made)
    assert copied.get_params(deep=False).keys() == settings.keys()
    assert not any(name.endswith("_") for name in vars(copied)), "a copy is not fitted"
    same = type(made)(**settings)
    assert {name: same.get_params(deep=False)[name] is value for name, value in settings.items()} == dict.fromkeys(
        settings, True
    )


def test_fit_gives_itself_back_and_leaves_its_rows_alone(slug, rows):
    X, y = rows
    before = X.copy(), y.copy()
    made = make(slug)
    assert made.fit(X, y) is made
    assert made.n_features_in_ == WIDTH
    outputs(made, X)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(y, before[1])


def test_fitting_twice_is_fitting_once(slug, rows):
    X, y = rows
    one, other = make(slug).fit(X, y), make(slug).fit(X, y)
    np.random.seed(123)  # what it draws comes from random_state and nothing else
    again = one.fit(X[::-1].copy(), y[::-1].copy()).fit(X, y)
    for name, value in fitted_arrays(other).items():
        np.testing.assert_array_equal(fitted_arrays(again)[name], value, err_msg=name)
    for name, value in outputs(other, X).items():
        np.testing.assert_array_equal(outputs(again, X)[name], value, err_msg=name)


def test_fit_transform_is_fit_and_transform(slug, rows):
    X, y = rows
    made = make(slug)
    if not hasattr(made, "fit_transform"):
        pytest.skip(f"{slug} transforms nothing")
    found = made.fit_transform(X, y)
    assert len(found) == ROWS and np.isfinite(found).all()
    wanted = make(slug).fit(X, y)
    wanted = wanted.transform(X) if hasattr(wanted, "transform") else wanted.embedding_
    np.testing.assert_allclose(found, wanted, atol=1e-10)


def test_a_row_has_one_answer_alone_and_among_others(slug, rows):
    X, y = rows
    made = make(slug).fit(X, y)
    whole = outputs(made, X)
    if not whole:
        pytest.skip(f"{slug} speaks of the rows alone that it was fitted on")
    for name, value in whole.items():
        assert len(value) == ROWS
        alone = np.concatenate([outputs(made, X[n : n + 1])[name] for n in range(ROWS)])
        np.testing.assert_allclose(alone, value, atol=1e-10, err_msg=name)
        np.testing.assert_allclose(outputs(made, X[::-1])[name][::-1], value, atol=1e-10, err_msg=name)


def test_lists_and_other_numbers_are_arrays_too(slug, rows):
    X, y = (np.round(part, 1) for part in rows)
    exact, listed = make(slug).fit(X, y), make(slug).fit(X.tolist(), y.tolist())
    for name, value in fitted_arrays(exact).items():
        np.testing.assert_array_equal(fitted_arrays(listed)[name], value, err_msg=name)


def test_what_predicts_has_a_score_and_classes(slug, rows):
    X, y = rows
    made = make(slug).fit(X, y)
    if not hasattr(made, "predict"):
        pytest.skip(f"{slug} predicts nothing")
    assert 0.5 < made.score(X, y) <= 1
    assert set(made.predict(X)) <= set(made.classes_)
    if hasattr(made, "predict_proba"):
        np.testing.assert_allclose(made.predict_proba(X).sum(1), 1)


def refused(call, *arguments):
    """The message of a ValueError, which must be one sentence on one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning first would mean that it went on
        with pytest.raises(ValueError) as error:
            call(*arguments)
    message = str(error.value)
    assert "\n" not in message and len(message) < 300 and not message.endswith(".")
    return message


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_number_that_is_none_is_refused_by_its_row(slug, rows, wrong):
    X, y = rows
    spoilt = X.copy()
    spoilt[17, 1] = wrong
    assert "row 17 of X" in refused(make(slug).fit, spoilt, y)
    made = make(slug).fit(X, y)
    for name in outputs(made, X):
        assert "row 17 of X" in refused(getattr(made, name), spoilt)


def test_wrong_shapes_are_refused(slug, rows):
    X, y = rows
    assert "X" in refused(make(slug).fit, X[:, 0], y)
    assert "X" in refused(make(slug).fit, X[:0], y[:0])
    made = make(slug).fit(X, y)
    for name in outputs(made, X):
        assert f"{WIDTH} columns" in refused(getattr(made, name), X[:, :3])
    if hasattr(made, "predict"):
        assert "y" in refused(make(slug).fit, X, y[:-1])


def test_nothing_is_said_before_it_is_fitted(slug, rows):
    made = make(slug)
    for name in ("transform", "predict", "predict_proba"):
        if hasattr(made, name):
            with pytest.raises(NotFittedError):
                getattr(made, name)(rows[0])
