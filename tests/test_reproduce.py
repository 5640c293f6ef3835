"""Seeds side by side: the figures of one process after another, and what is said when a process dies.

.venv/bin/python -m pytest tests/test_reproduce.py
"""

import os
from functools import partial

import pytest
import torch

from stillroom import reproduce as module
from stillroom.errors import UserError
from stillroom.reproduce import reproduce


def values(result):
    return {name: system["values"] for name, system in result["systems"].items()}


@pytest.fixture
def one_thread():
    """Sums in one order: workers have one thread where there are as many as cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_side_by_side_and_in_turn_measure_the_same(tmp_path, one_thread):
    told = []
    together = reproduce("survey-llm-kd", seeds=[3, 1], smoke=True, workers=2, folder=tmp_path, tell=told.append)
    alone = reproduce("survey-llm-kd", seeds=[3, 1], smoke=True, workers=1, folder=tmp_path)
    assert values(together) == values(alone) and together["seeds"] == [3, 1]
    assert told[0] == "survey-llm-kd: 2 seeds, 2 at once" and len(told) == 3


def dies(slug, smoke, kept, seed):
    os._exit(9)


def refuses(slug, smoke, kept, seed):
    raise UserError(f"seed {seed} has no rows")


@pytest.mark.parametrize(("what", "said"), [(dies, "missing: 0, 1.*--workers 1"), (refuses, "seed . has no rows")])
def test_a_seed_that_fails_ends_the_run_with_one_sentence(what, said, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_systems", what)
    with pytest.raises(UserError, match=said):
        reproduce("survey-llm-kd", seeds=[0, 1], smoke=True, workers=2, folder=tmp_path)


def threads(seed):
    return [{"threads": torch.get_num_threads()}]


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr(module.os, "cpu_count", lambda: 4)
    found = {seed: systems[0]["threads"] for seed, systems in module._side_by_side(partial(threads), [0, 1, 2], 2)}
    assert found == {0: 2, 1: 2, 2: 2}


def test_times_are_measured_one_after_the_other(tmp_path):
    told = []
    reproduce("gc-block", seeds=[0, 1], smoke=True, workers=2, folder=tmp_path, tell=told.append)
    assert told[0] == "gc-block: 2 seeds, 1 at once"
