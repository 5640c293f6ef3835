"""`parallel`: English and other languages side by side, as programs' translations and the Unicode CLDR have them.

Two sources, read in place: gettext catalogues, those of the system (/usr/share/locale, or the folder that
``$TEXTDOMAINDIR`` names) and of installed Python packages; and the names of territories, languages, scripts and
currencies in Debian's `unicode-cldr-core`. So how much there is depends on what is installed. On a
Debian for developers about this many pairs, of which the train split has four fifths; the names alone, without any
catalogue, are about a thousand a language:

    de 41,500   es 44,500   fr 56,100   it 38,900   ja 32,900   ko 29,200
    pl 32,000   ru 44,200   sv 45,100   tr 31,100   uk 53,900   zh 39,300

| view          | columns besides `id`                                                                             |
|---------------|--------------------------------------------------------------------------------------------------|
| `translation` | prompt: ``en > de: Germany`` and a new line; completion: ``Deutschland``; source, target,        |
|               | source_language, target_language, kind, domain, code                                             |
| `pairs`       | anchor: the English; positive: the same in the other language; source_language, target_language, |
|               | kind, domain, code                                                                               |
| `monolingual` | text, language: each text once in its language; English is there too                             |
| `tuples`      | texts: a list of {language, text}, all that is known of one English phrase, English first; kind, |
|               | domain, code                                                                                     |

`kind` is territory, subdivision, language, script, currency or message; `domain` the catalogue, or ``cldr``; `code` is
the CLDR's, null elsewhere. White space is made single spaces, keyboard marks (``_Open``) are removed.

Splits are by a hash of the English phrase without case, digits, punctuation and placeholders: train 80 %, validation
10 %, test 10 %. So a phrase and its translations into all languages are in one split, and so is a thing of the CLDR. A
row is dropped if one of its two texts came up in another split before, in whatever language and on whichever side: no
text is in two splits, not even in other dress. Phrases that differ in a word are different phrases.

Options: `languages`, by the CLDR's names (``["de", "zh_Hant"]``; pt is Brazilian); `identical`, keep what is called the
same in English (``Berlin``), which else is dropped as untranslated; `into_english`, the other direction in
`translation` and `pairs`.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stillroom.data import cldr_names
from stillroom.data.cache import build_once, fingerprint
from stillroom.data.parallel.gettext_files import catalogues, messages
from stillroom.data.progress import patient_bar
from stillroom.data.tables import BATCH, TableWriter, part_of, read_table, sample
from stillroom.errors import UserError, nearest

if TYPE_CHECKING:
    from datasets import Dataset, Features

VIEWS = {"translation": "completion", "pairs": "pair", "monolingual": "text", "tuples": None}
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
SPLITS = tuple(SHARES)
LANGUAGES = ("de", "es", "fr", "it", "ja", "ko", "pl", "ru", "sv", "tr", "uk", "zh")
LONGEST = 300
"""Characters that either side may have; what is longer is mostly a manual or a licence."""

_VERSION = 1  # of what is read and how it is cleaned; a change makes what is in the cache stale

Row = dict[str, Any]


def load(
    view: str,
    split: str,
    limit: int | None,
    seed: int,
    *,
    languages: Sequence[str] = LANGUAGES,
    identical: bool = False,
    into_english: bool = False,
) -> Dataset:
    """``limit`` rows of a view of one split, drawn with ``seed``, or all; the options are described above."""
    source = Source(languages, identical)
    if view == "pairs":
        renamed = _TURNED if into_english else _AS_PAIRS
        found = read_table(_pairs(source) / f"{split}.arrow").rename_columns(renamed)
    else:
        found = read_table(_view(view, source, into_english) / f"{split}.arrow")
    return sample(found, limit, seed)


def report(languages: Sequence[str] = LANGUAGES, identical: bool = False) -> dict[str, Any]:
    """What became of the texts.

    Returns:
        ``splits`` and ``languages``: pairs of texts kept in each; ``kinds``: of each kind; ``dropped``: reason -> how
        many pairs were left out for it; ``unreadable``: catalogues that are damaged or in no encoding.
    """
    return json.loads((_pairs(Source(languages, identical)) / "report.json").read_text())


class Source:
    """Which languages are meant, beside English, and whether names that are the same in both are kept.

    Raises:
        UserError: nothing is known of a language, or there is nothing to read at all.
    """

    def __init__(self, languages: Sequence[str], identical: bool) -> None:
        if isinstance(languages, str) or not languages:
            raise UserError("'languages' is a list of at least one language, for instance ['de', 'fr']")
        self.languages = tuple(sorted(set(languages)))
        self.identical = identical
        self.named = cldr_names.languages()
        self.catalogues = {language: catalogues(language) for language in self.languages}
        if not self.named and not any(self.catalogues.values()):
            raise UserError(
                f"this needs translations, and there are none in {cldr_names.folder()} nor in gettext's catalogues; "
                "on Debian: apt install unicode-cldr-core"
            )
        for language in self.languages:
            if language == "en":
                raise UserError("English is one side of every pair; name other languages")
            if language not in self.named and not self.catalogues[language]:
                raise UserError(f"there is nothing in the language {language!r}{nearest(language, self.named)}")

    @property
    def fingerprint(self) -> str:
        """Changes with the files that are read, and this loader."""
        paths = [item.path for found in self.catalogues.values() for item in found]
        paths += [cldr_names.path(language) for language in ("en", *self.languages) if language in self.named]
        files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        return fingerprint(_VERSION, self.languages, self.identical, files)


def _pairs(source: Source) -> Path:
    return build_once("parallel/rows", source.fingerprint, partial(_build, source))


def _build(source: Source, folder: Path) -> None:
    folder.mkdir()
    counts = {part: Counter[str]() for part in ("splits", "languages", "kinds", "dropped", "unreadable")}
    home = dict[str, str]()
    with ExitStack() as stack:
        tick = stack.enter_context(patient_bar("reading translations"))
        schema = _features("rows").arrow_schema
        tables = {name: stack.enter_context(TableWriter(folder / f"{name}.arrow", schema)) for name in SPLITS}
        for done, language in enumerate(source.languages):
            tick(done, len(source.languages))
            seen = set[tuple[str, str]]()
            for found in _found(source, language, counts["unreadable"]):
                english, other = _cleaned(found.english, found.other)
                reason = _unfit(found, english, other, source.identical)
                if (english, other) in seen:
                    reason = "repeated"
                keys = ("", "") if reason else (key(english), key(other))
                split = part_of(keys[0], SHARES, salt="parallel")
                if not reason:
                    reason = _crossing(keys, split, home)
                if reason:
                    counts["dropped"][reason] += 1
                    continue
                seen.add((english, other))
                home.update(dict.fromkeys(keys, split))
                row = {"id": f"{language}-{fingerprint(english, other)}", "source": english, "target": other}
                row |= {"source_language": "en", "target_language": language}
                tables[split].add(row | {"kind": found.kind, "domain": found.domain, "code": found.code})
                for part, value in (("splits", split), ("languages", language), ("kinds", found.kind)):
                    counts[part][value] += 1
    (folder / "report.json").write_text(json.dumps(counts, indent=1, sort_keys=True))


def _crossing(keys: tuple[str, str], split: str, home: Mapping[str, str]) -> str:
    """Why a pair may not be in the split of its English text, or ""."""
    if not all(keys):
        return "no words"
    return "" if all(home.get(text, split) == split for text in keys) else "a text of another split"


class _Found(NamedTuple):
    english: str
    other: str
    kind: str
    domain: str
    code: str | None


# Catalogues of the package iso-codes hold names of the things that these standards number.
_ISO = {"iso_3166-2": "subdivision", "iso_3166": "territory", "iso_639": "language", "iso_15924": "script"}
_ISO |= {"iso_4217": "currency"}


def _found(source: Source, language: str, unreadable: Counter[str]) -> Iterator[_Found]:
    if language in source.named:
        english, other = cldr_names.names("en"), cldr_names.names(language)
        for place, name in english.items():
            if place in other:
                yield _Found(name, other[place], *(place[0], "cldr", place[1]))
    for item in source.catalogues[language]:
        domain = item.domain.replace("iso_3166_2", "iso_3166-2")
        kind = next((kind for start, kind in _ISO.items() if domain.startswith(start)), "message")
        try:
            for one, translated in messages(item.path):
                yield _Found(one, translated, kind, item.domain, None)
        except ValueError:
            unreadable[f"{language} {item.domain}"] += 1


# --- what is text ---

_PLACEHOLDER = re.compile(
    r"%(?:\(\w+\)|\d+\$)?[-+#0']*(?:\d+|\*)?(?:\.(?:\d+|\*))?(?:hh?|ll?|[zjtL])?[diouxXeEfFgGcspm%]"
    r"|\$?\{\w*(?:![rs])?(?::[^{}]*)?\}|\$\w+|</?[^<>]+>|&#?\w+;"
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_COLUMNS = re.compile(r"\t|[^\s.!?:。] {2,}\S|\n\s*\n|\n {2,}")
_KEY_BEFORE = re.compile(r"(?<!\w)_(?=[^\W_])")
_KEY_BEHIND = re.compile(r"\s*\(_\w\)")


def key(text: str) -> str:
    """What tells texts apart when they are divided into splits: letters and their marks, in lower case."""
    words = _PLACEHOLDER.sub(" ", unicodedata.normalize("NFKC", text)).casefold().translate(_blanks())
    return " ".join(words.split())


@cache
def _blanks() -> dict[int, str]:
    """A space for every number, sign of punctuation, symbol and control."""
    codes = range(sys.maxunicode + 1)
    return {code: " " for code in codes if unicodedata.category(chr(code)) not in _LETTERS}


_LETTERS = ("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Cn", "Co", "Cs")


def _cleaned(english: str, other: str) -> tuple[str, str]:
    """Both on one line, without the mark of a key on the keyboard, which is one underscore before its letter."""
    if english.count("_") == 1 and other.count("_") <= 1 and _KEY_BEFORE.search(english):
        english, other = (_KEY_BEHIND.sub("", text).replace("_", "") for text in (english, other))
    return " ".join(english.split()), " ".join(unicodedata.normalize("NFC", other).split())


def _unfit(found: _Found, english: str, other: str, identical: bool) -> str:
    """Why a pair is no translation of a text, or ""."""
    if not other:
        return "empty"
    if not _WORD.search(_PLACEHOLDER.sub(" ", english)):
        return "no words"
    if english == other and not identical:
        return "untranslated"
    if max(len(english), len(other)) > LONGEST:
        return "too long"
    if _COLUMNS.search(found.english.strip()):
        return "set in columns or paragraphs"
    return ""


# --- views ---


def _view(view: str, source: Source, into_english: bool) -> Path:
    def build(target: Path) -> None:
        target.mkdir()
        schema = _features(view).arrow_schema
        for split in SPLITS:
            with TableWriter(target / f"{split}.arrow", schema) as table:
                for row in _MADE[view](_turned(read_table(rows / f"{split}.arrow"), into_english)):
                    table.add(row)

    rows = _pairs(source)
    return build_once(f"parallel/{view}", fingerprint(source.fingerprint, into_english), build)


def _turned(rows: Dataset, into_english: bool) -> Iterator[Row]:
    for row in chain.from_iterable(batch.to_pylist() for batch in rows.with_format("arrow").iter(BATCH)):
        if into_english:
            row["source"], row["target"] = row["target"], row["source"]
            row["source_language"], row["target_language"] = row["target_language"], row["source_language"]
        yield row


def _translation(rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        asked = f"{row['source_language']} > {row['target_language']}: {row['source']}\n"
        yield {**row, "prompt": asked, "completion": row["target"]}


def _monolingual(rows: Iterator[Row]) -> Iterator[Row]:
    seen = set[str]()
    for row in rows:
        for side in ("source", "target"):
            text, language = row[side], row[f"{side}_language"]
            identity = f"{language}-{fingerprint(text)}"
            if identity not in seen:
                seen.add(identity)
                yield {"id": identity, "text": text, "language": language}


def _tuples(rows: Iterator[Row]) -> Iterator[Row]:
    """The first row that names a phrase says of what kind it is, and the first translation into a language is kept."""
    phrases = dict[str, Row]()
    for row in rows:
        english = 0 if row["source_language"] == "en" else 1
        sides = [(row["source_language"], row["source"]), (row["target_language"], row["target"])]
        (_, phrase), (language, text) = sides[english], sides[1 - english]
        known = phrases.setdefault(phrase, {"texts": {"en": phrase}, **{name: row[name] for name in _ABOUT}})
        known["texts"].setdefault(language, text)
    for phrase, known in phrases.items():
        texts = [{"language": language, "text": text} for language, text in known["texts"].items()]
        yield {**known, "id": fingerprint(phrase), "texts": texts}


_AS_PAIRS = {"source": "anchor", "target": "positive"}
_TURNED = {"source": "positive", "target": "anchor", "source_language": "target_language"}
_TURNED["target_language"] = "source_language"
_ABOUT = ("kind", "domain", "code")
_COLUMNS_OF = {
    "rows": ("source", "target", "source_language", "target_language", *_ABOUT),
    "translation": ("prompt", "completion", "source", "target", "source_language", "target_language", *_ABOUT),
    "monolingual": ("text", "language"),
    "tuples": ("texts", *_ABOUT),
}
_MADE: Mapping[str, Callable[[Iterator[Row]], Iterator[Row]]] = {
    "translation": _translation,
    "monolingual": _monolingual,
    "tuples": _tuples,
}


def _features(view: str) -> Features:
    import datasets

    text = datasets.Value("string")
    texts = datasets.List({"language": text, "text": text})
    return datasets.Features({name: texts if name == "texts" else text for name in ("id", *_COLUMNS_OF[view])})
