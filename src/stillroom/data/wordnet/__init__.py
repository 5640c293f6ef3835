"""`wordnet`: what English words mean and how they are related, from WordNet 3.0 (Miller, 1995; Fellbaum, 1998).

Read in place from the files of Debian's `wordnet-base`, or of the folder that ``$WNSEARCHDIR`` names. A row is about a
meaning (a synset, ``n02084071``) or about a word in one meaning: 117,659 and 206,978 of them, and 48,246 examples. The
train split has 94,504 meanings, 38,849 examples, 16,505 triples, 155,418 edges, 156,727 pairs, about 674,000 relations,
374,000 constraints and 34,561 words in examples; the other two about a tenth as much, and 37,000 relations.

| view          | columns besides `id`                                                                             |
|---------------|--------------------------------------------------------------------------------------------------|
| `definitions` | text: the definition; label: the lexicographer file, 45 coarse classes                           |
| `glosses`     | text: the definition with its examples                                                           |
| `examples`    | anchor: a sentence or phrase with the word in use; positive: the definition                      |
| `triples`     | the same, and negative: the definitions of up to five other meanings with the same hypernym      |
| `pairs`       | anchor: a word; positive: its definition                                                         |
| `completion`  | prompt: ``dog (noun)`` and a new line; completion: the definition                                |
| `synsets`     | lexicographer_file, definition, examples, hypernyms (ids), sense_keys and counts (in tagged      |
|               | texts) of the words                                                                              |
| `edges`       | source and target (ids), relation, source_word, target_word: WordNet's own graph                 |
| `relations`   | first, second, label: what the second word is to the first: hypernym, synonym, antonym, meronym, |
|               | cohyponym or random                                                                              |
| `constraints` | first, second, relation: synonym, antonym or hypernym                                            |
| `senses`      | text: an example; start, end: where the word stands in it; word, as it stands there; lemma;      |
|               | synset; candidates: a list of {key, synset, definition, count}, the most frequent sense first;   |
|               | answer: the place of the right one                                                               |

All but `edges` have part_of_speech; the views of meanings have words, and `pairs` and `completion` synset and
lexicographer_file. Words of `relations` and `constraints` are in lower case.

What does not leak. In the views of meanings (`definitions`, `glosses`, `examples`, `triples`, `synsets`) no synset, no
definition and no example is in two splits, whatever the view, nor are two opposites; words are, as many have several
meanings. In the views of words (`pairs`, `completion`, `relations`, `senses`) no word is either: a word belongs to the
split of its most frequent meaning, and rows are dropped whose words, or word and meaning, belong to different splits.
Candidates in `senses` are all meanings of the word, so a wrong one may be the right one of another word elsewhere. An
edge is there once, in one of its two directions (never hyponym, meronym and the like) and in the split of its source;
its target may belong elsewhere, as new meanings are hung under known ones. Of `constraints`, which are laid on known
words, only no pair of words is in two splits, in either order. Words with a common stem are different words.

`files` names the lexicographer files to keep, as ``["noun.animal", "noun.food"]``, and is then the list of classes.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stillroom.data.cache import build_once, fingerprint
from stillroom.data.progress import patient_bar
from stillroom.data.search import Retrieval
from stillroom.data.tables import TableWriter, read_table, sample, share
from stillroom.data.wordnet import wndb
from stillroom.data.wordnet.lexicon import SHARES, Lexicon
from stillroom.data.wordnet.wndb import LEXICOGRAPHER_FILES, Synset
from stillroom.errors import UserError, nearest

if TYPE_CHECKING:
    from datasets import Dataset, Features

VIEWS = {
    "definitions": "labelled-text",
    "glosses": "text",
    "examples": "pair",
    "triples": "triple",
    "pairs": "pair",
    "completion": "completion",
    "synsets": None,
    "edges": None,
    "relations": None,
    "constraints": None,
    "senses": None,
}
SPLITS = tuple(SHARES)
RELATIONS = ("hypernym", "synonym", "antonym", "meronym", "cohyponym", "random")
MOST_NEGATIVES = 5

_VERSION = 1  # of what is read and how it is divided; a change makes what is in the cache stale

Row = dict[str, Any]
Placed = tuple[str, Row]  # the split, or "" for a row that is dropped, with its reason


def load(view: str, split: str, limit: int | None, seed: int, *, files: Sequence[str] | None = None) -> Dataset:
    """``limit`` rows of a view of one split, drawn with ``seed``, or all; of some lexicographer files, if named."""
    folder = _built(view, tuple(LEXICOGRAPHER_FILES if files is None else dict.fromkeys(files)))
    return sample(read_table(folder / f"{split}.arrow"), limit, seed)


def report(view: str, files: Sequence[str] | None = None) -> dict[str, Any]:
    """What became of the rows of a view.

    Returns:
        ``splits``: rows in each; ``dropped``: reason -> how many rows were left out for it.
    """
    folder = _built(view, tuple(LEXICOGRAPHER_FILES if files is None else dict.fromkeys(files)))
    return json.loads((folder / "report.json").read_text())


def retrieval(split: str = "test", count: int = 500, seed: int = 0) -> Retrieval:
    """Find the word that a definition is of, among ``count`` words of one split: a dictionary read backwards.

    Words, meanings and definitions are all different; the word in place n is one of definition n's. Where another of
    the words means the same, it is right as well.

    Raises:
        UserError: the split has fewer words than that.
    """
    import numpy as np

    table = load("pairs", split, None, 0)
    rows: list[Row] = []
    seen = set[str]()
    for row in map(table.__getitem__, np.random.default_rng(seed).permutation(len(table)).tolist()):
        own = {row["anchor"].lower(), row["synset"], row["positive"]}
        if len(rows) < count and not own & seen:
            rows.append(row)
            seen |= own
    if len(rows) < count:
        raise UserError(f"wordnet has {len(rows)} words to search in its {split} split; {count} were asked for")
    places = {row["synset"]: place for place, row in enumerate(rows)}
    words = {row["anchor"].lower(): place for place, row in enumerate(rows)}
    relevance = [{place: 1} for place in range(count)]
    for synset, word in zip(table["synset"], table["anchor"], strict=True):
        if synset in places and word.lower() in words:
            relevance[places[synset]][words[word.lower()]] = 1
    return Retrieval(
        queries=[row["positive"] for row in rows],
        documents=[row["anchor"] for row in rows],
        relevance=relevance,
        ids=[row["id"] for row in rows],
    )


def _built(view: str, files: tuple[str, ...]) -> Path:
    for name in files:
        if name not in LEXICOGRAPHER_FILES:
            raise UserError(f"WordNet has no lexicographer file {name!r}{nearest(name, LEXICOGRAPHER_FILES)}")
    if not files:
        raise UserError("'files' is an empty list; name lexicographer files, for instance 'noun.animal'")
    return build_once(f"wordnet/{view}", fingerprint(_VERSION, wndb.state(), files), partial(_build, view, files))


def _build(view: str, files: tuple[str, ...], folder: Path) -> None:
    folder.mkdir()
    kept, dropped = Counter[str](dict.fromkeys(SPLITS, 0)), Counter[str]()
    schema = _features(view, files).arrow_schema
    with ExitStack() as stack:
        tick = stack.enter_context(patient_bar("reading WordNet"))
        tables = {name: stack.enter_context(TableWriter(folder / f"{name}.arrow", schema)) for name in SPLITS}
        for split, row in _ROWS[view](Lexicon(files)):
            if split:
                tables[split].add(row)
                kept[split] += 1
                tick(kept.total(), None)
            else:
                dropped[row["reason"]] += 1
    (folder / "report.json").write_text(json.dumps({"splits": kept, "dropped": dropped}, indent=1, sort_keys=True))


def _features(view: str, files: tuple[str, ...]) -> Features:
    import datasets

    text, number = datasets.Value("string"), datasets.Value("int64")
    kinds = {"label": datasets.ClassLabel(names=list(RELATIONS if view == "relations" else files))}
    kinds |= dict.fromkeys(("words", "examples", "hypernyms", "sense_keys", "negative"), datasets.List(text))
    kinds |= dict.fromkeys(("start", "end", "answer"), number)
    kinds["counts"] = datasets.List(number)
    kinds["candidates"] = datasets.List({"key": text, "synset": text, "definition": text, "count": number})
    return datasets.Features({name: kinds.get(name, text) for name in ("id", *_COLUMNS[view].split())})


_COLUMNS = {
    "definitions": "text label words part_of_speech",
    "glosses": "text words part_of_speech",
    "examples": "anchor positive words part_of_speech",
    "triples": "anchor positive negative words part_of_speech",
    "pairs": "anchor positive synset part_of_speech lexicographer_file",
    "completion": "prompt completion synset part_of_speech lexicographer_file",
    "synsets": "words part_of_speech lexicographer_file definition examples hypernyms sense_keys counts",
    "edges": "source target relation source_word target_word",
    "relations": "first second label part_of_speech",
    "constraints": "first second relation part_of_speech",
    "senses": "text start end word lemma part_of_speech synset candidates answer",
}


def _dropped(reason: str) -> Placed:
    return "", {"reason": reason}


# --- meanings ---


def _named(synset: Synset) -> Row:
    return {"id": synset.id, "words": synset.words, "part_of_speech": synset.part_of_speech}


def _definitions(lexicon: Lexicon) -> Iterator[Placed]:
    for synset in lexicon.chosen():
        label = lexicon.files.index(synset.lexicographer_file)
        yield lexicon.split[synset.id], {**_named(synset), "text": synset.definition, "label": label}


def _glosses(lexicon: Lexicon) -> Iterator[Placed]:
    for synset in lexicon.chosen():
        text = "; ".join([synset.definition, *(f'"{example}"' for example in synset.examples)])
        yield lexicon.split[synset.id], {**_named(synset), "text": text}


def _examples(lexicon: Lexicon) -> Iterator[Placed]:
    for synset in lexicon.chosen():
        for number, example in enumerate(synset.examples):
            row = {**_named(synset), "id": f"{synset.id}-{number}", "anchor": example, "positive": synset.definition}
            yield lexicon.split[synset.id], row


def _triples(lexicon: Lexicon) -> Iterator[Placed]:
    below = _below(lexicon)
    for split, row in _examples(lexicon):
        synset = lexicon.synsets[row["id"].partition("-")[0]]
        near = {one for parent in lexicon.above(synset) for one in below[parent.id]}
        texts = {lexicon.synsets[one].definition for one in near if lexicon.split[one] == split} - {synset.definition}
        chosen = sorted(texts, key=lambda text: share(text, salt=row["id"]))[:MOST_NEGATIVES]
        yield (split, {**row, "negative": chosen}) if chosen else _dropped("no other hyponym in the split")


def _below(lexicon: Lexicon) -> dict[str, list[str]]:
    """Hypernym -> its direct hyponyms, of the chosen files."""
    found = defaultdict[str, list[str]](list)
    for synset in lexicon.chosen():
        for parent in lexicon.above(synset):
            found[parent.id].append(synset.id)
    return found


def _synsets(lexicon: Lexicon) -> Iterator[Placed]:
    for synset in lexicon.chosen():
        keys = [lexicon.sense_key(synset, place) for place in range(len(synset.words))]
        yield (
            lexicon.split[synset.id],
            {
                **_named(synset),
                "lexicographer_file": synset.lexicographer_file,
                "definition": synset.definition,
                "examples": synset.examples,
                "hypernyms": [pointer.target for pointer in synset.pointers if pointer.symbol in ("@", "@i")],
                "sense_keys": keys,
                "counts": [lexicon.count(key) for key in keys],
            },
        )


# Of two directions of one relation, only one is here; those in _MUTUAL are the same in both.
_EDGES = {
    "@": "hypernym", "@i": "instance hypernym", "#m": "member holonym", "#s": "substance holonym", "#p": "part holonym",
    "*": "entailment", ">": "cause", "<": "participle of", "\\": "pertainym", ";c": "topic domain",
    ";r": "region domain", ";u": "usage domain", "!": "antonym", "=": "attribute", "&": "similar to", "^": "also see",
    "$": "verb group", "+": "derivationally related",
}  # fmt: skip
_MUTUAL = ("!", "=", "&", "^", "$", "+")


def _edges(lexicon: Lexicon) -> Iterator[Placed]:
    for synset in lexicon.chosen():
        for pointer in synset.pointers:
            target = lexicon.synsets[pointer.target]
            if pointer.symbol not in _EDGES or not lexicon.has(target):
                continue
            symbol, there, source_word, target_word = pointer
            back = wndb.Pointer(symbol, synset.id, target_word, source_word)
            if symbol in _MUTUAL and (there, target_word) < (synset.id, source_word) and back in target.pointers:
                continue
            yield (
                lexicon.split[synset.id],
                {
                    "id": f"{synset.id}.{source_word} {symbol} {there}.{target_word}",
                    "source": synset.id,
                    "target": there,
                    "relation": _EDGES[symbol],
                    "source_word": synset.words[max(source_word - 1, 0)],
                    "target_word": target.words[max(target_word - 1, 0)],
                },
            )


# --- words ---


def _pairs(lexicon: Lexicon) -> Iterator[Placed]:
    for synset in lexicon.chosen():
        at_home = lexicon.words_at_home(synset)
        for number, word in enumerate(synset.words):
            if word in at_home:
                row = {"id": f"{synset.id}-{number}", "anchor": word, "positive": synset.definition}
                row |= {"synset": synset.id, "part_of_speech": synset.part_of_speech}
                yield lexicon.split[synset.id], {**row, "lexicographer_file": synset.lexicographer_file}
            else:
                yield _dropped("the word belongs to another split")


def _completion(lexicon: Lexicon) -> Iterator[Placed]:
    for split, row in _pairs(lexicon):
        if split:
            row["prompt"] = f"{row.pop('anchor')} ({row['part_of_speech']})\n"
            row["completion"] = row.pop("positive")
        yield split, row


def _constraints(lexicon: Lexicon) -> Iterator[Placed]:
    """A pair of words is a constraint of the first meaning that says it; one with two relations is none."""
    seen = dict[tuple[str, str], str]()
    found = [row for row in _related(lexicon) if row[2] in ("synonym", "antonym", "hypernym")]
    for first, second, relation, _ in found:
        pair = _sorted(first, second)
        seen[pair] = relation if seen.get(pair, relation) == relation else "several"
    given = set[tuple[str, str]]()
    for first, second, relation, synset in found:
        pair = _sorted(first, second)
        if seen[pair] == "several":
            yield _dropped("several relations between the two words")
        elif pair not in given:
            given.add(pair)
            yield lexicon.split[synset.id], _word_pair(first, second, synset, relation=relation)


def _relations(lexicon: Lexicon) -> Iterator[Placed]:
    known = dict[tuple[str, str], tuple[str, str, str, Synset] | None]()
    for found in _related(lexicon):
        first, second, relation, synset = found
        if lexicon.home[first] != lexicon.home[second]:
            yield _dropped("the words belong to different splits")
            continue
        pair = _sorted(first, second)
        before = known.setdefault(pair, found)
        if before is not None and (before[2] != relation or (relation in _DIRECTED and before[0] != first)):
            known[pair] = None
    for one in known.values():
        if one is None:
            yield _dropped("several relations between the two words")
        else:
            first, second, relation, synset = one
            row = _word_pair(first, second, synset, label=RELATIONS.index(relation))
            yield lexicon.home[first], row
    yield from _random(lexicon, known)


_DIRECTED = ("hypernym", "meronym")


def _sorted(first: str, second: str) -> tuple[str, str]:
    return (first, second) if first < second else (second, first)


def _word_pair(first: str, second: str, synset: Synset, **what: Any) -> Row:
    row = {"id": f"{first} | {second}", "first": first, "second": second, "part_of_speech": synset.part_of_speech}
    return row | what


def _related(lexicon: Lexicon) -> Iterator[tuple[str, str, str, Synset]]:
    """First word, second word, what the second is to the first, and the meaning of the first."""
    for synset in lexicon.chosen():
        for first, second in combinations(dict.fromkeys(map(str.lower, synset.words)), 2):
            yield first, second, "synonym", synset
        for symbol, target, source_word, target_word in synset.pointers:
            other = lexicon.synsets[target]
            relation = {"@": "hypernym", "!": "antonym"}.get(symbol) or ("meronym" if symbol[0] == "%" else "")
            if relation == "antonym":
                relation = relation if (synset.id, source_word) < (target, target_word) else ""
            if relation and lexicon.has(other):
                yield from _worded(synset, other, relation, source_word, target_word)
    for synset, other in _rings(lexicon):
        yield from _worded(synset, other, "cohyponym")


def _worded(
    synset: Synset, other: Synset, relation: str, source_word: int = 0, target_word: int = 0
) -> Iterator[tuple[str, str, str, Synset]]:
    """The relation between the words that have it; between all words where it is one of meanings."""
    sources = [synset.words[source_word - 1]] if source_word else synset.words
    targets = [other.words[target_word - 1]] if target_word else other.words
    for first, second in product(map(str.lower, sources), map(str.lower, targets)):
        if first != second:
            yield first, second, relation, synset


def _rings(lexicon: Lexicon) -> Iterator[tuple[Synset, Synset]]:
    """Each meaning with one other of the same hypernym and split.

    All pairs would be millions, most of them of a few large families; so a family stands in a ring, in an order that
    has nothing to do with its words.
    """
    for parent, family in _below(lexicon).items():
        for split in SPLITS:
            ring = [one for one in family if lexicon.split[one] == split]
            ring.sort(key=lambda one: share(one, salt=parent))
            for place in range(len(ring) if len(ring) > 2 else len(ring) - 1):
                yield lexicon.synsets[ring[place]], lexicon.synsets[ring[(place + 1) % len(ring)]]


def _random(lexicon: Lexicon, known: dict[tuple[str, str], Any]) -> Iterator[Placed]:
    """Each word with one of the same split and part of speech that it has nothing to do with.

    Nothing to do: none of the relations above, no common direct hypernym, and neither above the other in any meaning.
    """
    rings = defaultdict[tuple[str, str], list[str]](list)
    for (word, letter), ids in lexicon.senses.items():
        if lexicon.has(lexicon.synsets[ids[0]]):
            rings[lexicon.home[word], letter].append(word)
    given = set[tuple[str, str]]()
    for (split, letter), ring in rings.items():
        ring.sort(key=lambda word: share(word, salt="random"))
        kinships = (_Kinship.of(lexicon, word, letter) for word in (*ring, ring[0]))
        for mine, other in pairwise(kinships):
            pair = _sorted(mine.word, other.word)
            if mine.word == other.word or pair in known or pair in given or mine.meets(other):
                yield _dropped("random words that are related")
                continue
            given.add(pair)
            synset = lexicon.synsets[lexicon.senses[mine.word, letter][0]]
            yield split, _word_pair(mine.word, other.word, synset, label=RELATIONS.index("random"))


class _Kinship(NamedTuple):
    """A word's meanings, their direct hypernyms, and all that is above them with themselves."""

    word: str
    meanings: list[str]
    parents: set[str]
    above: set[str]

    @classmethod
    def of(cls, lexicon: Lexicon, word: str, letter: str) -> _Kinship:
        ids = lexicon.senses[word, letter]
        parents = {parent.id for one in ids for parent in lexicon.above(lexicon.synsets[one])}
        return cls(word, ids, parents, lexicon.ancestry(ids))

    def meets(self, other: _Kinship) -> bool:
        near = self.parents & other.parents
        return bool(near or self.above.intersection(other.meanings) or other.above.intersection(self.meanings))


