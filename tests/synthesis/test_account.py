"""Accounts that add up, over steps and over a whole pipeline; money; the table.

Run: pytest tests/synthesis/test_account.py
"""

import logging
from collections import Counter

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from stillroom.errors import UserError
from stillroom.synthesis import filters
from stillroom.synthesis.account import Account, accounted, chain
from stillroom.synthesis.costs import Price, price_of, table
from stillroom.synthesis.duplicates import exact
from stillroom.synthesis.generate import generate
from stillroom.synthesis.parse import parse_rows
from stillroom.synthesis.writers import FunctionWriter, Written


@st.composite
def accounts(draw):
    number = st.integers(0, 10**6)
    reasons = Counter(draw(st.dictionaries(st.sampled_from(["a", "b", "c"]), number)))
    kept, added = draw(number), draw(number)
    rows = kept + reasons.total() - added
    return Account("s", rows=rows, added=added, kept=kept, rejected=reasons, asked=draw(number), tokens_in=draw(number))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(accounts(), accounts())
def test_what_adds_up_alone_adds_up_together(one, other):
    both = one + other
    assert one.adds_up and other.adds_up and both.adds_up
    assert both.rejected["a"] == one.rejected["a"] + other.rejected["a"]
    assert (both.kept, both.asked, both.tokens_in) == (
        one.kept + other.kept,
        one.asked + other.asked,
        one.tokens_in + other.tokens_in,
    )
    one.kept += 1
    assert not one.adds_up


def test_steps_one_after_the_other():
    first = Account("x", rows=10, kept=12, added=4, rejected=Counter(a=2), asked=10, money=0.5)
    second = Account("y", rows=12, kept=5, rejected=Counter(a=3, b=4), asked=12, money=0.25)
    whole = chain([first, second])
    assert (whole.rows, whole.kept, whole.added, whole.asked, whole.money) == (10, 5, 4, 22, 0.75)
    assert whole.rejected == {"a": 5, "b": 4} and whole.adds_up and (first.kept, second.rows) == (12, 12)
    with pytest.raises(ValueError, match="'y' kept 5 rows and 'x' got 10"):
        chain([second, first])
    assert chain([]).adds_up


def test_an_end_before_the_end_is_logged_as_a_warning(caplog):
    caplog.set_level(logging.INFO, "stillroom")
    with accounted("one") as account:
        account.rows = account.kept = 2
    with accounted("two") as account:
        account.rows, account.rejected, account.note = 1, Counter({"no answer": 1}), "go on so"
    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert levels == [("INFO", "one: 2 of 2 rows kept"), ("WARNING", "two: 0 of 1 rows kept, 1 no answer; go on so")]


def test_prices():
    assert Price(2.0, 10.0).of(500_000, 30_000) == 1.3
    assert price_of("m", {"m": Price(1, 2)}) == Price(1, 2)
    with pytest.raises(UserError, match="no price for the model 'gross-4b'; did you mean 'gross-4'"):
        price_of("gross-4b", {"gross-4": Price(1, 2)})
    for wrong in ((-1, 0), (0, float("nan")), (float("inf"), 0)):
        with pytest.raises(UserError, match="not negative"):
            Price(*wrong)


def test_a_table():
    steps = [
        Account("generate", rows=1200, kept=1190, rejected=Counter({"no answer": 10}), asked=1250, answered=1190,
                remembered=0, tokens_in=90000, tokens_out=240000, seconds=61.26, money=2.58),
        Account("filter", rows=1190, kept=800, rejected=Counter({"too long": 300, "dull": 90}), note="so it is"),
    ]  # fmt: skip
    assert table(steps).splitlines() == [
        "step       rows  added   kept  rejected  asked  journal  tokens in  tokens out   money     s",
        "generate  1,200      0  1,190        10  1,250        0     90,000     240,000  2.5800  61.3",
        "filter    1,190      0    800       390      0        0          0           0  0.0000   0.0",
        "all                                 400  1,250        0     90,000     240,000  2.5800  61.3",
        "generate: 10 no answer",
        "filter: 300 too long",
        "filter: 90 dull",
        "filter: so it is",
    ]
    assert table([]) == ""


class Fact(BaseModel):
    name: str
    year: int


def test_a_pipeline_of_five_steps_adds_up():
    def writer(conversations):
        said = []
        for turns in conversations:
            number = int(turns[0]["content"].split()[-1])
            good = f'[{{"name": "n{number % 7}", "year": {number}}}, {{"name": "same", "year": 1}}]'
            kinds = {3: None, 4: Written(good[:20], "length", 5, 20), 5: Written("", "stop", 5, 0)}
            said.append(kinds.get(number % 10, Written(good, "stop", 5, 30)))
        return said

    rows = Dataset.from_list([{"n": number} for number in range(100)])
    model = FunctionWriter(writer, name="noisy", batch=7)
    one = generate(rows, model, lambda row: f"two facts for {row['n']}", price=Price(1e6, 2e6))
    two = parse_rows(one.dataset, list[Fact])
    three = filters.keep(two.dataset, [filters.above("year", 10)])
    four = exact(three.dataset, "name")
    steps = [step.account for step in (one, two, three, four)]
    assert all(step.adds_up for step in steps)
    whole = chain(steps)
    assert whole.adds_up and whole.rows == 100 and whole.kept == len(four.dataset) == 7
    assert whole.rejected == {
        "no answer": 10,
        "truncated": 10,
        "empty": 10,
        "year is not above 10": 70 + 8,  # each "same", and the years 0, 1, 2, 6, 7, 8, 9, 10
        "duplicate": 62 - 7,
    }
    assert (whole.tokens_in, whole.tokens_out) == (90 * 5, 70 * 30 + 10 * 20)
    assert whole.money == 450 + 2 * 2300
