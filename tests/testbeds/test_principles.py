"""The ground of the surveys: its rows, what is measured, and that it tells better from worse.

.venv/bin/python -m pytest tests/testbeds/test_principles.py
"""

import json

import pytest
import torch
from torch import nn

from stillroom.data.files import load
from stillroom.methods.analysis.survey_kd_principles import Sweep
from stillroom.objectives import forward_kl
from stillroom.testbeds import fields, principles, principles_of_divergence, principles_of_text
from stillroom.testbeds.fitting import batches, fit, seeded
from stillroom.testbeds.principles import BENCHES

pytestmark = pytest.mark.usefixtures("own_cache")


def test_every_digit_stands_at_nine_places_and_a_tenth_is_few():
    images, labels = fields.rows("train", True)
    assert images.shape == (900, 10, 10) and len(labels) == 900
    found = torch.tensor(load("digits", split="train", limit=100)["image"])
    first, last = images[:100], images[-100:]
    assert (first[:, :8, :8] - found).abs().mean() < 2 * fields.NOISE  # top left
    assert (last[:, 2:, 2:] - found).abs().mean() < 2 * fields.NOISE  # bottom right
    kept = fields.few(fields.Rows(images, labels))
    assert kept.tolist() == [100 * way + digit for way in range(9) for digit in range(0, 100, 10)]


def test_batches_go_through_all_rows_before_any_comes_twice():
    found = list(batches(10, 4, 5, seed=0))
    assert [len(places) for places in found] == [4] * 5
    assert len(set(torch.cat(found[:2]).tolist())) == 8
    assert torch.equal(torch.stack(found), torch.stack(list(batches(10, 4, 5, seed=0))))


def test_a_fit_lowers_its_loss_and_starts_where_the_seed_says():
    model, other = (seeded(lambda: nn.Linear(3, 1), 7) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    inputs = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))

    def loss(at):
        return (model(inputs[at]) - inputs[at].sum(-1, keepdim=True)).square().mean()

    before = loss(torch.arange(20)).item()
    assert fit(model, loss, rows=20, steps=200, seed=0, batch=8, learning_rate=3e-2) > 0
    assert loss(torch.arange(20)).item() < 0.01 * before


def test_the_temperature_is_chosen_between_the_ends():
    values = {(1.0, 0.9): 0.9, (2.0, 0.9): 0.4, (4.0, 0.9): 0.6, (8.0, 0.9): 0.95}
    assert principles.chosen_inside(Sweep(values, (1.0, 2.0, 4.0, 8.0), (0.9,)), 0.9) == 4.0


def test_definitions_of_teacher_students_and_test_are_apart():
    words = {
        part: {tuple(row) for row in principles_of_text.rows(part, True).words.tolist()}
        for part in principles_of_text.ROWS
    }
    assert not words["teacher"] & words["student"] and not words["test"] & (words["teacher"] | words["student"])
    assert min(map(len, words.values())) > 190
    shares = [
        principles_of_text.rows(part, True).labels.bincount(minlength=45) / 200 for part in ("teacher", "student")
    ]
    assert (shares[0] - shares[1]).abs().max() < 0.15  # WordNet's order would put adverbs into one of them


def test_the_teacher_of_divergences_has_two_modes_far_apart():
    for seed in range(5):
        log_probs, bells = principles_of_divergence.teacher(seed)
        assert float(log_probs.exp().sum()) == pytest.approx(1)
        first, second = bells.argmax(-1).tolist()
        assert log_probs[(first + second) // 2].exp() < 0.05 * log_probs[[first, second]].exp().min()


def test_a_bell_is_fitted_to_a_teacher_that_is_one():
    with torch.no_grad():
        target = principles_of_divergence.Bell(torch.tensor(21.0).double(), torch.tensor(4.0).double())()
    found, _ = principles_of_divergence.fitted(forward_kl, target, smoke=False)
    assert float(found.places) == pytest.approx(21, abs=0.05) and float(found.log_widths.exp()) == pytest.approx(
        4, abs=0.05
    )


@pytest.mark.parametrize("slug", BENCHES)
def test_the_bench_runs_in_a_few_steps_and_its_entries_are_those_of_a_run(slug):
    bench = BENCHES[slug]
    entries = bench.measure(True, 0)
    names = [one["name"] for one in entries]
    assert len(set(names)) == len(names) and {slug, bench.versus} <= set(names)
    assert [one["role"] for one in entries].count("student") == 1
    assert all(bench.metric in one["metrics"] and one["parameters"] > 0 for one in entries)
    assert len({tuple(one["metrics"]) for one in entries}) >= 1
    json.dumps(entries, allow_nan=False)
    again = {one["name"]: one["metrics"][bench.metric] for one in bench.measure(True, 0)}
    assert again == {one["name"]: one["metrics"][bench.metric] for one in entries}  # by the seed alone


def test_the_table_of_access_tells_what_the_checklist_asks():
    entries = {one["name"]: one for one in BENCHES["survey-llm-kd-methods"].measure(True, 0)}
    asked = {name: one["metrics"]["queries"] for name, one in entries.items()}
    assert asked == {
        "teacher": 0.0,
        "survey-llm-kd-methods": 200.0,
        "labels": 0.0,
        "hard-labels": 200.0,
        "logits-and-hints": 200.0,
    }
    assert entries["labels"]["metrics"]["cost"] == 1.0 and entries["labels"]["metrics"]["compression"] > 8


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_tells_better_from_worse(whole_ground):
    """The teacher beats a student without it, by more than three seeds of that student differ."""
    for slug, alone in (("survey-kd", "alone"), ("survey-kd-principles", "alone"), ("survey-llm-kd-methods", "labels")):
        found = [
            {one["name"]: one["metrics"]["accuracy"] for one in BENCHES[slug].measure(False, seed)} for seed in range(3)
        ]
        students = torch.tensor([values[alone] for values in found])
        assert min(values["teacher"] for values in found) - students.mean() > 2 * students.std(), slug
