"""The grounds of the family `parsing`: their rows, what they measure, and that they tell better from worse.

.venv/bin/python -m pytest tests/testbeds/test_parsing.py
"""

import random

import pytest

from stillroom.blocks.trees import inner_spans, right_binarised, words_of
from stillroom.evaluate.brackets import mean_f1
from stillroom.methods.parsing.constrained_lm_parser import Parse
from stillroom.reproduce import reproduce
from stillroom.testbeds import meanings, parsing, treebank

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("slug", sorted(parsing.BENCHES))
def test_every_bench_runs(slug, tmp_path):
    result = reproduce(slug, seeds=[0], smoke=True, folder=tmp_path)
    assert {slug, parsing.BENCHES[slug].versus} <= set(result["systems"])
    assert all(0 <= system["values"][0] <= 1 for system in result["systems"].values()) and "verdict" not in result


# --- meanings ---------------------------------------------------------------------------------------------------------


def test_pairs_are_of_training_questions_in_other_wordings_and_of_all_kinds():
    found = meanings.pairs(40, 0, "canonical")
    train = {row["question"]: row for row in meanings.questions("train")}
    test = {row["question"] for row in meanings.questions("test")}
    assert len(set(found)) == 40 and all(said != canonical for said, canonical in found)
    assert all(train[said]["canonical"] == canonical for said, canonical in found)
    assert len({train[said]["skeleton"] for said, _ in found}) == len(meanings.KINDS)
    assert not test & {said for said, _ in found} and meanings.pairs(40, 0, "form") != meanings.pairs(40, 1, "form")


def test_what_may_be_written_stands_for_one_form_each():
    canonical, forms = meanings.language("canonical"), meanings.language("form")
    assert len(canonical) == len(forms) == len(set(canonical.values())) > 200
    rows = meanings.asked(True, 0)
    assert all(row["canonical"] in canonical and row["wording"] for row in rows)


def test_shares_of_right_answers_are_counted():
    """Right; another form with the same answer; a wrong one; no form at all."""
    asked = {row["form"]: row for row in meanings.questions("test") if row["skeleton"] == "population"}
    rows = list(asked.values())[:4]  # of four countries
    same = f"(sum $0 country (= $0 {rows[1]['form'].split()[1]} (population $0))"
    texts = [rows[0]["form"], same, rows[3]["form"], "(population"]
    parses = [[Parse(text, None, 0.0, 0.0)] for text in texts]
    found = meanings.scored(rows, parses, "form")
    assert found["exact"] == found["exact@5"] == 0.25 and found["denotation"] in (0.25, 0.5)
    assert found["valid"] in (0.5, 0.75)
    parses = [[Parse("x", rows[1]["form"], 0.0, 0.0), Parse(row["canonical"], row["form"], 0.0, 0.0)] for row in rows]
    found = meanings.scored(rows, parses, "canonical")
    assert found["exact"] == 0 and found["exact@5"] == 1 and found["valid"] == 1


# --- treebank ---------------------------------------------------------------------------------------------------------


def test_sentences_are_of_the_grammar_and_in_one_part_only():
    parts = {part: [tuple(words_of(tree)) for tree in treebank.sentences(part, True)] for part in treebank.SIZES[True]}
    everything = [words for part in parts.values() for words in part]
    assert len(set(everything)) == len(everything) == sum(treebank.SIZES[True].values())
    assert all(treebank.SHORTEST <= len(words) <= treebank.LONGEST for words in everything)
    assert any(len(node) == 3 for tree in treebank.sentences("test", True) for node in nodes(tree))


def nodes(tree):
    return [] if isinstance(tree, str) else [tree, *(node for child in tree for node in nodes(child))]


def test_parsers_give_binary_trees_over_the_same_words():
    gold = treebank.sentences("test", True)
    for trees in treebank.parsed("test", True, 0).values():
        for tree, wanted in zip(trees, gold, strict=True):
            assert words_of(tree) == words_of(wanted) and tree == right_binarised(tree)
            assert len(inner_spans(tree)) == len(words_of(tree)) - 2


def test_a_parser_that_never_errs_has_the_gold_tree(monkeypatch):
    gold = treebank.sentences("test", True)
    monkeypatch.setattr(treebank, "ERRORS", 0.0)
    assert [treebank.with_errors(tree, random.Random(0)) for tree in gold] == [right_binarised(tree) for tree in gold]
    monkeypatch.setattr(treebank, "ERRORS", 1.0)
    assert mean_f1(gold, [treebank.with_errors(tree, random.Random(0)) for tree in gold]) < 0.5


def test_branching_by_hand():
    tree = (("a", "b"), ("c", "d"))
    assert treebank.right_branching(tree) == ("a", ("b", ("c", "d")))
    assert treebank.left_branching(tree) == ((("a", "b"), "c"), "d")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_treebank_tells_better_from_worse(tmp_path, whole_ground):
    """Students of better trees parse better, and the worst parser is far from the best."""
    systems = reproduce("tree-averaging", folder=tmp_path)["systems"]
    assert systems["best-teacher"]["mean"] - systems["left-branching"]["mean"] > 3 * systems["best-teacher"]["std"]
    better, worse = systems["student-of-averages"], systems["student-of-best"]
    assert better["mean"] - worse["mean"] > 2 * max(better["std"], worse["std"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_questions_tell_better_from_worse(tmp_path, whole_ground):
    """More pairs to learn from give more right answers, under the constraint."""
    systems = reproduce("constrained-lm-parser", folder=tmp_path)["systems"]
    more, fewer = systems["constrained-lm-parser"], systems["constrained-canonical-50"]
    assert more["mean"] - fewer["mean"] > max(more["std"], fewer["std"])
