"""Tries and grammars: what may follow, where it may end, what sentences mean; and the mask on scores.

.venv/bin/python -m pytest tests/blocks/test_constraints.py
"""

import math
import random
import re

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stillroom.blocks.constraints import Constrained, Trie, accepts, choices, follow
from stillroom.blocks.grammar import Grammar, token_texts
from stillroom.students.open import train_tokenizer

SEQUENCES = [(5, 6), (5, 6, 7), (8,)]
LETTERS = ("", "a", "b", "ab", "(", ")", "c", " a")


def test_a_trie_allows_what_some_sequence_goes_on_with():
    trie = Trie(SEQUENCES)
    assert set(trie.allowed(trie.start())) == {5, 8} and not trie.complete(trie.start())
    middle = follow(trie, trie.start(), [5, 6])
    assert set(trie.allowed(middle)) == {7} and trie.complete(middle)
    assert follow(trie, trie.start(), [5, 7]) is None
    assert [accepts(trie, one) for one in (*SEQUENCES, (5,), (), (8, 8))] == [True, True, True, False, False, False]


def test_an_empty_trie_and_an_empty_sequence_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        Trie([])
    with pytest.raises(ValueError, match="empty sequence"):
        Trie([(1,), ()])


def test_a_dead_end_is_an_error_of_the_automaton():
    class Dead:
        def start(self):
            return 0

        def allowed(self, state):
            return {}

        def complete(self, state):
            return False

    with pytest.raises(ValueError, match="no end"):
        choices(Dead(), 0)


# --- grammars ---------------------------------------------------------------------------------------------------------


def spelt(tokens):
    return "".join(LETTERS[token] for token in tokens)


def balanced():
    """a, b in balanced parentheses, left-recursive and with empty parts: S -> S S | ( S ) | a | b | nothing."""
    return Grammar({"<S>": ["<S><S>", "(<S>)", "a", "b", ""]}, start="<S>", tokens=LETTERS)


def is_balanced(text):
    while (less := re.sub(r"\([ab]*\)", "", text)) != text:
        text = less
    return bool(re.fullmatch(r"[ab]*", text))


def completable(text):
    depth = 0
    for sign in text:
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if depth < 0 or sign in " c":
            return False
    return True


def test_a_grammar_with_recursion_and_empty_parts_agrees_with_a_check_by_hand():
    """Random walks over tokens of several characters: what may follow keeps the prefix completable, nothing else."""
    grammar, draw = balanced(), random.Random(0)
    for _ in range(40):
        state, written = grammar.start(), []
        for _ in range(8):
            after = grammar.allowed(state)
            expected = {n for n, text in enumerate(LETTERS) if text and completable(spelt(written) + text)}
            assert set(after) == expected, spelt(written)
            assert grammar.complete(state) == is_balanced(spelt(written)), spelt(written)
            token = draw.choice(sorted(after))
            state, written = after[token], [*written, token]


def test_a_grammar_of_a_closed_set_is_that_set_whatever_the_tokens():
    texts = ["a", "abc", "cab"]
    grammar = Grammar({"<S>": texts}, start="<S>", tokens=LETTERS)
    found = set()
    open_ = [(grammar.start(), ())]
    while open_:
        state, written = open_.pop()
        if grammar.complete(state):
            found.add(written)
        open_ += [(after, (*written, token)) for token, after in grammar.allowed(state).items()]
    assert {spelt(one) for one in found} == set(texts)
    assert {one for one in found if spelt(one) == "abc"} == {(1, 2, 6), (3, 6)}  # a b c, and ab c
    assert sorted(grammar.sentences()) == sorted(texts)


def test_a_sentence_may_begin_with_what_is_not_its_own():
    grammar = Grammar({"<S>": ["ab"]}, start="<S>", tokens=LETTERS, first=" ")
    assert set(grammar.allowed(grammar.start())) == {7}
    assert accepts(grammar, (7, 2)) and not accepts(grammar, (1, 2)) and grammar.meaning("ab") == "ab"


ASKING = {
    "<question>": [
        ("how many people live in <country>", "(population <country>)"),
        ("is <country> larger than <country>", "(larger <country> <country>)"),
        ("not <question>", "(not <question>)"),
    ],
    "<country>": [("Peru", "country:peru"), ("Chile", "country:chile")],
}


