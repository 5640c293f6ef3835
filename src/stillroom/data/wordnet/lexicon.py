"""WordNet as a whole, in memory while a table is made of it: meanings, words, and the split that each belongs to.

Meanings are put into groups first: those with the same definition or a common example (but for case, digits and
punctuation), and those of opposites. A group falls into a split by the hash of its first synset, train 80 %, validation
10 %, test 10 %. A word belongs to the split of its most frequent meaning, whatever the part of speech.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import chain

from stillroom.data.tables import part_of
from stillroom.data.wordnet import wndb
from stillroom.data.wordnet.wndb import Synset

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
_LETTERS = re.compile(r"[^\W\d_]+")


def plain(text: str) -> str:
    """The text's words in lower case, by which copies are told."""
    return " ".join(_LETTERS.findall(text.lower()))


class Lexicon:
    """All synsets and words.

    Attributes:
        synsets: id -> synset, in the order of the files.
        split: id -> split.
        files: the names of the lexicographer files that rows are made of.
    """

    def __init__(self, files: tuple[str, ...] = wndb.LEXICOGRAPHER_FILES) -> None:
        self.files = files
        self.synsets = {synset.id: synset for synset in wndb.synsets()}
        self.split = self._splits()

    @cached_property
    def senses(self) -> dict[tuple[str, str], list[str]]:
        """Word in lower case and letter of its part of speech -> ids, the most frequent meaning first."""
        return {(lemma, letter): ids for lemma, letter, ids in wndb.index()}

    @cached_property
    def home(self) -> dict[str, str]:
        """Word in lower case -> the split that it belongs to."""
        best = dict[str, tuple[int, str]]()
        for (word, _), ids in self.senses.items():
            found = (self.count(self.sense(word, self.synsets[ids[0]])), self.split[ids[0]])
            if word not in best or found[0] > best[word][0]:
                best[word] = found
        return {word: split for word, (_, split) in best.items()}

    def chosen(self) -> Iterator[Synset]:
        """The synsets of the chosen files."""
        return (synset for synset in self.synsets.values() if self.has(synset))

    def has(self, synset: Synset) -> bool:
        """Whether it is of a chosen file."""
        return synset.lexicographer_file in self.files

    def words_at_home(self, synset: Synset) -> list[str]:
        """Those of its words that belong to its own split."""
        return [word for word in synset.words if self.home[word.lower()] == self.split[synset.id]]

    def above(self, synset: Synset) -> list[Synset]:
        """Its direct hypernyms, not counting what it is an instance of."""
        return [self.synsets[pointer.target] for pointer in synset.pointers if pointer.symbol == "@"]

    def ancestry(self, ids: list[str]) -> set[str]:
        """The synsets and all their hypernyms, direct and indirect."""
        found, waiting = set[str](), list(ids)
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += [pointer.target for pointer in self.synsets[one].pointers if pointer.symbol in ("@", "@i")]
        return found

    def sense_key(self, synset: Synset, place: int) -> str:
        """The key of one of its words' senses."""
        around = next((pointer.target for pointer in synset.pointers if pointer.symbol == "&"), None)
        head = self.synsets[around] if synset.kind == "s" and around else None
        return wndb.sense_key(synset, place, head)

    def count(self, key: str) -> int:
        """How often the sense was found in tagged texts."""
        return self._counts.get(key, 0)

    @cached_property
    def _counts(self) -> dict[str, int]:
        return wndb.tag_counts()

    def sense(self, word: str, synset: Synset) -> str:
        """The key of a word's sense, found by the word in lower case."""
        return self.sense_key(synset, [written.lower() for written in synset.words].index(word))

    def _splits(self) -> dict[str, str]:
        leader = dict(zip(self.synsets, self.synsets, strict=True))

        def first(one: str) -> str:
            while leader[one] != one:
                leader[one] = leader[leader[one]]
                one = leader[one]
            return one

        seen = dict[str, str]()
        for synset in self.synsets.values():
            copies = (seen.setdefault(plain(text), synset.id) for text in (synset.definition, *synset.examples))
            opposites = (pointer.target for pointer in synset.pointers if pointer.symbol == "!")
            for other in chain(copies, opposites):
                small, large = sorted((first(synset.id), first(other)))
                leader[large] = small
        return {one: part_of(first(one), SHARES, salt="wordnet") for one in self.synsets}
