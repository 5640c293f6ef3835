"""Mix thoughts: what is kept of what a teacher writes, how the student is asked, and whose answer counts.

.venv/bin/python -m pytest tests/methods/reasoning/test_mix_thoughts.py
"""

import json
from fractions import Fraction

import pytest
from datasets import Dataset

from stillroom import catalog
from stillroom.errors import UserError
from stillroom.methods.reasoning.mix_thoughts import (
    KINDS,
    MixThoughts,
    answer_of,
    answers_of,
    asked,
    value_of_thought,
)
from stillroom.synthesis.account import chain
from stillroom.synthesis.writers import FunctionWriter

PROBLEMS = Dataset.from_list(
    [
        {"id": "sum", "question": "A and B have 30 pens, A 4 more. How many has A?", "answer": "17"},
        {"id": "double", "question": "C has 8 pens, and D twice as many. How many has D?", "answer": "16"},
    ]
)
# What the teacher writes, by question's first letter and kind. Of C: an unfinished program, and a system that is open.
WRITTEN = {
    ("A", "equations"): "a + b = 30\na - b = 4\nans = a",
    ("A", "program"): "ans = (30 + 4) / 2",
    ("A", "chain"): "A has 34 / 2 = 18. The answer is 18.",
    ("C", "equations"): "d = 2 * c\nans = d",
    ("C", "program"): "import os\nans = 16",
    ("C", "chain"): "D has 2 * 8 = 16. The answer is 16.",
}
OWN = {kind: f"{kind}: {{question}}" for kind in KINDS}


def teacher(prompts, n, temperature):
    assert n == 1 and temperature == 0.3
    out = []
    for prompt in prompts:
        kind, _, question = prompt.partition(": ")
        out.append([f"  {WRITTEN[question[0], kind]}\n"])
    return out


def test_what_comes_to_the_answer_is_kept_and_the_rest_is_counted(tmp_path):
    pipeline = MixThoughts(teacher, temperature=0.3, prompts=OWN, rejects=tmp_path)
    rows = pipeline.run(PROBLEMS)
    assert [(row["kind"], row["completion"]) for row in rows] == [
        ("equations", WRITTEN["A", "equations"]),
        ("program", WRITTEN["A", "program"]),
        ("chain", WRITTEN["C", "chain"]),
    ]
    assert rows[0]["prompt"] == PROBLEMS[0]["question"] + "\nSystem of linear equations:\n"
    assert {account.stage: dict(account.rejected) for account in pipeline.accounts if account.rejected} == {
        "check equations": {"no answer": 1},
        "check program": {"not allowed": 1},
        "check chain": {"another answer": 1},
    }
    for ask, check in zip(pipeline.accounts[::2], pipeline.accounts[1::2], strict=True):
        assert chain([ask, check]).adds_up
    (line,) = (tmp_path / "check-chain.jsonl").read_text().splitlines()
    assert json.loads(line)["detail"] == "18" and json.loads(line)["row"]["id"] == "sum"


def test_one_kind_is_eotd_and_the_union_is_the_sum_of_the_kinds():
    union = MixThoughts(teacher, temperature=0.3, prompts=OWN).run(PROBLEMS)
    apart = [MixThoughts(teacher, kinds=[kind], temperature=0.3, prompts=OWN).run(PROBLEMS) for kind in KINDS]
    assert union.to_list() == [row for part in apart for row in part]
    assert {row["kind"] for row in apart[0]} == {"equations"}


def test_of_several_samples_the_first_different_right_ones_are_kept():
    texts = ["ans = 17", "ans = 1", "ans = 17", "ans = 34 / 2", "ans = 16 + 1", "ans = 17.00001"]

    def draws():
        said = iter(texts)
        return FunctionWriter(lambda turns: [next(said) for _ in turns], name="draws")

    for keep, wanted in [(1, texts[:1]), (2, [texts[0], texts[3]]), (9, [texts[0], *texts[3:]])]:
        pipeline = MixThoughts(draws(), kinds=["program"], samples=6, keep=keep)
        assert pipeline.run(PROBLEMS.select([0]))["completion"] == wanted
        assert pipeline.accounts[-1].adds_up
        assert pipeline.accounts[-1].rejected["another answer"] == 1
        assert pipeline.accounts[-1].rejected["the same once more"] == 1


def test_the_built_in_prompts_show_each_kind_solved():
    """The worked example of each prompt comes to 17, by the same check that the teacher's own text must pass."""
    for kind, thought in KINDS.items():
        example = thought.prompt.split("have?\n")[1].split("\n\nQuestion:")[0]
        assert value_of_thought(kind, example) == 17
        assert thought.prompt.count("{question}") == 1


THOUGHTS = {"program": "ans = ", "equations": "ans + x = 5\nx = 2", "chain": "The answer is 4."}


def test_the_first_kind_that_has_a_value_answers():
    assert answer_of(THOUGHTS) == 3
    assert answer_of(THOUGHTS, priority=["program", "chain", "equations"]) == 4
    assert answer_of(THOUGHTS, priority=["program"]) is None
    assert answer_of(THOUGHTS | {"program": "ans = 7"}) == 7


def test_a_vote_counts_values_and_falls_back_on_the_priority():
    assert answer_of(THOUGHTS | {"program": "ans = 8 / 2"}, rule="vote") == 4
    two = {"program": "ans = 9", "equations": "ans = 3", "chain": "The answer is 3."}
    assert answer_of(two) == 9 and answer_of(two, rule="vote") == 3
    assert answer_of(THOUGHTS, rule="vote") == 3
    assert answer_of(THOUGHTS, rule="vote", priority=["chain", "equations", "program"]) == 4


def test_the_student_is_asked_for_each_kind():
    seen = []

    def write(prompts):
        seen.extend(prompts)
        kind = next(kind for kind in KINDS if KINDS[kind].instruction in prompts[0])
        return [WRITTEN[prompt[0], kind] for prompt in prompts]

    questions = PROBLEMS["question"][:]
    assert answers_of(write, questions) == [17, 16]
    assert sorted(seen) == sorted(asked(question, kind) for question in questions for kind in KINDS)
    assert answers_of(write, questions, rule="vote") == [17, 16]
    assert answers_of(write, questions, priority=["chain"]) == [18, 16]
    assert answers_of(write, questions, priority=["equations"]) == [Fraction(17), None]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="kinds are some of equations, program, chain, each once"):
        MixThoughts(teacher, kinds=["chains"])
    with pytest.raises(ValueError, match="keep must be at least 1"):
        MixThoughts(teacher, keep=0)
    with pytest.raises(ValueError, match="'priority' or 'vote'"):
        answer_of(THOUGHTS, rule="best")
    with pytest.raises(UserError, match="row 1 has no number for an answer"):
        MixThoughts(teacher).run(Dataset.from_list([PROBLEMS[0], PROBLEMS[1] | {"answer": "many"}]))
    with pytest.raises(UserError, match="none of the teacher's thoughts comes to its answer"):
        MixThoughts(lambda prompts, n, t: [["nothing"]] * len(prompts)).run(PROBLEMS)
    with pytest.raises(ValueError, match="a list of 1 text"):
        MixThoughts(lambda prompts, n, t: ["ans = 1"] * len(prompts)).run(PROBLEMS)
    assert catalog.load("mix-thoughts") is MixThoughts
