"""The files of the WordNet database, line by line, as wndb(5WN), senseidx(5WN), lexnames(5WN) and morph(7WN) say.

A synset's id is the letter of its file and its offset there, ``n02084071`` for the dog, as ImageNet names its classes.
An adjective's satellites lie in the file of adjectives and have its letter. The standard library is all this needs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from stillroom.errors import UserError

T = TypeVar("T")

FOLDER = Path("/usr/share/wordnet")
"""Where Debian's `wordnet-base` puts the files. ``$WNSEARCHDIR``, WordNet's own variable, names another folder."""

FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
PARTS_OF_SPEECH = {"n": "noun", "v": "verb", "a": "adjective", "r": "adverb"}

LEXICOGRAPHER_FILES = (
    "adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact", "noun.attribute",
    "noun.body", "noun.cognition", "noun.communication", "noun.event", "noun.feeling", "noun.food", "noun.group",
    "noun.location", "noun.motive", "noun.object", "noun.person", "noun.phenomenon", "noun.plant", "noun.possession",
    "noun.process", "noun.quantity", "noun.relation", "noun.shape", "noun.state", "noun.substance", "noun.time",
    "verb.body", "verb.change", "verb.cognition", "verb.communication", "verb.competition", "verb.consumption",
    "verb.contact", "verb.creation", "verb.emotion", "verb.motion", "verb.perception", "verb.possession",
    "verb.social", "verb.stative", "verb.weather", "adj.ppl",
)  # fmt: skip
"""The 45 files that lexicographers wrote synsets into, in the order of their numbers: coarse classes of meaning."""

_TYPES = {"n": 1, "v": 2, "a": 3, "r": 4, "s": 5}

# Endings that an inflected form has, and what stands there in the base form.
_DETACHED = {
    "n": (
        *(("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z")),
        *(("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y")),
    ),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}

_MARKER = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective may stand
_FIRST_EXAMPLE = re.compile(r'(?:[;:]|(?<!e\.g\.),)\s*(?=")')
_QUOTED = re.compile(r'"([^"]+)"')


class Pointer(NamedTuple):
    """A relation to another synset: its symbol, and from which word (from 1; 0 is the whole synset) to which."""

    symbol: str
    target: str
    source_word: int
    target_word: int


@dataclass(frozen=True, slots=True)
class Synset:
    """One meaning, with the words for it.

    Attributes:
        id: letter of the file and offset.
        kind: n, v, a, r, or s for the satellite of an adjective.
        file: the number of its lexicographer file.
        words: as written, with spaces between the parts of a compound, without an adjective's marker.
        lex_ids: for each word, what tells it from the same word in the same lexicographer file.
        pointers: relations to other synsets.
        definition: what it means.
        examples: how it is used.
    """

    id: str
    kind: str
    file: int
    words: tuple[str, ...]
    lex_ids: tuple[int, ...]
    pointers: tuple[Pointer, ...]
    definition: str
    examples: tuple[str, ...]

    @property
    def lexicographer_file(self) -> str:
        """The name of the file that a lexicographer wrote it into."""
        return LEXICOGRAPHER_FILES[self.file]

    @property
    def part_of_speech(self) -> str:
        """Noun, verb, adjective or adverb."""
        return PARTS_OF_SPEECH[self.id[0]]


def folder() -> Path:
    """The folder of the database.

    Raises:
        UserError: it is not there.
    """
    chosen = os.environ.get("WNSEARCHDIR")
    path = Path(chosen).expanduser() if chosen else FOLDER
    if not (path / "data.noun").is_file():
        raise UserError(
            f"this needs WordNet, which is not in {path}; on Debian: apt install wordnet-base (elsewhere, let "
            "WNSEARCHDIR name the folder with its file data.noun)"
        )
    return path


def state() -> list[tuple[str, int, int]]:
    """What tells this database from another: its files' names, sizes and times of change."""
    names = [f"{kind}.{name}" for kind in ("data", "index") for name in FILES.values()]
    names += ["cntlist.rev", *(f"{name}.exc" for name in FILES.values())]
    found = [(name, _file(name).stat()) for name in names]
    return [(name, known.st_size, known.st_mtime_ns) for name, known in found]


def synsets() -> Iterator[Synset]:
    """All synsets: nouns, verbs, adjectives, adverbs, each in the order of its file."""
    for letter, name in FILES.items():
        yield from _parsed(f"data.{name}", partial(_synset, letter))


