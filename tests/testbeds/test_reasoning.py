"""The grounds of the family `reasoning`: problems, thoughts, what is measured, and that they tell better from worse.

.venv/bin/python -m pytest tests/testbeds/test_reasoning.py
"""

import re
from fractions import Fraction

import pytest

from stillroom.methods.reasoning.mix_thoughts import KINDS, asked, value_of_thought
from stillroom.reproduce import reproduce
from stillroom.testbeds import attempts, reasoning, thoughts, two_unknowns
from stillroom.testbeds.two_unknowns import Solver, problems, readings, thought
from stillroom.verify.equations import value_of

pytestmark = pytest.mark.usefixtures("own_cache")


def numbers_of(problem):
    return (problem.kind, problem.more, problem.fewer)


def test_parts_share_no_numbers_and_stay_in_their_range():
    parts = {part: list(problems(part, 150)) for part in two_unknowns.SHARES}
    seen = {part: {numbers_of(one) for one in some} for part, some in parts.items()}
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["validation"]
    assert {one.kind for one in parts["test"]} == set(two_unknowns.KINDS)
    assert all(4 <= one.more + one.fewer <= 60 and one.more > one.fewer > 0 for some in parts.values() for one in some)
    assert all(61 <= one.more + one.fewer <= 99 for one in problems("test", 50, **thoughts.LARGER))
    asked_again = {row["prompt"].partition("\n")[0] for row in readings(2000)}
    assert not asked_again & {one.question for one in parts["test"]}


def test_every_thought_of_the_solver_comes_to_the_answer():
    """By the verifiers, which know nothing of how the thoughts were made; each sum of a chain is right as well."""
    for one in problems("train", 60):
        for kind in KINDS:
            assert value_of_thought(kind, thought(one, kind)) == one.answer, (kind, one)
        for left, right in re.findall(r"(\d+ [-+*/] \d+) = (\d+)", thought(one, "chain")):
            assert value_of(left) == Fraction(right)


def test_the_questions_have_one_answer():
    """Read again from its words, by pattern, and solved by trying all numbers."""
    for one in problems("validation", 60):
        *facts, question = re.split(r"(?<=[.?]) ", one.question)
        who = re.search(r"has (\w+)\?", question)[1]
        names = sorted(set(re.findall(r"[A-Z]\w+", " ".join(facts))))
        found = {
            values[names.index(who)]
            for values in ((x, y) for x in range(1, 61) for y in range(1, 61))
            if all(holds(fact, dict(zip(names, values, strict=True))) for fact in facts)
        }
        assert found == {one.answer}, one


def holds(fact, has):
    number = int(re.search(r"\d+", fact)[0])
    names = re.findall(r"[A-Z]\w+", fact)
    if " and " in fact:
        return sum(has.values()) == number
    if "times" in fact:
        return has[names[0]] == number * has[names[1]]
    return has[names[0]] - has[names[1]] == (number if "more" in fact else -number)


def test_a_slip_makes_a_thought_wrong_and_nothing_else():
    known = list(problems("train", 40))
    for kind in KINDS:
        prompts = [f"{asked('', kind)}{kind}\nQuestion: {one.question}" for one in known]
        slipped = Solver(known, slips=1.0)(prompts, 1, 0.0)
        assert Solver(known)(prompts, 1, 0.0) == [[thought(one, kind)] for one in known]
        for one, (text,) in zip(known, slipped, strict=True):
            assert value_of_thought(kind, text) != one.answer
    some = Solver(known, slips=0.3)(prompts * 5, 4, 0.0)
    assert some[0] == some[len(known)] and len(set(some[0])) <= 2


def test_solutions_carry_the_calculators_marks():
    row = attempts.rows("train", True)[0]
    sums = re.findall(r"<< (\d+ [-+*/] \d+) = (\d+) >>", row["completion"])
    assert sums and all(value_of(left) == Fraction(right) for left, right in sums)
    assert ">> ." not in row["completion"] and row["completion"].count(attempts.CLOSING) == len(sums)
    assert row["completion"].endswith(f"The answer is {row['answer']}.")
    known = attempts.questions(True, 0)
    assert sum("completion" in row for row in known) == attempts.LABELLED[True] < len(known)
    assert not {row["prompt"] for row in known} & {row["prompt"] for row in attempts.rows("test", True)}


@pytest.mark.parametrize("slug", sorted(reasoning.BENCHES))
def test_every_bench_runs(slug, tmp_path):
    bench = reasoning.BENCHES[slug]
    result = reproduce(slug, seeds=[0], smoke=True, folder=tmp_path)
    assert {slug, bench.versus} <= set(result["systems"]) and "verdict" not in result
    assert all(system["values"][0] is not None for system in result["systems"].values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_of_thoughts_tells_better_from_worse(tmp_path, whole_ground):
    """The solver answers more than a student of bare answers, and so does a student whose thoughts are executed."""
    systems = reproduce("mix-thoughts", folder=tmp_path)["systems"]
    alone = systems["answers-only"]
    assert systems["solver"]["mean"] - alone["mean"] > 3 * alone["std"]
    assert systems["program"]["mean"] - alone["mean"] > 3 * alone["std"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ground_of_attempts_tells_better_from_worse(tmp_path, whole_ground):
    """Told the solutions of all questions, the student solves more than with the few that are labelled."""
    systems = reproduce("dpo-self-training", folder=tmp_path)["systems"]
    alone = systems["sft"]
    assert systems["all-labelled"]["mean"] - alone["mean"] > 2 * alone["std"]
