"""Formats: what is recognised, what is refused, and with which words.

Run: pytest tests/data/test_data_rows.py
"""

import time

import pytest

from stillroom.data import check, recognise, row_id
from stillroom.errors import UserError

RIGHT = {
    "text": {"text": "a"},
    "completion": {"prompt": "a", "completion": "b"},
    "chat": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    "preference": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "pair": {"anchor": "a", "positive": "b"},
    "triple": {"anchor": "a", "positive": "b", "negative": "c"},
    "labelled-text": {"text": "a", "label": "good"},
    "labelled-image": {"image": [[0.0, 1.0]], "label": 3},
    "segmented-image": {"image": [[0.0, 1.0]], "mask": [[0, 1]]},
}


@pytest.mark.parametrize("format", RIGHT)
def test_right_rows_are_recognised_and_pass(format):
    assert recognise(RIGHT[format]) == format
    assert recognise([*RIGHT[format], "id", "anything"]) == format
    check(RIGHT[format], format, "x.jsonl line 1")
    check({**RIGHT[format], "id": 7, "anything": None}, format, "x.jsonl line 1")


def test_a_labelled_image_may_have_a_mask():
    assert recognise(["image", "label", "mask"]) == "labelled-image"


def test_a_triple_may_have_many_negatives():
    check({"anchor": "a", "positive": "b", "negative": ["c", "d"]}, "triple", "x")


def test_a_tool_call_needs_no_content():
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "b"},
    ]
    check({"messages": turns}, "chat", "x")


USER = {"role": "user", "content": "a"}
ANSWER = {"role": "assistant", "content": "b"}
WRONG = [
    ("chat", {"messages": "hello"}, "'messages' must be a list of {role, content}; found a string"),
    ("chat", {"messages": []}, "'messages' is an empty list"),
    ("chat", {"messages": ["hello"]}, ", message 1: a message must be {role, content}; found a string"),
    (
        "chat",
        {"messages": [USER, {"role": "asistant", "content": "b"}]},
        ", message 2: 'role' must be one of system, user, assistant, tool; found 'asistant'; did you mean 'assistant'?",
    ),
    (
        "chat",
        {"messages": [{"content": "b"}]},
        ", message 1: 'role' must be one of system, user, assistant, tool; found nothing",
    ),
    ("chat", {"messages": [{"role": "user"}]}, ", message 1: 'content' must be a string; found nothing"),
    ("chat", {"messages": [USER]}, "the last message must be the assistant's, the one to learn from; it is the user's"),
    (
        "chat",
        {"messages": [USER, {"role": "assistant", "content": ""}]},
        "the last message is empty, so there is nothing to learn from",
    ),
    ("chat", {"message": [USER, ANSWER]}, "'messages' is missing; did you mean 'message'? (found message)"),
    ("text", {"text": 5}, "'text' must be a string; found a number"),
    ("text", {"text": "  \n"}, "'text' is empty"),
    ("text", ["a"], "a row must be an object with named columns; found a list"),
    ("text", {}, "'text' is missing (found no columns)"),
    ("completion", {"prompt": "a"}, "'completion' is missing (found prompt)"),
    ("completion", {"prompt": "a", "completion": None}, "'completion' is missing (found prompt)"),
    ("pair", {"anchor": "a", "positive": ["b"]}, "'positive' must be a string; found a list"),
    (
        "triple",
        {"anchor": "a", "positive": "b", "negative": 3},
        "'negative' must be a string or a list of strings; found a number",
    ),
    ("triple", {"anchor": "a", "positive": "b", "negative": []}, "'negative' is an empty list"),
    (
        "triple",
        {"anchor": "a", "positive": "b", "negative": ["c", None]},
        ", negative 2: 'negative' must be a string; found nothing",
    ),
    (
        "labelled-text",
        {"text": "a", "label": True},
        "'label' must be the name or number of a class; found true or false",
    ),
    ("labelled-text", {"text": "a", "label": 0.5}, "'label' must be the name or number of a class; found a number"),
    ("labelled-text", {"text": "a", "label": -1}, "'label' must be the number of a class, from 0; found -1"),
    (
        "labelled-text",
        {"text": "a", "label": "goood"},
        "label 'goood' is none of the classes good, bad; did you mean 'good'?",
    ),
    ("labelled-text", {"text": "a", "label": 2}, "label 2 is not the number of a class, 0 to 1"),
    (
        "labelled-image",
        {"image": 5, "label": 0},
        "'image' must be a file, an image's bytes or rows of numbers; found a number",
    ),
    ("segmented-image", {"image": [[0.0]]}, "'mask' is missing (found image)"),
    (
        "segmented-image",
        {"image": [[0.0]], "mask": 1},
        "'mask' must be a file, an image's bytes or rows of numbers; found a number",
    ),
]


@pytest.mark.parametrize(("format", "row", "message"), WRONG)
def test_wrong_rows_are_refused_in_these_words(format, row, message):
    with pytest.raises(UserError) as caught:
        check(row, format, "chat.jsonl line 17", classes=("good", "bad"))
    separator = "" if message.startswith(",") else ": "
    assert str(caught.value) == f"chat.jsonl line 17{separator}{message}"


def test_prompts_alone_must_leave_the_answer_open():
    check({"messages": [USER]}, "chat", "x", prompt_only=True)
    check({"prompt": "a"}, "completion", "x", prompt_only=True)
    with pytest.raises(UserError, match="must not be the assistant's, because its answer is to be written"):
        check({"messages": [USER, ANSWER]}, "chat", "x", prompt_only=True)


def test_columns_of_no_format_and_of_two():
    with pytest.raises(UserError, match=r"the columns question, answer make none of the formats: text \(text\); compl"):
        recognise(["question", "answer"])
    with pytest.raises(UserError, match="fit the formats completion and chat; name one with 'format'"):
        recognise(["messages", "prompt", "completion"])
    with pytest.raises(UserError, match="there is no format 'chatt'; did you mean 'chat'"):
        check({}, "chatt", "x")


def test_ids_are_the_rows_own_or_follow_from_the_content():
    assert row_id({"id": 7, "text": "a"}) == "7"
    assert row_id({"id": 0, "text": "a"}) == "0"
    content = row_id({"text": "a", "n": 1})
    assert len(content) == 16
    assert int(content, 16) >= 0
    assert content == row_id({"n": 1, "text": "a"}) == row_id({"n": 1, "text": "a", "id": None, "other": None})
    assert content != row_id({"text": "a", "n": 2})
    assert row_id({"m": [{"a": 1, "b": None}]}) == row_id({"m": [{"a": 1}]})
    assert row_id({"image": b"1"}) != row_id({"image": b"2"})


def test_a_known_content_hash_stays_what_it_was():
    """Ids are the keys of caches that may have cost money: sha256 of '[{"text":"a"}]', computed elsewhere."""
    assert row_id({"text": "a"}) == "e0d0087717b7afe3"


def test_a_hundred_thousand_rows_take_seconds():
    started = time.perf_counter()
    for _ in range(100_000):
        check(RIGHT["chat"], "chat", "x")
    assert time.perf_counter() - started < 10
