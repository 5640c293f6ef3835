"""Replies to fields: what is found among words, and the reason where nothing is.

Run: pytest tests/synthesis/test_parse.py
"""

import json
from datetime import date
from typing import Literal

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from stillroom.errors import UserError
from stillroom.synthesis.listed import listed
from stillroom.synthesis.parse import Unparsed, echoes, parse, parse_list, parse_rows, plain


class Item(BaseModel):
    question: str = Field(min_length=1)
    level: int = Field(ge=1, le=5)


GOOD = '{"question": "why?", "level": 3}'
WANTED = Item(question="why?", level=3)
PROMPT = "Write one question about stills as a JSON object."


@pytest.mark.parametrize(
    "reply",
    [
        GOOD,
        f"Sure! Here it is:\n{GOOD}\nAnything else?",
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}\n```\nThe other one was {{not json}}.",
        f"Some use [1] or {{braces}} before.\n\n{GOOD}",
        f'An example is {{"question": 1}}; mine is {GOOD}',
        f'Not this: {{"question": "first", "level": 9}}\n```json\n{GOOD}\n```',
        f"[{GOOD}]",
        f"```json\n{GOOD}",
        '{"question": "why?", "level": 3, "more": {"a": [1, {"b": "}"}]}}',
    ],
)
def test_the_object_is_found(reply):
    assert parse(reply, Item) == WANTED


@pytest.mark.parametrize(
    ("reply", "end", "reason", "detail"),
    [
        ("", "stop", "empty", ""),
        (" \n\t", "stop", "empty", ""),
        ("", "length", "truncated", ""),
        ("I'd rather not.", "stop", "not JSON", "no JSON object"),
        ("question: why?", "stop", "not JSON", ""),
        ("{'question': 'why?', 'level': 3}", "stop", "not JSON", ""),
        ('{"question": "why?", "level": NaN}', "stop", "not JSON", ""),
        ("[1, 2]", "stop", "not JSON", "no JSON object"),
        ('{"question": "why?", "lev', "length", "truncated", "has no end"),
        ('{"question": "why?", "level": 3', "stop", "truncated", "has no end"),
        ('```json\n[{"question": "why?", "level": 3}, {"quest', "length", "truncated", "has no end"),
        ("Let me think about it", "length", "truncated", "longest length"),
        ('{"question": "why?"}', "stop", "wrong fields", "level: Field required"),
        ('{"question": "", "level": 9}', "stop", "wrong fields", "question: String should have at least 1 char"),
        ('{"question": "why?", "level": "high"}', "stop", "wrong fields", "level: Input should be a valid integer"),
        ('{"question": "\\ud83d", "level": 1}', "stop", "wrong fields", ""),
        (f"{PROMPT}\n{GOOD}", "stop", "repeats the prompt", ""),
        (PROMPT.upper(), "stop", "repeats the prompt", ""),
        (PROMPT[:30], "length", "repeats the prompt", ""),
        ("[" * 100_000, "stop", "not JSON", ""),
        ("[{" * 2000 + "x", "stop", "not JSON", ""),
        ('{"question": "why?", "level": ' + "9" * 5000 + "}", "stop", "not JSON", ""),
    ],
)
def test_a_reply_that_is_none_has_its_reason(reply, end, reason, detail):
    found = parse(reply, Item, finish_reason=end, asked=["You are terse.", PROMPT])
    assert isinstance(found, Unparsed) and found.reply == reply
    assert found.reason == reason and detail in found.detail


def test_a_whole_object_counts_even_if_the_chatter_after_it_was_cut_off():
    assert parse(f"{GOOD}\nI hope this", Item, finish_reason="length") == WANTED


def test_an_example_in_the_prompt_is_not_taken_for_the_answer():
    prompt = f"Answer in this form: {GOOD}"
    assert parse(prompt, Item, asked=[prompt]).reason == "repeats the prompt"
    assert parse(GOOD, Item, asked=[prompt]) == WANTED


def test_an_echo_is_looked_for_at_the_beginning_alone():
    question = "What is a worm condenser made of?"
    assert echoes("  what is a WORM\ncondenser made of? Copper.", [question])
    assert not echoes(f'{{"question": "{question}", "level": 1}}', [question])
    assert not echoes("Why? Because.", ["Why?"])  # too short to tell
    assert echoes("Be brief and right. Tell me of stills. Stills are", ["Be brief and", "right. Tell me of stills."])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(), st.integers(1, 5), st.text('abc {[]}"\n', max_size=20), st.text("xyz }]\n", max_size=20))
