"""The ground of the family `encoders`: its texts, its probe, and that it tells better from worse.

.venv/bin/python -m pytest tests/testbeds/test_encoders.py
"""

import json
from pathlib import Path

import pytest
import torch

from stillroom.data.pydocs import Source, functions
from stillroom.reproduce import reproduce
from stillroom.testbeds import encoders, tagging
from stillroom.testbeds.described import PACKAGES
from stillroom.views.load import open_model


@pytest.fixture(scope="module")
def teacher():
    opened = open_model(encoders.teacher(smoke=True), "masked-lm", max_length=encoders.WINDOW)
    opened.model.eval()
    return opened


def test_the_probes_texts_are_of_modules_that_nobody_learnt_from():
    modules = {split: set(functions(split, Source(PACKAGES))["module"][:]) for split in ("train", "test")}
    assert not modules["train"] & modules["test"]
    learnt = {json.loads(line)["text"] for line in Path(encoders.docstrings("train", 500)).read_text().splitlines()}
    tried, packages = encoders.labelled("test", 20)
    assert len(learnt) == 500 and not learnt & set(tried)
    assert {packages.count(package) for package in PACKAGES} == {20}


def test_a_texts_states_are_its_own_tokens_mean(teacher):
    """Padding and the order of the batches do not matter."""
    texts = ["a list", "the sum of all the numbers in a list of lists", "sort"]
    together = encoders.states(teacher, texts, size=2)
    for text, state in zip(texts, together, strict=True):
        inputs = teacher.view.collate([teacher.view.encode({"text": text})])
        with torch.no_grad():
            hidden = teacher.view.emit(teacher.model, inputs.arguments, ("hidden:-1",)).hidden.popitem()[1]
        torch.testing.assert_close(state, hidden[0].mean(0), atol=1e-5, rtol=1e-4)


def test_a_probe_on_states_that_name_the_package_tells_all_and_on_constant_ones_none(teacher, monkeypatch):
    codes = {package: torch.eye(len(PACKAGES))[place] for place, package in enumerate(PACKAGES)}
    owners = dict(zip(*encoders.labelled("train", 3), strict=True)) | dict(
        zip(*encoders.labelled("test", 3), strict=True)
    )
    for states, share in ((lambda text: codes[owners[text]], 1.0), (lambda text: torch.ones(2), 1 / len(PACKAGES))):
        monkeypatch.setattr(encoders, "states", lambda _, texts, of=states: torch.stack([of(text) for text in texts]))
        found = encoders.packages_told(teacher, part="test", smoke=True)
        assert found == {"probe_accuracy": pytest.approx(share)}


def test_every_bench_runs(tmp_path):
    result = reproduce("minilmv2", seeds=[0], smoke=True, folder=tmp_path)
    systems = ["teacher", "minilmv2", "od", "hs-last", "hs-uniform", "mlm", "untrained"]
    assert list(result["systems"]) == systems
    assert all(system["values"][0] is not None for system in result["systems"].values())


@pytest.mark.parametrize("slug", ["cofi", "is3"])
def test_every_measured_bench_runs(slug, tmp_path):
    bench = encoders.BENCHES[slug]
    result = reproduce(slug, seeds=[0], smoke=True, folder=tmp_path)
    assert {slug, bench.versus} <= set(result["systems"])
    assert all(0 <= system["values"][0] <= 1 for system in result["systems"].values())


def test_a_task_labels_its_own_kinds_and_no_other():
    rows = tagging.sentences("train")
    assert {tag for row in rows for tag in row["tags"]} == set(range(7))
    for task, kinds in enumerate(tagging.TASKS):
        found = tagging.task_rows(task, False)
        assert {tag for row in found for tag in row["tags"]} == {0, *kinds}
    assert sum(len(tagging.task_rows(task, False)) for task in range(3)) == len(rows)


def test_names_are_marked_where_they_stand():
    words = ["the", "United", "States", "and", "the", "United", "Arab", "Emirates"]
    tags = [0] * len(words)
    tagging._mark(words, tags, ["United", "Arab", "Emirates"], 1)
    tagging._mark(words, tags, ["United"], 2)
    assert tags == [0, 2, 0, 0, 0, 1, 1, 1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_of_pruning_tells_better_from_worse(tmp_path):
    """The teacher tells more definitions than a small student made from nothing, by more than its seeds differ."""
    systems = reproduce("cofi", folder=tmp_path)["systems"]
    small = systems["small-from-nothing"]
    assert systems["teacher"]["mean"] - small["mean"] > 3 * small["std"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_of_taggers_tells_better_from_worse(tmp_path):
    """All labels at once are worth more than tasks one after the other, by more than the seeds differ."""
    systems = reproduce("is3", folder=tmp_path)["systems"]
    assert systems["joint"]["mean"] - systems["sequential"]["mean"] > 3 * systems["sequential"]["std"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_tells_better_from_worse(tmp_path):
    """The teacher's states say more than those of a student trained without it, by more than its seeds differ."""
    systems = reproduce("minilmv2", folder=tmp_path)["systems"]
    assert systems["teacher"]["mean"] - systems["mlm"]["mean"] > 3 * systems["mlm"]["std"]