def index() -> Iterator[tuple[str, str, list[str]]]:
    """Each lemma in lower case, the letter of its part of speech, and its synsets, the most frequent meaning first."""
    for letter, name in FILES.items():
        yield from _parsed(f"index.{name}", partial(_senses, letter))


def tag_counts() -> dict[str, int]:
    """Sense key -> how often it was found in tagged texts; senses that were not are absent.

    About one key in twenty of WordNet 3.0's list is that of an earlier edition and counts for no sense of this one.
    """
    return dict(_parsed("cntlist.rev", _count))


def exceptions() -> dict[str, dict[str, list[str]]]:
    """Letter of the part of speech -> irregular form -> base forms."""
    return {
        letter: dict(_parsed(f"{name}.exc", lambda line: (line.split()[0], line.split()[1:])))
        for letter, name in FILES.items()
    }


def base_forms(word: str, letter: str, irregular: Mapping[str, Mapping[str, list[str]]]) -> set[str]:
    """What an inflected word may be a form of, itself included; not all of these need be words."""
    found = {word, *irregular[letter].get(word, ())}
    for ending, instead in _DETACHED[letter]:
        if word.endswith(ending) and len(word) > len(ending):
            found.add(word[: -len(ending)] + instead)
    return found


def sense_key(synset: Synset, place: int, head: Synset | None = None) -> str:
    """The name of a word's sense, ``dog%1:05:00::``, that stays when synsets move in their file.

    Args:
        synset: the meaning.
        place: which of its words, from 0.
        head: of a satellite, the adjective that it goes round.
    """
    lemma = synset.words[place].lower().replace(" ", "_")
    around = f"{head.words[0].lower().replace(' ', '_')}:{head.lex_ids[0]:02d}" if head else ":"
    return f"{lemma}%{_TYPES[synset.kind]}:{synset.file:02d}:{synset.lex_ids[place]:02d}:{around}"


def _file(name: str) -> Path:
    path = folder() / name
    if not path.is_file():
        raise UserError(f"WordNet's file {name} is missing in {path.parent}; on Debian: apt install wordnet-base")
    return path


def _parsed(name: str, parse: Callable[[str], T]) -> Iterator[T]:
    """What each line says; the licence at the head of a file is indented by two spaces."""
    path = _file(name)
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.startswith("  ") or not line.strip():
                continue
            try:
                yield parse(line)
            except (ValueError, IndexError, KeyError):
                raise UserError(f"{path} line {number} is not a line of this file of WordNet 3") from None


def _count(line: str) -> tuple[str, int]:
    key, _, count = line.split()
    return re.sub(r"\((?:a|p|ip)\)", "", key), int(count)


def _senses(letter: str, line: str) -> tuple[str, str, list[str]]:
    lemma, _, count, *rest = line.split()
    return lemma.replace("_", " "), letter, [letter + offset for offset in rest[-int(count) :]]


def _synset(letter: str, line: str) -> Synset:
    fields, _, gloss = line.partition(" | ")
    offset, file, kind, count, *rest = fields.split()
    words = int(count, 16)
    written, lex_ids, rest = rest[: 2 * words : 2], rest[1 : 2 * words : 2], rest[2 * words :]
    pointers = rest[1 : 1 + 4 * int(rest[0])]
    definition, examples = _gloss(gloss)
    LEXICOGRAPHER_FILES[int(file)]  # a number beyond the last is an error of this line
    return Synset(
        id=letter + offset,
        kind=kind,
        file=int(file),
        words=tuple(_MARKER.sub("", word).replace("_", " ") for word in written),
        lex_ids=tuple(int(number, 16) for number in lex_ids),
        pointers=tuple(_pointer(pointers[start : start + 4]) for start in range(0, len(pointers), 4)),
        definition=definition,
        examples=examples,
    )


def _pointer(fields: list[str]) -> Pointer:
    symbol, offset, letter, words = fields
    return Pointer(symbol, letter + offset, int(words[:2], 16), int(words[2:], 16))


def _gloss(text: str) -> tuple[str, tuple[str, ...]]:
    """Definition and examples.

    A quotation begins the examples after ``; : ,`` (but not after ``e.g.,``); elsewhere it is part of the definition.

    Where a quotation mark is missing, what would be an example and ends or begins like a list is none.
    """
    text = " ".join(text.split())
    first = _FIRST_EXAMPLE.search(text)
    if first is None:
        return text.strip(" ;"), ()
    found = (example for example in _QUOTED.findall(text[first.end() :]))
    examples = (example.strip() for example in found if not example.startswith((";", " ;")) and example[-1] != ";")
    return text[: first.start()].strip(" ;"), tuple(example for example in examples if len(example.split()) > 1)
