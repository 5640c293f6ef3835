"""The next step's rows are read while this one computes; what comes out is the same as without.

.venv/bin/python -m pytest tests/engine/test_ahead.py
"""

import threading

import pytest

from stillroom.engine.ahead import Ahead
from stillroom.errors import UserError


def rows(number):
    return [number, number + 10]


def test_each_step_gets_its_own():
    ahead = Ahead(rows, lambda places: [place * 2 for place in places], total=4)
    assert [ahead.take(number) for number in range(4)] == [[0, 20], [2, 22], [4, 24], [6, 26]]


def test_the_next_is_made_before_it_is_asked_for_and_none_beyond_the_last():
    made, second = [], threading.Event()

    def make(places):
        made.append(places[0])
        if places[0] == 1:
            second.set()
        return places

    ahead = Ahead(rows, make, total=2)
    ahead.take(0)
    assert second.wait(10)  # nobody has asked for step 1
    ahead.take(1)
    assert made == [0, 1]


def test_another_step_than_the_next_may_be_asked_for():
    ahead = Ahead(rows, tuple, total=9)
    assert [ahead.take(number) for number in (0, 5, 5, 2, 3)] == [(0, 10), (5, 15), (5, 15), (2, 12), (3, 13)]


def test_what_goes_wrong_is_said_when_the_step_comes():
    def make(places):
        if places[0] == 1:
            raise UserError("the store lacks the row 1")
        return places

    ahead = Ahead(rows, make, total=3)
    assert ahead.take(0) == [0, 10]
    with pytest.raises(UserError, match="lacks the row 1"):
        ahead.take(1)


def test_rows_are_drawn_by_the_caller_and_read_by_the_thread():
    def named(places):
        return drawn.pop(0), threading.current_thread().name

    drawn = []
    ahead = Ahead(lambda number: drawn.append(threading.current_thread().name) or [number], named, total=1)
    assert ahead.take(0) == (threading.current_thread().name, "stillroom-ahead_0")
