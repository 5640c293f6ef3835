"""Text measures against figures worked out by hand and the libraries' own functions.

Run: pytest tests/evaluate/test_generation.py
"""

import builtins
import sys

import pytest
import sacrebleu

from stillroom.errors import UserError
from stillroom.evaluate.generation import bleu, chrf, exact_match, rouge


def test_exact_match():
    assert exact_match(["42", " 7\n", "nine"], ["42", "7", "eight"]) == pytest.approx(2 / 3)
    assert exact_match(["Paris"], [["Lyon", "Paris"]]) == 1
    assert exact_match(["PARIS"], ["paris"]) == 0
    assert exact_match(["PARIS"], ["paris"], normalise=str.lower) == 1


def test_rouge_by_hand():
    # Five words against four, three in common ("cat", "on", "mat"), of which no two are neighbours in both.
    found = rouge(["big cat lies on mat"], ["cat sits on mat"])
    assert found["rouge1"] == pytest.approx(2 * (3 / 5) * (3 / 4) / (3 / 5 + 3 / 4))
    assert found["rouge2"] == pytest.approx(2 * (1 / 4) * (1 / 3) / (1 / 4 + 1 / 3))  # "on mat"
    assert found["rougeL"] == pytest.approx(found["rouge1"])


def test_rouge_takes_the_best_reference_and_averages_rows():
    found = rouge(["a red fox", "blue"], [["green", "a red fox"], "green"])
    assert found == {"rouge1": 0.5, "rouge2": 0.5, "rougeL": 0.5}


def test_rouge_compares_stems():
    assert rouge(["running dogs"], ["run dog"])["rouge1"] == 1


def test_bleu_and_chrf_are_sacrebleus():
    said = ["the cat sat on the mat today", "hello there, world", "nothing alike"]
    wanted = ["the cat sat on a mat today", "hello there world", "something else entirely"]
    assert bleu(said, wanted) == pytest.approx(sacrebleu.corpus_bleu(said, [wanted]).score)
    assert chrf(said, wanted) == pytest.approx(sacrebleu.corpus_chrf(said, [wanted]).score)
    assert bleu(wanted, wanted) == pytest.approx(100)


def test_rows_may_have_different_numbers_of_references():
    said = ["the cat sat on the mat today", "hello there, big world"]
    wanted = [["a cat was on the mat", "the cat sat on the mat today"], "hello there, big world"]
    assert bleu(said, wanted) == pytest.approx(100)
    assert bleu(said, ["a cat was on the mat", "hello there, big world"]) < 80


def test_bad_input():
    with pytest.raises(ValueError, match="1 predictions and 2 references"):
        exact_match(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="row 1 has no reference"):
        rouge(["a", "b"], ["a", []])
    with pytest.raises(ValueError, match="and some"):
        bleu([], [])


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("sacrebleu"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="sacrebleu")
        return real(name, *rest, **more)

    for name in [name for name in sys.modules if name.startswith("sacrebleu")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r'pip install "stillroom\[evaluation\]"'):
        bleu(["a"], ["a"])
