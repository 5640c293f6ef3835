"""What the tests of data share: a cache folder of their own, and one small pydocs."""

import json

import pytest

from stillroom.data.pydocs import Source

SMALL = Source(packages=("jinja2", "rich", "typer"))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def small():
    return SMALL


@pytest.fixture
def write(tmp_path):
    """Write rows as a JSONL file and give its path."""

    def write_rows(rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write_rows


@pytest.fixture(scope="session")
def emoji_packages(_own_cache):
    """Skips where a package with pictures or names is missing, with the sentence that says which to install."""
    from stillroom.data.emoji.base_table import stamp
    from stillroom.errors import UserError

    try:
        stamp()
    except UserError as error:
        pytest.skip(str(error))
