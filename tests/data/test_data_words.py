"""The words of a tokenizer's vocabulary.

pytest tests/data/test_data_words.py
"""

import pytest

from stillroom.data.files import load
from stillroom.data.words import _words
from stillroom.errors import UserError


def test_the_words_of_a_real_vocabulary():
    rows = load("words", limit=5000, tokenizer="sentence-transformers/all-MiniLM-L6-v2")
    words = rows["text"]
    assert len(words) == len(set(words)) == 5000
    assert {"the", "and", "house"} <= set(words)
    assert all(word.isalpha() and len(word) > 1 for word in words)


def test_pieces_that_go_on_or_begin():
    assert list(_words(["[CLS]", "a", "cat", "##s", "dog", "3"])) == ["cat", "dog"]
    assert list(_words(["Ġcat", "at", "Ġ", "Ġdog", "!"])) == ["cat", "dog"]


def test_without_a_tokenizer_it_says_what_is_missing():
    with pytest.raises((UserError, TypeError), match="tokenizer"):
        load("words", limit=3)
