"""Judges: what is read from their words, both orders, contradictions.

Run: pytest tests/synthesis/test_judge.py
"""

import pytest
from datasets import Dataset

from stillroom.synthesis.judge import compare, read_score, read_scores, read_verdict, score, score_both
from stillroom.synthesis.writers import FunctionWriter


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("7", 7),
        (" 7/10.", 7),
        ("**8**", 8),
        ("8 out of 10", 8),
        ("Good, if dull.\nScore: 7", 7),
        ("Score: 10/10", 10),
        ("**Rating: 6**", 6),
        ("**Score:** 6", 6),
        ('{"score": 4, "why": "2 errors"}', 4),
        ("A score of 9 would need proof. Score: 5", 5),
        ("Rating: [[3]]", 3),
        ("I count 3 errors in 12 lines.", None),
        ("Score: 11", None),
        ("Score: 0", None),
        ("Score: -3", None),
        ("Score: 7.5", None),
        ("Score: 7.0", 7),
        ("Score: N", None),
        ("", None),
        ("underscore: 7", None),
    ],
)
def test_a_score_is_read_or_it_is_none(reply, found):
    assert read_score(reply, 1, 10) == found


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("Verdict: A", "A"),
        ("Verdict: B, because", "B"),
        ("**Verdict: tie**", "tie"),
        ('{"verdict": "b"}', "B"),
        ("My verdict is A", "A"),
        ("Verdict: A at first sight. Verdict: B", "B"),
        ("[[C]]", "tie"),
        ("[[A]]", "A"),
        ("B.", "B"),
        ("A good answer needs more.", None),
        ("Verdict: Apples", None),
        ("C", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_or_it_is_none(reply, found):
    assert read_verdict(reply) == found


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("A=7, B=5", (7, 5)),
        ("A: 7/10, B: 5/10", (7, 5)),
        ('{"A": 7, "B": 5}', (7, 5)),
        ("**A** = 7 and **B** = 5", (7, 5)),
        ("A=1 B=1 at first, then\nA=9\nB=2", (9, 2)),
        ("A=7", None),
        ("A=70, B=5", None),
        ("", None),
    ],
)
def test_two_scores_are_read_or_they_are_none(reply, found):
    assert read_scores(reply, 1, 10) == found


def judge(says):
    """A writer whose opinion of a prompt is ``says(prompt)``; gives the prompts that it saw too."""
    seen = []

    def function(conversations):
        seen.extend(turns[0]["content"] for turns in conversations)
        return [says(turns[0]["content"]) for turns in conversations]

    return FunctionWriter(function, name="judge"), seen


def test_scores_of_several_opinions_and_of_none(tmp_path):
    rows = Dataset.from_list([{"id": str(n), "text": f"text {n}"} for n in range(3)])
    said = {"text 0": ["Score: 4", "Score: 7"], "text 1": ["Score: 9", "hm"], "text 2": ["hm", "hm"]}
    writer, seen = judge(lambda prompt: said[prompt.split("\n")[0]].pop(0))
    done = score(rows, writer, lambda row: row["text"], samples=2, rejects=tmp_path / "aside.jsonl")
    assert done.dataset["score"] == [5.5, 9.0] and done.dataset["score_replies"] == [
        ["Score: 4", "Score: 7"],
        ["Score: 9", "hm"],
    ]
    assert all("a whole number from 1 to 10" in prompt for prompt in seen)
    account = done.account
    assert (account.rows, account.kept, account.rejected) == (3, 2, {"no verdict": 1}) and account.adds_up
    assert account.noted == {"replies without a score": 3} and account.asked == 6
    assert "hm | hm" in (tmp_path / "aside.jsonl").read_text()


def pairs():
    """The better one is longer; the two of the last row are equal."""
    texts = [("long enough", "short"), ("short", "long enough"), ("same", "same")]
    return Dataset.from_list([{"q": f"q{n}", "one": one, "two": two} for n, (one, two) in enumerate(texts)])


def answers(prompt):
    part = prompt.split("Answer A:\n")[1]
    first, rest = part.split("\n\nAnswer B:\n")
    return first, rest.split("\n\n")[0]


def test_an_honest_judge_agrees_with_itself():
    def says(prompt):
        one, two = map(len, answers(prompt))
        return f"Verdict: {'A' if one > two else 'B' if two > one else 'tie'}"

    writer, seen = judge(says)
    done = compare(pairs(), writer, lambda row: row["q"], "one", "two")
    assert done.dataset["verdict"] == ["first", "second", "tie"] and done.dataset["verdict_agreed"] == [True] * 3
    assert len(seen) == 6 and done.account.noted == {} and done.account.adds_up
    assert [answers(prompt) for prompt in seen[:2]] == [("long enough", "short"), ("short", "long enough")]


def test_a_judge_who_likes_the_first_place_decides_nothing():
    done = compare(pairs(), judge(lambda prompt: "Verdict: A")[0], lambda row: row["q"], "one", "two")
    assert done.dataset["verdict"] == ["tie"] * 3 and done.dataset["verdict_agreed"] == [False] * 3
    assert done.account.noted == {"the judge contradicted itself": 3}


def test_a_verdict_in_one_order_alone_is_none():
    writer, _ = judge(lambda prompt: "Verdict: A" if answers(prompt)[0] == "short" else "who knows")
    done = compare(pairs(), writer, lambda row: row["q"], "one", "two")
    assert len(done.dataset) == 0 and done.account.rejected == {"no verdict": 3} and done.account.adds_up
    assert done.account.noted == {"replies without a verdict": 4}
    assert {"verdict", "verdict_agreed", "verdict_replies"} <= set(done.dataset.column_names)


def test_two_scores_are_means_over_both_orders():
    def says(prompt):  # 8 for the longer, 3 for the other, and a point more for the first place
        one, two = (8 if len(text) > 5 else 3 for text in answers(prompt))
        return f"A={one + 1}, B={two}"

    done = score_both(pairs(), judge(says)[0], lambda row: row["q"], "one", "two")
    assert done.dataset["score_one"] == [8.5, 3.5, 3.5] and done.dataset["score_two"] == [3.5, 8.5, 3.5]
    assert done.account.noted == {"the judge contradicted itself": 1}


def test_a_judge_who_gives_no_answer_is_counted_by_rows():
    writer, _ = judge(lambda prompt: None if "q1" in prompt else "Score: 2")
    done = score(pairs(), writer, lambda row: row["q"])
    assert done.dataset["q"] == ["q0", "q2"] and done.account.rejected == {"no answer": 1} and done.account.adds_up
