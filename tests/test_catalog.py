"""The catalogue: its rows, their computed states, and names that are found or refused with the nearest.

.venv/bin/python -m pytest tests/test_catalog.py
"""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter

import pytest

from stillroom import catalog, source
from stillroom.errors import UserError


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A package folder with the real catalogue and no method, to put files into."""
    for name in ("catalog.toml", "taxonomy.toml"):
        shutil.copy(source.PACKAGE / name, tmp_path)
    monkeypatch.setattr(source, "PACKAGE", tmp_path)
    monkeypatch.setattr(catalog, "PACKAGE", tmp_path)
    return tmp_path


def put(shelf, path, text):
    place = shelf / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def test_the_catalogue_has_222_rows_in_14_families_with_one_name_each():
    rows = catalog.systems()
    assert len(rows) == 222
    assert len({row.slug for row in rows}) == len({row.number for row in rows}) == 222
    counts = Counter(row.family for row in rows)
    assert (len(counts), counts["vision"], counts["graphs"], counts["language"]) == (14, 31, 4, 28)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row.slug) for row in rows)


def test_the_state_is_read_off_the_files(shelf):
    assert {row.state for row in catalog.systems()} == {"planned"}
    put(shelf, "methods/language/semantic_revision.py", "")
    assert catalog.find("semantic-revision").state == "implemented"
    put(shelf, "results/semantic-revision.json", json.dumps({"verdict": "holds"}))
    assert catalog.find("semantic-revision").state == "reproduced"
    assert catalog.find("semantic-revision").result == {"verdict": "holds"}
    assert [row.slug for row in catalog.systems(state="reproduced")] == ["semantic-revision"]
    assert [row.slug for row in catalog.systems(state="implemented")] == ["semantic-revision"]
    assert len(catalog.systems(state="planned")) == 221


def test_a_result_without_a_method_does_not_count(shelf):
    put(shelf, "results/taid.json", "{}")
    assert catalog.find("taid").state == "planned"
    assert catalog.find("taid").result is None


def test_filters_combine(shelf):
    put(shelf, "methods/language/taid.py", '__all__ = ["T"]\nx = Needs(teacher=("scores",))\n')
    put(shelf, "methods/language/uld.py", '__all__ = ["U"]\nx = Needs(teacher=("logits",))\n')
    assert [row.slug for row in catalog.systems(needs="scores")] == ["taid"]
    assert [row.slug for row in catalog.systems(family="language", state="implemented")] == ["uld", "taid"]
    assert catalog.systems(family="graphs", needs="scores") == ()


def test_the_taxonomy_filters_by_one_of_the_values_on_every_axis():
    both = catalog.systems(where={"access": ("black-box", "grey-box"), "ships": "reranker"})
    assert {row.slug for row in both} >= {"margin-mse", "clkd"}
    assert all({"black-box", "grey-box"} & {*row.tags["access"]} and "reranker" in row.tags["ships"] for row in both)
    one = {row.slug for row in catalog.systems(where={"access": "black-box", "ships": "reranker"})}
    assert one <= {row.slug for row in both} and "margin-mse" not in one
    assert catalog.systems(family="graphs", where={"ships": "reranker"}) == ()


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"family": "langage"}, "there is no family 'langage' among .*; did you mean 'language'"),
        ({"state": "done"}, "there is no state 'done' among planned, implemented, reproduced"),
        ({"needs": "score"}, "there is no signal 'score' among .*; did you mean 'scores'"),
        ({"where": {"acces": "none"}}, "there is no axis 'acces' among .*; did you mean 'access'"),
        (
            {"where": {"access": "blackbox"}},
            "the axis 'access' has no value 'blackbox' among .*; did you mean 'black-box'",
        ),
        (
            {"where": {"access": ["none", "feature"]}},
            "no value 'feature' among .*; 'feature' is on the axis 'knowledge'",
        ),
    ],
)
def test_a_wrong_filter_is_refused(filters, message):
    with pytest.raises(UserError, match=message):
        catalog.systems(**filters)


def test_an_unknown_slug_names_the_nearest():
    with pytest.raises(UserError, match="there is no system 'tiad' in the catalogue; did you mean 'taid'"):
        catalog.find("tiad")


def test_load_gives_the_first_name_of_all(shelf, tmp_path, monkeypatch):
    put(shelf, "methods/language/taid.py", "")
    put(shelf, "pretended_taid.py", '__all__ = ["Second", "First"]\n\nclass First: ...\n\nclass Second: ...\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(catalog.System, "module", "pretended_taid")
    assert catalog.load("taid").__name__ == "Second"


def test_a_planned_system_cannot_be_loaded_and_says_so(shelf):
    with pytest.raises(UserError, match="'taid' is in the catalogue but not built yet"):
        catalog.load("taid")


def test_resolve_finds_baselines_and_refuses_with_the_nearest_of_both():
    from stillroom.methods.baselines import BASELINES

    assert catalog.resolve("sft") is BASELINES["sft"]
    with pytest.raises(UserError, match="did you mean 'forward_kl'"):
        catalog.resolve("forwardkl")
    with pytest.raises(UserError, match="did you mean 'distillm-2'"):
        catalog.resolve("distillm2")
    assert not set(BASELINES) & {row.slug for row in catalog.systems()}


def test_reading_every_source_imports_no_torch():
    code = """
import sys
from stillroom import catalog
for system in catalog.systems():
    if system.source:
        system.source.kind, system.source.needs, system.source.parameters, system.source.paragraphs
    system.tags
assert not {"torch", "transformers"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
