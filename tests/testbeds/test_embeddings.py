"""The ground of the family `embeddings`: its rows, what it measures, and that it tells better from worse.

.venv/bin/python -m pytest tests/testbeds/test_embeddings.py
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stillroom.data.pydocs import Source, functions
from stillroom.reproduce import reproduce
from stillroom.testbeds import described as rows
from stillroom.testbeds import embeddings, untuned
from stillroom.views.load import open_model

pytestmark = pytest.mark.usefixtures("one_package")


def test_rows_are_functions_and_their_descriptions_and_none_is_in_two_splits():
    found = {split: rows.described(split, 20) for split in ("train", "validation", "test")}
    for split, chosen in found.items():
        known = {row["summary"]: row for row in functions(split, Source(rows.PACKAGES))}
        for row in chosen:
            function = known[row["anchor"]]
            assert row["positive"].startswith(function["qualified_name"])
            assert row["positive"].endswith(function["signature"].rstrip(":")[-5:])
            assert max(len(row["anchor"]), len(row["positive"])) <= rows.LONGEST
    shown = [row["positive"] for chosen in found.values() for row in chosen]
    assert len(set(shown)) == len(shown) == 60
    with pytest.raises(ValueError, match="described functions for test, not 100000"):
        rows.described("test", 100_000)


def test_rows_lie_in_a_file():
    chosen = rows.described("train", 3)
    path = rows.rows_file("some", chosen)
    assert [json.loads(line) for line in Path(path).read_text().splitlines()] == list(chosen)
    assert rows.rows_file("some", chosen) == path != rows.rows_file("some", chosen[:2])


def test_likeness_by_hand():
    """Twelve points on a half circle, each nearest to the next; the model has the first one elsewhere."""
    angles = 3 * torch.linspace(0, 1, 12).sqrt()
    theirs = torch.stack([angles.cos(), angles.sin()], -1)
    same = embeddings.compared(theirs, theirs)
    assert same["teacher_spearman"] == pytest.approx(1) and same["nearest@10"] == 1.0
    ours = theirs.clone()
    ours[0] = torch.tensor([-1.0, 0.0])  # from the one end to beyond the other: its nearest is now its furthest
    moved = embeddings.compared(ours, theirs)
    # ten of eleven others: only the furthest is not among a point's nearest, and only the moved one wanted just that
    assert moved["nearest@10"] == pytest.approx(11 / 12)
    assert 0.3 < moved["teacher_spearman"] < 0.99


def test_the_teacher_is_like_itself_also_after_a_reduction(monkeypatch):
    monkeypatch.setattr(embeddings, "FITTED_ON", 200)
    teacher = open_model(embeddings.TEACHER, "embeddings", max_length=embeddings.WINDOW)
    found = embeddings.likeness(teacher, count=16)
    assert found["teacher_spearman"] == pytest.approx(1) and found["nearest@10"] == 1.0 and found["mrr@10"] > 0.7
    reduced = embeddings.likeness(teacher, count=16, width=16)
    assert 0.7 < reduced["teacher_spearman"] < 0.999 and reduced["nearest@10"] > 0.9


@pytest.mark.parametrize("slug", sorted(embeddings.BENCHES))
def test_every_bench_runs(slug, tmp_path):
    bench = embeddings.BENCHES[slug]
    result = reproduce(slug, seeds=[0], smoke=True, folder=tmp_path)
    expected = {"teacher", "untrained"} if bench.recipe is not None else set()
    assert {slug, bench.versus, *expected} <= set(result["systems"])
    assert all(value is None or 0 <= value <= 1 for system in result["systems"].values() for value in system["values"])
    assert None not in result["systems"][slug]["values"] + result["systems"][bench.versus]["values"]


def test_translations_are_looked_for_in_both_directions():
    """Of three messages on a circle, the second's translation lies nearer to the first's."""
    english, german = np.array([0.0, 1.0, 2.0]), np.array([0.1, 0.3, 2.1])
    found = [np.stack([np.cos(angles), np.sin(angles)], 1) for angles in (english, german)]
    # English to German: 0 finds 0.1, 1 finds 0.3, 2 finds 2.1; German to English: 0.3 finds 0 instead of 1
    assert untuned.translations_found(*found) == pytest.approx((3 / 3 + 2 / 3) / 2)


def test_messages_of_the_test_are_not_learnt_from():
    learnt = {json.loads(line)["text"] for line in Path(untuned.messages(True)).read_text().splitlines()}
    asked = untuned._translations()
    assert len(asked) > 1000 and not learnt & {text for pair in asked for text in pair}
    assert len({english for english, _ in asked}) == len({german for _, german in asked}) == len(asked)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_encoder_that_was_tuned_finds_more_translations(tmp_path, whole_ground):
    found = reproduce("isotropy", folder=tmp_path)["systems"]
    assert found["teacher"]["mean"] - found["untouched"]["mean"] > 3 * found["untouched"]["std"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_tells_better_from_worse(tmp_path, whole_ground):
    """The teacher finds more functions than a student that is trained without it, by more than its seeds differ."""
    found = reproduce("distilcse", folder=tmp_path)["systems"]
    alone = found["contrastive"]["metrics"]["mrr@10"]
    assert found["teacher"]["metrics"]["mrr@10"][0] - max(alone) > 3 * (max(alone) - min(alone))