# --- words in sentences ---


def _senses(lexicon: Lexicon) -> Iterator[Placed]:
    irregular = wndb.exceptions()
    for synset in lexicon.chosen():
        at_home = set(lexicon.words_at_home(synset))
        for number, example in enumerate(synset.examples):
            found = list(_found(example, synset, irregular))
            if not found:
                yield _dropped("the word is not found in the example")
            for place, (start, end) in found:
                if synset.words[place] not in at_home:
                    yield _dropped("the word belongs to another split")
                    continue
                lemma = synset.words[place].lower()
                ids = lexicon.senses[lemma, synset.id[0]]
                row = {"id": f"{synset.id}-{number}-{place}", "text": example, "start": start, "end": end}
                row |= {"word": example[start:end], "lemma": lemma, "synset": synset.id}
                row |= {"part_of_speech": synset.part_of_speech, "answer": ids.index(synset.id)}
                candidates = [_candidate(lexicon, lemma, lexicon.synsets[one]) for one in ids]
                yield lexicon.split[synset.id], {**row, "candidates": candidates}


def _candidate(lexicon: Lexicon, lemma: str, synset: Synset) -> Row:
    key = lexicon.sense(lemma, synset)
    return {"key": key, "synset": synset.id, "definition": synset.definition, "count": lexicon.count(key)}


