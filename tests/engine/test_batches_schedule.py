"""Which rows make up a step, what the learning rate is there, and which evaluation counts as the best.

.venv/bin/python -m pytest tests/engine/test_batches_schedule.py
"""

import math

import pytest
import torch
from pydantic import ValidationError

from stillroom.engine import checkpoint
from stillroom.engine.batches import BatchPlan, share
from stillroom.engine.schedule import factor
from stillroom.engine.settings import Train
from stillroom.errors import UserError


def plan(rows=10, batch_size=4, seed=0, group_by_length=False, lengths=None):
    return BatchPlan(lengths or [1] * rows, batch_size=batch_size, seed=seed, group_by_length=group_by_length)


@pytest.mark.parametrize("grouped", [False, True])
def test_an_epoch_has_every_row_once_and_the_next_another_order(grouped):
    made = plan(rows=103, batch_size=8, group_by_length=grouped, lengths=[(7 * n) % 31 + 1 for n in range(103)])
    assert made.steps_per_epoch == 13
    epochs = [[made.rows(step) for step in range(13 * epoch, 13 * epoch + 13)] for epoch in range(2)]
    for batches in epochs:
        assert sorted(row for batch in batches for row in batch) == list(range(103))
        assert sorted(len(batch) for batch in batches) == [7, *[8] * 12]
    assert epochs[0] != epochs[1]


def test_the_rows_of_a_step_need_no_history():
    walked = plan(rows=20)
    steps = [walked.rows(step) for step in range(12)]
    for step in (11, 3, 7, 0):
        assert plan(rows=20).rows(step) == steps[step]
    assert [plan(rows=20, seed=1).rows(step) for step in range(5)] != steps[:5]


def test_grouped_rows_of_a_batch_are_of_like_length():
    lengths = [1 + n % 100 for n in range(1000)]
    made = plan(batch_size=10, group_by_length=True, lengths=lengths)
    spreads = []
    for step in range(100):
        of_batch = [lengths[row] for row in made.rows(step)]
        spreads.append(max(of_batch) - min(of_batch))
    assert sum(spreads) / len(spreads) < 4  # of 10 random rows it would be some 80
    firsts = [lengths[made.rows(step)[0]] for step in range(50)]
    assert firsts != sorted(firsts) and firsts != sorted(firsts, reverse=True)


def test_the_fingerprint_tells_rows_apart_and_knows_them_again():
    assert plan(lengths=[3, 1, 2]).fingerprint == plan(lengths=[3, 1, 2], seed=5, batch_size=1).fingerprint
    prints = {plan(lengths=lengths).fingerprint for lengths in ([3, 1, 2], [1, 3, 2], [3, 1], [3, 1, 2, 4], [3, 1, 3])}
    assert len(prints) == 5


@pytest.mark.parametrize(("rows", "world", "micro"), [(8, 1, 8), (8, 2, 2), (7, 2, 2), (7, 3, 1), (9, 4, 2)])
def test_every_process_gets_its_share_and_every_row_has_one(rows, world, micro):
    parts = [share(list(range(rows)), rank=rank, world=world, micro_batch=micro) for rank in range(world)]
    assert sorted(row for part in parts for batch in part for row in batch) == list(range(rows))
    sizes = [sum(map(len, part)) for part in parts]
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
    assert all(len(batch) <= micro for part in parts for batch in part)


def test_a_batch_too_small_for_all_processes_is_for_none():
    assert [share([4, 5], rank=rank, world=3, micro_batch=2) for rank in range(3)] == [[], [], []]


def test_the_learning_rate_by_hand():
    constant = [factor(step, 10, warmup=0.2, shape="constant") for step in range(10)]
    assert constant == pytest.approx([1 / 3, 2 / 3, *[1] * 8])  # two steps of rising, never 0
    linear = [factor(step, 10, warmup=0.0, shape="linear") for step in range(10)]
    assert linear == pytest.approx([1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    cosine = [factor(step, 4, warmup=0.0, shape="cosine") for step in range(4)]
    assert cosine == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])
    flat = [factor(step, 10, warmup=0.0, shape="stable-decay") for step in range(10)]
    assert flat == pytest.approx([*[1] * 9, 0.5])


@pytest.mark.parametrize("shape", ["constant", "linear", "cosine", "stable-decay"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("total", [1, 2, 7, 100])
def test_the_factor_stays_in_bounds_and_the_first_step_is_not_wasted(shape, warmup, total):
    factors = [factor(step, total, warmup=warmup, shape=shape) for step in range(total)]
    assert all(0 <= value <= 1 for value in factors) and factors[0] > 0


def test_an_unknown_shape_is_refused():
    with pytest.raises(UserError, match=r"did you mean 'cosine'\?"):
        factor(0, 1, warmup=0.0, shape="cosin")
    with pytest.raises(ValidationError):
        Train(schedule="cosin")


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([3.0, 1.0, 2.0], (2, 1.0)),
        ([float("nan"), 2.0, 1.0], (3, 1.0)),
        ([2.0, float("nan"), float("nan")], (1, 2.0)),
        ([2.0, 2.0, 2.0], (1, 2.0)),
        ([float("nan")] * 3, None),
    ],
)
def test_the_best_evaluation_is_a_number(make_trainer, tmp_path, scores, best):
    trainer = make_trainer(tmp_path / "run", evaluate_every=1, steps=3, rows=8, validation=0)
    left = iter(scores)
    trainer.evaluate = lambda student: {"loss": next(left)}
    assert trainer.run().best == best


def test_the_best_of_an_earlier_try_is_not_taken_for_this_ones(make_trainer, tmp_path):
    """Killed before its first checkpoint, a run starts anew; what it found best then is gone."""
    folder = tmp_path / "run" / "checkpoints"
    checkpoint.save(folder, "best-000900", {"fingerprint": "one", "pair": {"nothing": torch.ones(1)}})
    trained = make_trainer(tmp_path / "run", evaluate_every=1, steps=3, save_every=0).run(resume=True)
    assert [path.name for path in folder.iterdir()] == [f"best-{trained.best[0]:06d}"]


def test_rows_that_changed_are_not_resumed_with(make_trainer, tmp_path):
    make_trainer(tmp_path / "run", save_every=2, steps=2).run()
    with pytest.raises(UserError, match="the rows are not those"):
        make_trainer(tmp_path / "run", save_every=2, steps=2, rows=23).run(resume=True)


@pytest.mark.parametrize(("keep", "left"), [(0, []), (1, [30]), (2, [20, 30]), (9, [10, 20, 30])])
def test_the_newest_checkpoints_are_kept(tmp_path, keep, left):
    for step in (10, 30, 20):
        checkpoint.save(tmp_path, f"step-{step:06d}", {})
    checkpoint.prune(tmp_path, "step", keep)
    assert [path.name for path in checkpoint.found(tmp_path, "step")] == [f"step-{step:06d}" for step in left]
