"""A cache of its own for a module's tests: nothing is taken from the user's, and nothing is left there."""

import pytest

from stillroom.testbeds import described as rows
from stillroom.testbeds import embeddings, language, retrieval, vision

PACKAGES = rows.PACKAGES
REMEMBERED = (
    rows.described,
    embeddings.teacher_vectors,
    retrieval.triples,
    language.problems,
    vision.pictures,
)


def forget():
    """What a process remembers of a cache that is another now."""
    for function in REMEMBERED:
        function.cache_clear()


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    forget()


@pytest.fixture(scope="module")
def one_package(own_cache):
    """One package is read instead of all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "PACKAGES", ("huggingface_hub",))
        yield


@pytest.fixture
def whole_ground(monkeypatch):
    """The ground as it is; what was trained for it once is worth keeping, so the cache is the user's."""
    forget()
    with monkeypatch.context() as patch:
        patch.delenv("STILLROOM_CACHE", raising=False)
        patch.setattr(rows, "PACKAGES", PACKAGES)
        yield
    forget()