# Abbreviations with their points; else words with hyphens and apostrophes, but without the genitive's.
_TOKEN = re.compile(r"[^\W_]+(?:\.[^\W_]+)+\.?|[^\W_]+(?:-[^\W_]+|['’](?!s\b)[^\W_]+)*")


def _found(example: str, synset: Synset, irregular: Any) -> Iterator[tuple[int, tuple[int, int]]]:
    """The synset's words that stand in the example, inflected or not, and where; the first place of each."""
    tokens = list(_TOKEN.finditer(example))
    forms = [wndb.base_forms(token.group().lower(), synset.id[0], irregular) for token in tokens]
    for place, word in enumerate(synset.words):
        parts = word.lower().split()
        for start in range(len(tokens) - len(parts) + 1):
            span = tokens[start : start + len(parts)]
            together = all(example[one.end() : other.start()] == " " for one, other in pairwise(span))
            if together and all(part in known for part, known in zip(parts, forms[start:], strict=False)):
                yield place, (span[0].start(), span[-1].end())
                break


_ROWS: dict[str, Callable[[Lexicon], Iterator[Placed]]] = {
    "definitions": _definitions,
    "glosses": _glosses,
    "examples": _examples,
    "triples": _triples,
    "pairs": _pairs,
    "completion": _completion,
    "synsets": _synsets,
    "edges": _edges,
    "relations": _relations,
    "constraints": _constraints,
    "senses": _senses,
}
