"""Pace and budget: figures by hand, and the server's own clock and counts.

Run: pytest tests/synthesis/test_limits.py
"""

import time
from threading import Event, Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.servers import limited_server

from stillroom.errors import UserError
from stillroom.synthesis.costs import Price
from stillroom.synthesis.limits import Budget, Limits, Pace
from stillroom.teachers import chat
from stillroom.teachers.chat import NotAskedError
from stillroom.teachers.endpoint import Endpoint

pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(chat, "FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def complete(endpoint, count):
    return list(endpoint.complete([f"question {number}" for number in range(count)], map(str, range(count))))


def message(text):
    return [{"role": "user", "content": text}]


def test_a_pace_by_hand():
    pace = Pace(requests_per_minute=30, tokens_per_minute=600)  # 2 s a request, 0.1 s a token
    assert [pace.take(tokens, 100.0) for tokens in (5, 50, 20, 1)] == [100.0, 102.0, 107.0, 109.0]
    pace.settle(guessed=1, counted=100)  # took 10 s, not 2
    assert pace.take(1, 100.0) == 119.0
    pace.settle(guessed=100, counted=1)
    assert pace.take(1, 100.0) == pytest.approx(113.0)
    assert pace.take(1, 500.0) == 500.0  # what was not used is not saved up


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(1, 400), st.floats(0, 20)), max_size=60),
    st.integers(1, 100),
    st.integers(100, 5000),
)
def test_no_minute_has_more_than_its_share(arrivals, requests, tokens):
    pace, now, starts = Pace(requests, tokens), 0.0, []
    for size, later in arrivals:
        now += later
        starts.append((pace.take(size, now), size))
    for place, (start, _) in enumerate(starts):
        minute = [size for moment, size in starts[place:] if moment < start + 60 - 1e-6]
        assert len(minute) <= requests + 1
        assert sum(minute[:-1]) <= tokens * (1 + 1e-9)


def test_the_server_sees_the_pace():
    started = time.monotonic()
    with limited_server() as server:
        complete(Endpoint(server.url, "tiny", concurrency=8, gate=Limits(pace=Pace(requests_per_minute=1200))), 8)
        last = max(moment for _, moment, _ in server.requests)
    assert last - started >= 7 * 0.05


def test_repeated_requests_are_paced_too():
    started = time.monotonic()
    with limited_server(first=[500, 500]) as server:
        complete(Endpoint(server.url, "tiny", gate=Limits(pace=Pace(requests_per_minute=120))), 1)
        times = [moment for _, moment, _ in server.requests]
    assert len(times) == 3 and times[-1] - started >= 2 * 0.5


def test_who_waits_for_the_pace_can_be_woken():
    limits, stop, ended = Limits(pace=Pace(requests_per_minute=1)), Event(), []

    def wait():
        try:
            limits.enter(message("b"), {}, stop)
        except NotAskedError as error:
            ended.append(str(error))

    limits.enter(message("a"), {}, stop)
    waiting = Thread(target=wait)
    waiting.start()
    time.sleep(0.05)
    stop.set()
    waiting.join(2)
    assert ended == ["the run was stopped"]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_requests_are_never_more_than_the_budget_repeats_included(concurrency):
    with limited_server(first=[500]) as server:
        endpoint = Endpoint(server.url, "tiny", concurrency=concurrency, gate=Limits(budget=Budget(requests=11)))
        answers = complete(endpoint, 30)
        assert len(server.requests) == 11 == endpoint.usage.requests
    assert len(answers) == 11 // 2 if concurrency == 1 else 1 <= len(answers) <= 5
    assert endpoint.closed == "the budget of 11 requests is spent" and endpoint.failures == []


@pytest.mark.parametrize("concurrency", [1, 6])
def test_tokens_and_money_stay_within_the_budget_and_little_of_it_is_left(concurrency):
    # By the server's count a question costs 2 tokens and its answer 4; each is allowed 10.
    for budget, price in ((Budget(tokens=100), None), (Budget(money=2 * 2 + 3 * 80), Price(1e6 * 2, 1e6 * 3))):
        with limited_server() as server:
            gate = Limits(budget=budget, price=price)
            endpoint = Endpoint(server.url, "tiny", concurrency=concurrency, max_tokens=10, gate=gate)
            answers = complete(endpoint, 200)
        requests, tokens_in, tokens_out = gate.spent
        assert (requests, tokens_in, tokens_out) == (len(answers), 2 * len(answers), 4 * len(answers))
        spent = tokens_in + tokens_out if price is None else price.of(tokens_in, tokens_out)
        longest = 13 if price is None else price.of(4, 10)
        allowed = budget.tokens or budget.money
        assert allowed - longest <= spent <= allowed
        assert "is spent" in endpoint.closed


def test_a_budget_that_can_not_be_held_is_told():
    with pytest.raises(UserError, match="needs the price"):
        Limits(budget=Budget(money=1.0))
    with limited_server(counts=False) as server:
        endpoint = Endpoint(server.url, "tiny", concurrency=1, gate=Limits(budget=Budget(tokens=10**6)))
        assert len(complete(endpoint, 9)) == 1 == len(server.requests)
    assert "does not count tokens" in endpoint.closed
    for wrong in ({"requests_per_minute": 0.0}, {"tokens_per_minute": -1.0}):
        with pytest.raises(ValueError, match="above 0"):
            Pace(**wrong)


def test_an_iteration_left_early_does_not_wait_for_the_pace():
    with limited_server() as server:
        endpoint = Endpoint(server.url, "tiny", concurrency=4, gate=Limits(pace=Pace(requests_per_minute=1)))
        started = time.monotonic()
        for _ in endpoint.complete([f"q{i}" for i in range(9)], map(str, range(9))):
            break
        assert time.monotonic() - started < 20 and len(server.requests) == 1
    assert endpoint.closed == "" and endpoint.failures == []
