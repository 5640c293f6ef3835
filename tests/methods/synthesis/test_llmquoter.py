"""The quoter's rows by hand: the answer never in its prompt, quotes verified; its scores; the two steps of use.

.venv/bin/python -m pytest tests/methods/synthesis/test_llmquoter.py
"""

import json
import math

import pytest
from datasets import Dataset

from stillroom import catalog
from stillroom.checks import build_method
from stillroom.errors import UserError
from stillroom.evaluate.quotes import bm25_score, quote_scores, reply_scores, same_quote
from stillroom.methods.synthesis.llmquoter import STUDENT, LLMQuoter, answer_from_quotes, quoter_prompt, teacher_prompt
from stillroom.recipe import Method
from stillroom.synthesis.account import chain
from stillroom.synthesis.quotes import read_quotes, well_formed, write_quotes
from stillroom.synthesis.writers import FunctionWriter, Written

CONTEXT = "Lima is a city in Peru.\nPeru pays with the  Sol.\nQuito is a city in Ecuador."
GOLD = ["Lima is a city in Peru.", "Peru pays with the Sol."]


def rows(count, **columns):
    row = {"question": "Which money is used where Lima is?", "context": CONTEXT, "answer": "Sol-4711"} | columns
    return Dataset.from_list([row | {"id": f"r{n}"} for n in range(count)])


def pipeline(replies, **settings):
    prompts, given = [], iter(replies)

    def write(turns):
        prompts.extend(one[-1]["content"] for one in turns)
        return [next(given) for _ in turns]

    return LLMQuoter(teacher=FunctionWriter(write, name="canned"), **settings), prompts


def test_blocks_are_written_and_read():
    text = write_quotes(GOLD)
    assert text == (
        "##begin_quote## Lima is a city in Peru. ##end_quote##\n##begin_quote## Peru pays with the Sol. ##end_quote##"
    )
    assert read_quotes(f"So:\n{text} and ##begin_quote## cut off") == GOLD


def test_the_form_as_the_authors_count_it():
    assert well_formed(f"  {write_quotes(GOLD)}\n")
    assert well_formed("##begin_quote####end_quote##") and read_quotes("##begin_quote## ##end_quote##") == []
    for wrong in ("", "  ", "Lima", f"So: {write_quotes(GOLD)}", "##begin_quote## Lima"):
        assert not well_formed(wrong)


def test_rows_that_are_no_quotes_are_dropped_and_kept_aside(tmp_path):
    replies = [
        write_quotes(GOLD),
        f"Here: {write_quotes(GOLD)}",
        write_quotes(["Lima is the capital."]),
        "##begin_quote## ##end_quote##",
        Written(write_quotes(GOLD[:1]), "length"),
        write_quotes([GOLD[0], GOLD[0]]),
        write_quotes(CONTEXT.splitlines()),
    ]
    made, prompts = pipeline(replies, most=2, rejects=tmp_path)
    found = made.run(rows(7, gold=GOLD))
    assert found["id"] == ["r0", "r5"] and found["quotes"] == [GOLD, GOLD[:1]]
    assert [dict(one.rejected) for one in made.accounts] == [
        {},
        {},
        {"reply was cut off": 1, "reply is not blocks of quotes alone": 1},
        {"no quote": 1, "more than 2 quotes": 1, "quote is not in the context": 1},
    ]
    assert chain(made.accounts).adds_up
    aside = [json.loads(line) for line in (tmp_path / "verify-quotes.jsonl").read_text().splitlines()]
    assert {line["row"]["id"] for line in aside} == {"r2", "r3", "r6"}
    assert all(prompt == teacher_prompt(found[0]["question"], CONTEXT, "Sol-4711") for prompt in prompts)


def test_the_student_never_sees_the_answer_and_the_teacher_does():
    made, prompts = pipeline([write_quotes(GOLD)])
    (row,) = made.run(rows(1))
    assert "Sol-4711" in prompts[0] and "Sol-4711" not in row["prompt"] + row["completion"]
    assert row["prompt"] == f"Context:\n{CONTEXT}\n\nQuestion: Which money is used where Lima is?\nQuotes:"
    assert row["completion"] == f" {write_quotes(GOLD)}"


def test_contexts_without_their_gold_quotes_are_refused_before_anything_is_asked():
    made, prompts = pipeline([])
    made.check(rows(1, gold=["Lima is in Chile."]))
    assert made.accounts[-1].rejected == {"gold quote is not in the context": 1} and not prompts
    made.check(rows(2, answer=" "))
    assert made.accounts[-1].rejected == {"answer is empty": 2}
    with pytest.raises(UserError, match="no column 'answer'"):
        made.run(rows(1).remove_columns(["answer"]))
    with pytest.raises(ValueError, match="at least one quote"):
        pipeline([], most=0)


# --- scores -----------------------------------------------------------------------------------------------------------


def test_quotes_are_the_same_if_one_has_the_other_or_nearly_all_words_are():
    assert same_quote("Peru pays with the Sol", "Today, Peru pays with the sol.")
    assert same_quote("a b c d x", "a b c d y")  # 2 * 4 / 10 words
    assert not same_quote("a b c x", "a b c y") and not same_quote("", "a") and not same_quote("Per", "Peru pays")


def test_precision_and_recall_by_hand():
    found = quote_scores([GOLD[0], "Peru is large.", "Lima is in Peru, a city."], [*GOLD, "Sol is money."])
    # the third is not the first in other words: "lima is a city in peru" and "lima is in peru a city" share all 6 words
    assert found["precision"] == pytest.approx(2 / 3) and found["recall"] == pytest.approx(1 / 3)
    assert found["f1"] == pytest.approx(2 * (2 / 3) * (1 / 3) / (2 / 3 + 1 / 3))
    assert quote_scores([], GOLD) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_bm25_is_a_share_of_the_gold_quotes_own():
    gold = ["apple pear", "plum cherry"]
    assert bm25_score(gold, gold) == 1.0 and bm25_score([*gold, *gold], gold) == 1.0
    assert bm25_score(["apple pear"], gold) == pytest.approx(0.5)
    assert bm25_score(["apple"], gold) == pytest.approx(0.25)
    assert bm25_score(["kiwi", ""], gold) == 0.0 == bm25_score([], gold)


def test_scores_of_replies_are_means():
    found = reply_scores([write_quotes(GOLD), "nothing"], [GOLD, GOLD])
    assert {name: value for name, value in found.items() if not math.isclose(value, 0.5)} == {}
    with pytest.raises(ValueError, match="as many"):
        reply_scores(["x"], [])


# --- use --------------------------------------------------------------------------------------------------------------


def test_the_reader_reads_quotes_in_place_of_the_context():
    asked = []

    def reader(prompts):
        asked.extend(prompts)
        return ["the Sol"] * len(prompts)

    def quoter(prompts):
        assert prompts == [quoter_prompt("Which?", CONTEXT)]
        return [write_quotes([GOLD[1], "Peru has no money."])]

    ask = [{"question": "Which?", "context": CONTEXT}]
    assert answer_from_quotes(ask, quoter, reader, verify=True) == [("the Sol", [GOLD[1]])]
    assert asked[0] == f"Context:\n{GOLD[1]}\n\nQuestion: Which?\nAnswer:" and "Quito" not in asked[0]
    assert len(answer_from_quotes(ask, quoter, reader)[0][1]) == 2


def test_the_student_is_a_recipe_with_low_rank_adapters():
    built = build_method(Method(**STUDENT["method"]))
    assert (built.rank, built.alpha) == (16, 32.0)
    assert catalog.load("llmquoter") is LLMQuoter