def test_meanings_are_put_together_from_those_of_the_parts():
    grammar = Grammar(ASKING, start="<question>", tokens=())
    assert grammar.meaning("how many people live in Peru") == "(population country:peru)"
    assert grammar.meaning("is Chile larger than Peru") == "(larger country:chile country:peru)"
    assert grammar.meaning("not not how many people live in Chile") == "(not (not (population country:chile)))"
    assert grammar.meaning("how many people live in Spain") is None


def test_a_sentence_with_two_meanings_is_refused():
    grammar = Grammar({"<S>": [("<A>", "<A>"), ("b", "second")], "<A>": [("b", "first")]}, start="<S>", tokens=())
    with pytest.raises(ValueError, match="means both 'first' and 'second'"):
        grammar.meaning("b")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"<S>": ["<T>"]}, "no rule for <T>"),
        ({"<S>": ["a<S>"]}, "no text comes to an end with <S>"),
        ({"S": ["a"]}, "angle brackets"),
    ],
)
def test_a_wrong_grammar_is_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        Grammar(rules, start="<S>", tokens=LETTERS)


def test_sentences_without_end_are_not_listed():
    with pytest.raises(ValueError, match="can't all be listed"):
        list(Grammar({"<S>": ["a", "<S>b"]}, start="<S>", tokens=LETTERS).sentences())


def test_tokens_texts_put_together_are_the_text():
    tokenizer = train_tokenizer(["how many people live in Peru and Côte d’Ivoire"] * 3, 320)
    texts = token_texts(tokenizer)
    for text in ("how many people", " live in Peru"):
        assert "".join(texts[token] for token in tokenizer(text)["input_ids"]) == text
    assert texts[tokenizer.eos_token_id] == ""


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_stay_as_they_are_where_a_token_is_allowed():
    rule = Constrained(Trie(SEQUENCES), prompt=2, stop=[0])
    scores = torch.randn(2, 9)
    first = rule(torch.tensor([[1, 1], [1, 1]]), scores)
    assert first.isfinite().nonzero()[:, 1].tolist() == [5, 8, 5, 8]
    assert torch.equal(first[:, [5, 8]], scores[:, [5, 8]])
    rule(torch.tensor([[1, 1, 5], [1, 1, 8]]), scores)
    last = rule(torch.tensor([[1, 1, 5, 6], [1, 1, 8, 0]]), scores)
    assert last[0].isfinite().nonzero().flatten().tolist() == [0, 7]  # it may end, or go on
    assert last[1].isfinite().nonzero().flatten().tolist() == [0]  # it has ended


def test_each_row_may_have_a_language_of_its_own():
    rule = Constrained([Trie([(5,)]), Trie([(6,)])], prompt=1, stop=[0])
    masked = rule(torch.ones(4, 1, dtype=torch.long), torch.zeros(4, 9))  # two beams each
    assert masked.argmax(-1).tolist() == [5, 5, 6, 6]
    with pytest.raises(ValueError, match="2 automata"):
        rule(torch.ones(3, 1, dtype=torch.long), torch.zeros(3, 9))
    with pytest.raises(ValueError, match="stop"):
        Constrained(Trie([(5,)]), prompt=1, stop=[])


def llama():
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=12, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.9, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("beams", [1, 3])
def test_generate_writes_only_sentences_and_a_wide_beam_the_likeliest(beams):
    model = llama()
    rule = Constrained(Trie(SEQUENCES), prompt=2, stop=[0])
    out = model.generate(
        torch.tensor([[3, 4], [9, 2]]), max_new_tokens=5, num_beams=beams, do_sample=False, length_penalty=0.0,
        logits_processor=[rule],
    )  # fmt: skip
    for prompt, row in zip([[3, 4], [9, 2]], out[:, 2:].tolist(), strict=True):
        said = tuple(token for token in row if token)
        assert said in SEQUENCES
        if beams == 3:
            best = max(SEQUENCES, key=lambda one: score(model, prompt, one))
            assert said == best


@torch.no_grad()
def score(model, prompt, written):
    """log p(written, stop | prompt), token by token."""
    total, ids = 0.0, list(prompt)
    for token in (*written, 0):
        logits = model(torch.tensor([ids])).logits[0, -1]
        total += float(logits[token]) - math.log(sum(math.exp(value) for value in logits.tolist()))
        ids.append(token)
    return total
