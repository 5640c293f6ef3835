"""Each kind of world is made once."""

import pytest
from tests.contracts import worlds


@pytest.fixture(scope="session")
def world_of(tmp_path_factory):
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = worlds.build(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return get


@pytest.fixture
def case(request, world_of):
    method = request.param
    return worlds.case(method, world_of(worlds.kind_of(method)))


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", worlds.methods(), indirect=True)