def test_whatever_stands_in_it_is_read_back(question, level, before, after):
    reply = json.dumps({"question": question or "x", "level": level})
    found = parse(f"```json\n{reply}\n```", Item)
    assert found == Item(question=question or "x", level=level)
    assert parse(f"{before.replace('[', '').replace('{', '')}{reply}{after}", Item) == found


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text('{}[]",:0123 abtrue\\`\n', max_size=200), st.sampled_from(["stop", "length", None]))
def test_nothing_breaks_it(reply, end):
    for found in (parse(reply, Item, finish_reason=end), parse_list(reply, Item, finish_reason=end)):
        assert isinstance(found, (Item, list, Unparsed))


def test_lists_are_whole_or_nothing():
    two = f'[{GOOD}, {{"question": "how?", "level": 1}}]'
    wanted = [WANTED, Item(question="how?", level=1)]
    assert parse_list(two, Item) == parse_list(f'{{"questions": {two}}}', Item) == wanted
    assert parse_list(f"As in [1]:\n{two}", Item) == wanted and parse_list("[]", Item) == []
    assert parse_list(two[:-3], Item).reason == "truncated"
    wrong = parse_list(f'[{GOOD}, {{"level": 7}}]', Item)
    assert wrong.reason == "wrong fields" and "1.question: Field required; 1.level" in wrong.detail


def test_types_that_json_has_not_are_read_from_text():
    class Event(BaseModel):
        day: date
        kind: Literal["a", "b"]

    assert parse('{"day": "2024-02-29", "kind": "a"}', Event) == Event(day=date(2024, 2, 29), kind="a")
    assert "day" in parse('{"day": "2023-02-29", "kind": "a"}', Event).detail


@pytest.mark.parametrize(
    ("reply", "end", "found"),
    [
        ("  an answer \n", "stop", "an answer"),
        ("an answ", "length", "truncated"),
        ("", "stop", "empty"),
        (PROMPT + " ok", "stop", "repeats the prompt"),
    ],
)
def test_plain_text(reply, end, found):
    got = plain(reply, finish_reason=end, asked=[PROMPT])
    assert (got if isinstance(got, str) else got.reason) == found


def replies(*texts, end="stop"):
    call = {"asked": [PROMPT], "finish_reason": end, "tokens_in": 1, "tokens_out": 1, "sample": 0}
    return Dataset.from_list(
        [
            {"id": f"r{place}", "topic": f"t{place}", "reply": text, "reply_call": call}
            for place, text in enumerate(texts)
        ]
    )


def test_rows_that_parse_get_columns_and_the_others_are_counted_and_kept_aside(tmp_path):
    texts = [GOOD, "no", "", '{"question": "q"}', PROMPT, '{"question": "how?", "level": 1}', '{"question": "q", "le']
    done = parse_rows(replies(*texts), Item, rejects=tmp_path / "aside.jsonl")
    assert done.dataset["id"] == ["r0", "r5"] and done.dataset["topic"] == ["t0", "t5"]
    assert done.dataset["question"] == ["why?", "how?"] and done.dataset["level"] == [3, 1]
    reasons = {"not JSON": 1, "empty": 1, "wrong fields": 1, "repeats the prompt": 1, "truncated": 1}
    assert done.account.rejected == reasons and done.account.adds_up
    aside = [json.loads(line) for line in (tmp_path / "aside.jsonl").read_text().splitlines()]
    assert [line["row"]["reply"] for line in aside] == texts[1:5] + texts[6:]
    assert aside[2]["detail"] == "level: Field required" and {line["stage"] for line in aside} == {"parse"}


def test_items_become_rows():
    done = parse_rows(replies(f"[{GOOD}, {GOOD}]", "[]", "no", f"[{GOOD}]"), list[Item])
    assert done.dataset["id"] == ["r0/0", "r0/1", "r3/0"] and done.dataset["topic"] == ["t0", "t0", "t3"]
    account = done.account
    assert (account.rows, account.added, account.kept) == (4, 1, 3) and account.adds_up
    assert account.rejected == {"an empty list": 1, "not JSON": 1}


def test_columns_that_lack_or_clash_are_told():
    with pytest.raises(UserError, match="no column 'replies'; did you mean 'reply'"):
        parse_rows(replies(GOOD), Item, column="replies")
    with pytest.raises(UserError, match="a column 'question' already"):
        parse_rows(replies(GOOD).add_column("question", ["x"]), Item)


@pytest.mark.parametrize(
    ("reply", "items"),
    [
        ("1. one\n2. two\n10) ten", ["one", "two", "ten"]),
        ("Here you are:\n\n- one\n- two\n\nAnything else?", ["one", "two"]),
        ("* one\n  goes on\n* two", ["one goes on", "two"]),
        ("(1) one\n\n   still one\n(2) 3.5 litres", ["one still one", "3.5 litres"]),
        ("nothing here", []),
        ("1.\n2. two", ["two"]),
    ],
)
def test_listed(reply, items):
    assert listed(reply) == items


def test_a_list_whose_first_mark_ended_the_prompt():
    assert listed(" one\n2. two", first=True) == ["one", "two"]
