"""Word problems: every answer checked by other means, splits without a common template, equal rows from equal seeds.

Run: pytest tests/data/test_data_arithmetic.py
"""

import re
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest

from stillroom.data import check, load, recognise
from stillroom.data.arithmetic import evaluate, problems
from stillroom.data.stories import WORLDS

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def rows():
    return {split: list(problems(split, 1500, seed=3)) for split in SPLITS}


def stack_machine(equation):
    """The value of a sum by Dijkstra's shunting yard, which has nothing in common with a syntax tree."""
    values, waiting, binds = [], [], {"+": 1, "-": 1, "*": 2, "/": 2}

    def reduce_top():
        right, left, sign = values.pop(), values.pop(), waiting.pop()
        values.append(
            {"+": left + right, "-": left - right, "*": left * right, "/": left / right if right else None}[sign]
        )

    for token in re.findall(r"\d+|[-+*/()]", equation):
        if token.isdigit():
            values.append(Fraction(int(token)))
        elif token == "(":
            waiting.append(token)
        elif token == ")":
            while waiting[-1] != "(":
                reduce_top()
            waiting.pop()
        else:
            while waiting and waiting[-1] != "(" and binds[waiting[-1]] >= binds[token]:
                reduce_top()
            waiting.append(token)
    while waiting:
        reduce_top()
    return values[0]


def run_program(program):
    """The program's ``answer``, one assignment of two whole numbers at a time."""
    names = {}
    for line in program.split("\n"):
        target, left, sign, right = re.fullmatch(r"(\w+) = (\w+) (\+|-|\*|//) (\d+)", line).groups()
        left = names[left] if left in names else int(left)
        right = int(right)
        names[target] = {"+": left + right, "-": left - right, "*": left * right, "//": left // right}[sign]
    return names["answer"]


def test_answers_hold_by_three_other_ways(rows):
    for row in (row for part in rows.values() for row in part):
        answer = int(row["answer"])
        assert stack_machine(row["equation"]) == answer
        assert run_program(row["program"]) == answer
        sums = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", row["chain"])
        assert len(sums) == row["steps"]
        assert all(stack_machine(f"{left} {sign} {right}") == int(result) for left, sign, right, result in sums)
        assert all(before[3] == after[0] for before, after in pairwise(sums))
        assert row["chain"].endswith(f"The answer is {answer}.")
        assert int(sums[-1][3]) == answer
        assert 1 <= answer <= 1000


def test_every_number_of_the_equation_stands_in_the_question(rows):
    for row in (row for part in rows.values() for row in part):
        assert Counter(re.findall(r"\d+", row["equation"])) == Counter(re.findall(r"\d+", row["question"]))
        assert "{" not in row["question"] + row["chain"]


def test_no_template_or_question_crosses(rows):
    for column in ("template", "question"):
        found = [{row[column] for row in rows[split]} for split in SPLITS]
        assert not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])
    assert len({row["question"] for row in rows["train"]}) == 1500


def test_each_split_has_all_lengths_worlds_and_operations(rows):
    for split in SPLITS:
        assert {row["steps"] for row in rows[split]} == {1, 2, 3, 4}
        assert {row["template"].split(" | ")[0] for row in rows[split]} == {"things", "money", "measure"}
        for steps in (1, 4):
            signs = {
                sign for row in rows[split] if row["steps"] == steps for sign in re.findall("[-+*/]", row["equation"])
            }
            assert signs == set("+-*/")


def test_every_operation_has_several_wordings():
    for world in WORLDS:
        found = Counter(event.operation for event in world.events)
        assert set(found) == set("+-*/")
        assert min(found.values()) >= 2


def test_rows_depend_on_the_seed_alone(rows):
    again = list(problems("test", 400, seed=3))
    assert again == rows["test"][:400]
    assert [row["question"] for row in problems("test", 50, seed=4)] != [row["question"] for row in again[:50]]


@pytest.mark.parametrize(("view", "format"), [("completion", "completion"), ("chat", "chat")])
def test_views_are_rows_of_their_format(view, format):
    table = load("arithmetic", view=view, split="validation", limit=30)
    assert recognise(table.column_names) == format
    for row in table:
        check(row, format, "arithmetic")
    assert len(table) == 30
    assert {"id", "answer", "equation", "program", "steps", "template"} <= set(table.column_names)


def test_views_tell_the_same_story():
    plain, pairs, chats = (load("arithmetic", view=view, limit=5) for view in ("problems", "completion", "chat"))
    for row, pair, chat in zip(plain, pairs, chats, strict=True):
        assert (pair["prompt"], pair["completion"]) == (row["question"], row["chain"])
        assert [turn["content"] for turn in chat["messages"]] == [row["question"], row["chain"]]
        assert pair["id"] == chat["id"] == row["id"]


@pytest.mark.parametrize(
    ("equation", "value"),
    [("7", 7), (" (12 * 4 - 7) / 2 ", Fraction(41, 2)), ("-3 + -(2 - 5)", 0), ("1 / 3 * 3", 1), ("2 - 3 - 4", -5)],
)
def test_sums_are_exact(equation, value):
    assert evaluate(equation) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "2 +", "2 ** 9", "2 // 1", "x + 1", "f(2)", "__import__('os')", "1.5", "True", "'a'", "[1]", "1 / 0"),
        *("1 if 1 else 2", "1;2", "a.b", "(" * 400 + "1" + ")" * 400, "1" * 2000),
    ],
)
def test_nothing_but_sums_is_read(text):
    with pytest.raises(ValueError):
        evaluate(text)
