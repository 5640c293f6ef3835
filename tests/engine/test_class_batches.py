"""Batches of a few classes: what is in them, that they need no history, that a run on them resumes bit for bit.

.venv/bin/python -m pytest tests/engine/test_class_batches.py
"""

from collections import Counter

import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError

from stillroom.engine.batches import BatchPlan, ClassPlan, plan_batches
from stillroom.engine.encoding import encode
from stillroom.engine.loop import Trainer
from stillroom.engine.settings import Train
from stillroom.errors import UserError
from stillroom.methods.baselines import BASELINES
from stillroom.recipe import Scratch
from stillroom.students.open import new_model
from stillroom.views.load import open_model

LABELS = [n % 4 for n in range(40)] + [4] * 3 + [9] * 20


def plan(seed=0, batch_size=15, per_class=5, labels=LABELS):
    return ClassPlan(labels, batch_size=batch_size, per_class=per_class, seed=seed)


def test_every_batch_has_as_many_rows_of_each_of_its_classes():
    made = plan()
    for step in range(50):
        rows = made.rows(step)
        assert len(rows) == len(set(rows)) == 15
        assert set(Counter(LABELS[row] for row in rows).values()) == {5}


def test_classes_and_rows_are_drawn_alike_and_a_class_with_too_few_rows_never():
    made = plan()
    drawn = [row for step in range(400) for row in made.rows(step)]
    of_class = Counter(LABELS[row] for row in drawn)
    assert set(of_class) == {0, 1, 2, 3, 9}
    assert max(of_class.values()) / min(of_class.values()) < 1.2  # class 9 has twice the rows, and is as likely
    of_nine = Counter(row for row in drawn if LABELS[row] == 9)
    assert len(of_nine) == 20 and max(of_nine.values()) / min(of_nine.values()) < 2


def test_the_rows_of_a_step_need_no_history_and_change_with_the_seed():
    walked = plan()
    steps = [walked.rows(step) for step in range(12)]
    assert [plan().rows(step) for step in (11, 0, 5)] == [steps[11], steps[0], steps[5]]
    assert [plan(seed=1).rows(step) for step in range(12)] != steps and steps[0] != steps[1]


def test_an_epoch_is_as_long_as_a_pass_and_the_fingerprint_is_of_the_labels():
    assert plan().steps_per_epoch == 5  # 63 rows
    assert plan().fingerprint == plan(seed=3, batch_size=5).fingerprint != plan(labels=LABELS[::-1]).fingerprint


def test_too_few_classes_are_refused():
    with pytest.raises(UserError, match="needs 6 classes that have as many; the data has 5"):
        plan(batch_size=30)
    with pytest.raises(UserError, match=r"needs 2 classes .* has 1"):
        plan(batch_size=40, per_class=20)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValidationError, match=r"batch_size \(32\) must be a multiple of per_class \(5\)"):
        Train(per_class=5)
    with pytest.raises(ValidationError, match="set one of them"):
        Train(per_class=4, group_by_length=True)


def encoded(labels, with_labels=True):
    rows = [{"student": {"id": str(n)} | ({"label": label} if with_labels else {})} for n, label in enumerate(labels)]
    return Dataset.from_list([row | {"length": 1} for row in rows])


def test_labels_are_read_from_encoded_rows_in_whatever_order_they_were_picked():
    picked = encoded(range(20)).select([19, 3, 3, 19, 7, 7, 7, 3])
    made = plan_batches(picked, Train(batch_size=4, per_class=2), fill=True)
    assert isinstance(made, ClassPlan) and made.labels.tolist() == [19, 3, 3, 19, 7, 7, 7, 3]
    assert isinstance(plan_batches(picked, Train(batch_size=4), fill=True), BatchPlan)
    with pytest.raises(UserError, match="rows have none; leave it out"):
        plan_batches(encoded(range(9), with_labels=False), Train(batch_size=4, per_class=2), fill=False)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_last_batch_can_be_filled_with_the_first_ones_rows(grouped):
    lengths = [1 + n % 7 for n in range(21)]
    made = BatchPlan(lengths, batch_size=8, seed=0, group_by_length=grouped, fill=True)
    for epoch in range(3):
        batches = [made.rows(3 * epoch + place) for place in range(3)]
        assert all(len(set(batch)) == 8 for batch in batches)
        assert {row for batch in batches for row in batch} == set(range(21))
    alone = BatchPlan([1] * 5, batch_size=8, seed=0, group_by_length=False, fill=True)
    assert sorted(alone.rows(0)) == [0, 1, 2, 3, 4]


@pytest.fixture(scope="module")
def tiny_images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    torch.manual_seed(0)
    config = {"num_channels": 1, "embedding_size": 4, "hidden_sizes": [4, 6], "depths": [1, 1], "layer_type": "basic"}
    new_model(Scratch(architecture="resnet", config=config), "image-encoder", list, folder)
    return folder


def trainer(model, folder, **settings):
    opened = open_model(str(model), "image-encoder", size=8, channels=1)
    draw = torch.Generator().manual_seed(1)
    rows = [{"image": torch.rand(8, 8, generator=draw).tolist(), "label": n % 5} for n in range(43)]
    held_out, _ = encode(Dataset.from_list(rows[:13]), opened.view)
    folder.mkdir(parents=True, exist_ok=True)
    return Trainer(
        student=opened.model,
        objective=BASELINES["triplet"](),
        view=opened.view,
        teacher=None,
        teacher_view=None,
        rows=encode(Dataset.from_list(rows), opened.view)[0],
        validation=held_out,
        settings=Train(**({"steps": 5, "batch_size": 6, "per_class": 2, "device": "cpu", "save_every": 1} | settings)),
        folder=folder,
        fingerprint="one",
    )


def test_a_run_on_them_resumes_bit_for_bit(tiny_images, tmp_path):
    plain = trainer(tiny_images, tmp_path / "plain")
    plain.run()
    cut = trainer(tiny_images, tmp_path / "cut")
    step = cut.train_step

    def stopping():
        if cut.step == 3:
            raise KeyboardInterrupt
        return step()

    cut.train_step = stopping
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    resumed = trainer(tiny_images, tmp_path / "cut")
    resumed.run(resume=True)
    wanted, found = (each.pair.state_dict() for each in (plain, resumed))
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_a_loss_across_rows_is_validated_on_whole_batches(tiny_images, tmp_path):
    """Of 13 held-out rows, two batches of six: the odd one would be a batch of another kind."""
    made = trainer(tiny_images, tmp_path / "run")
    seen = []
    parts = made.objective.parts
    made.objective.parts = lambda student, teacher, batch, step: (
        seen.append(len(batch)) or parts(student, teacher, batch, step)
    )
    made.validate()
    assert seen == [6, 6]
