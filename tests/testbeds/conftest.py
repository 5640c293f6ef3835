"""A cache of its own for a module's tests: nothing is taken from the user's, and nothing is left there."""

import importlib
import pkgutil
import sys

import pytest

from stillroom import testbeds
from stillroom.testbeds import described as rows

PACKAGES = rows.PACKAGES


def forget():
    """What a process remembers of a cache that is another now: whatever the grounds keep by `functools.cache`."""
    for module in pkgutil.iter_modules(testbeds.__path__, testbeds.__name__ + "."):
        if module.name in sys.modules:
            for value in vars(importlib.import_module(module.name)).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


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
