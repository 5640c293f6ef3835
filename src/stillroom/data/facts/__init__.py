"""`facts`: countries, languages, currencies, regions and cities, from the Unicode CLDR (Debian's `unicode-cldr-core`).

| view         | columns, besides `id`                                                                         |
|--------------|-----------------------------------------------------------------------------------------------|
| `triples`    | subject, subject_type, subject_label, relation, object, object_type, object_label, share      |
| `questions`  | question, sql, form, answers, skeleton, kind, wording, canonical, answer_type, entities, countries |
| `completion` | prompt: the question; completion: the SQL                                                     |
| `logical`    | prompt: the question; completion: the logical form                                            |
| `answers`    | prompt: the question; completion: the answer in words                                         |
| `passages`   | text about one country; country, name; sentences, and for each the ids of the triples it states |
| `pairs`      | anchor: a question; positive: the passage that answers it; country, skeleton                  |

`share` is the percent of a country's people who speak a language. Objects that are numbers or texts are their own
labels. `wording` is the number of the paraphrase and `canonical` the first one. `completion`, `logical`, `answers` keep
`skeleton`, `wording` and `answers`. SQL and logical forms name things in English whatever the language of the question.

Splits are by country (a hash of its code): train 70 %, validation 15 %, test 15 %. No country is named, answered with
or passed through in two splits; facts and questions without one (the script of a language) go by the hash of what they
are about. `by="skeleton"` holds out kinds of questions instead, `by="triple"` single triples, to complete a graph.
What is known of the world is that of the CLDR's edition: about 247 countries, no borders and no capitals.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.data import cldr
from stillroom.data.cache import build_once, fingerprint
from stillroom.data.facts.passages import passage
from stillroom.data.facts.skeletons import SHARES, SKELETONS, checked, split_of
from stillroom.data.facts.wordings import LANGUAGES, QUESTIONS, YES_NO, in_sentence, sentence
from stillroom.data.facts.world import database, plain, schema, triples
from stillroom.data.progress import patient_bar
from stillroom.data.tables import part_of, read_table, sample, write_table
from stillroom.errors import UserError, nearest
from stillroom.verify.sql import execute, same_answer

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["database", "execute", "load", "questions", "same_answer", "schema", "triples"]

VIEWS = {
    "completion": "completion",
    "logical": "completion",
    "answers": "completion",
    "pairs": "pair",
    "passages": "text",
    "questions": None,
    "triples": None,
}
SPLITS = tuple(SHARES)
HELD_OUT = {
    "validation": ("literacy", "city_languages", "within", "count_by_language"),
    "test": ("code", "richer", "city_currency", "count_above", "richest_by_language"),
}
"""The skeletons that ``by="skeleton"`` keeps out of training."""

_VERSION = 1  # of the views; a change makes what is in the cache stale


def load(
    view: str,
    split: str,
    limit: int | None,
    seed: int,
    *,
    language: str = "en",
    by: str = "country",
    labels: Sequence[str] = (),
) -> Dataset:
    """``limit`` rows of a view of one split, drawn with ``seed``, or all.

    Args:
        view: one of the table above.
        split: ``train``, ``validation`` or ``test``.
        limit: at most so many.
        seed: of the draw.
        language: of questions and passages: ``en`` (four wordings), ``de``, ``fr`` or ``es`` (two).
        by: what must not cross between splits: ``country``; ``skeleton``, of views of questions; or ``triple``.
        labels: further languages, any of the CLDR's: `triples` gets columns ``subject_de`` and ``object_de`` for each,
            null where the CLDR has no name.

    Raises:
        UserError: an option that does not fit, or the CLDR is not installed.
    """
    if language not in LANGUAGES:
        raise UserError(f"facts are told in {', '.join(LANGUAGES)}, not in {language!r}{nearest(language, LANGUAGES)}")
    fitting = ("country", *(["triple"] if view == "triples" else []), *(["skeleton"] if view in _ASKED else []))
    if by not in fitting:
        raise UserError(f"the view {view!r} is split by {' or '.join(fitting)}, not by {by!r}{nearest(by, fitting)}")
    labels = (labels,) if isinstance(labels, str) else tuple(labels)
    if labels and view != "triples":
        raise UserError(f"only the view 'triples' has labels in further languages; {view!r} has 'language'")
    import pyarrow as pa

    def build(target: Path) -> None:
        rows = (row for row in _ROWS[view](language, by, labels) if row.pop("split") == split)
        write_table(target, rows, pa.schema(_columns(view, labels)))

    edition = cldr.edition(language, *labels)
    key = fingerprint(_VERSION, edition, view, split, language, by, labels)
    return sample(read_table(build_once(f"facts/{view}", key, build)), limit, seed)


def questions() -> list[dict[str, Any]]:
    """All questions, in no language yet; see `stillroom.data.questions.checked`. Built once into the cache folder."""

    def build(target: Path) -> None:
        with patient_bar("asking questions about the world") as bar:
            target.write_text(json.dumps(list(checked(bar))))

    return json.loads(build_once("facts/asked", fingerprint(_VERSION, cldr.edition()), build).read_text())


class _Labels:
    """Names in a language; in English, as the database has them, where it has none."""

    def __init__(self, language: str) -> None:
        self._english = cldr.world().names
        self._own = self._english if language == "en" else cldr.names(language)

    def own(self, kind: str, key: str) -> str | None:
        """The name in the language, or None. Numbers and texts are their own names."""
        return self._own[kind].get(key) if kind in self._own else key

    def __call__(self, kind: str, key: str) -> str:
        return self.own(kind, key) or self._english[kind][key]


def _triple_rows(_: str, by: str, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    english = _Labels("en")
    others = {language: _Labels(language) for language in labels}
    for found in triples():
        row: dict[str, Any] = {"id": found.id, **found._asdict()}
        ends = {"subject": (found.subject_type, found.subject), "object": (found.object_type, found.object)}
        for end, (kind, key) in ends.items():
            row[f"{end}_label"] = english(kind, key)
            row.update({f"{end}_{language}": names.own(kind, key) for language, names in others.items()})
        if by == "triple":
            split = part_of(found.id, SHARES, salt="triple")
        elif found.subject_type == "country":
            split = split_of(found.subject)
        else:
            split = part_of(found.subject, SHARES, salt="thing")
        yield {**row, "split": split}


def _question_rows(language: str, by: str, _: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    label = _Labels(language)
    held_out = {name: split for split, names in HELD_OUT.items() for name in names}
    for found in questions():
        names = {slot: _in_question(slot, key, language, label) for slot, key in found["slots"].items()}
        told = [sentence(template, names) for template in QUESTIONS[found["skeleton"]][language]]
        entities = [f"{_kind(slot)}:{key}" for slot, key in found["slots"].items() if slot != "number"]
        kept = {name: found[name] for name in ("sql", "form", "skeleton", "kind", "answer_type", "countries")}
        answers = [_in_words(value, found["answer_type"], language, label) for value in found["answers"]]
        for wording, question in enumerate(told):
            yield {
                **kept,
                "id": f"{found['id']}-{language}-{wording}",
                "question": question,
                "canonical": told[0],
                "wording": wording,
                "answers": answers,
                "entities": entities,
                "split": found["split"] if by == "country" else held_out.get(found["skeleton"], "train"),
            }


def _kind(slot: str) -> str:
    return "country" if slot == "other" else slot


def _in_question(slot: str, key: str, language: str, label: _Labels) -> str:
    name = key if slot == "number" else label(_kind(slot), key)
    return in_sentence(name, language, key) if _kind(slot) in ("country", "region") else name


def _in_words(value: Any, kind: str, language: str, label: _Labels) -> str:
    if kind == "truth":
        return YES_NO[language][0 if value else 1]
    return plain(value) if kind in ("number", "text") else label(kind, value)


def _completion_rows(completion: Callable[[Mapping[str, Any]], str]) -> Callable[..., Iterator[dict[str, Any]]]:
    def rows(language: str, by: str, _: Sequence[str]) -> Iterator[dict[str, Any]]:
        for row in _question_rows(language, by):
            kept = {name: row[name] for name in ("id", "skeleton", "wording", "answers", "split")}
            yield {**kept, "prompt": row["question"], "completion": completion(row)}

    return rows


def _passage_rows(language: str, _: str = "country", __: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    label = _Labels(language)
    for key, *_rest in cldr.world().tables["countries"]:
        said = passage(key, language, label)
        yield {
            "id": f"{key}-{language}",
            "text": " ".join(part.text for part in said),
            "country": key,
            "name": label("country", key),
            "sentences": [part.text for part in said],
            "triples": [list(part.triples) for part in said],
            "split": split_of(key),
        }


# A question of these skeletons is answered by the passage about the one country that it rests on.
_IN_A_PASSAGE = ("population", "literacy", "code", "currency", "official_languages", "main_language", "region")


def _pair_rows(language: str, _: str, __: Sequence[str]) -> Iterator[dict[str, Any]]:
    texts = {row["country"]: row["text"] for row in _passage_rows(language)}
    for row in _question_rows(language, "country"):
        if row["skeleton"] in _IN_A_PASSAGE:
            country = row["countries"][0]
            kept = {name: row[name] for name in ("id", "skeleton", "split")}
            yield {**kept, "anchor": row["question"], "positive": texts[country], "country": country}


_ASKED = ("completion", "logical", "answers", "questions")
_ROWS: dict[str, Callable[[str, str, Sequence[str]], Iterator[dict[str, Any]]]] = {
    "completion": _completion_rows(lambda row: row["sql"]),
    "logical": _completion_rows(lambda row: row["form"]),
    "answers": _completion_rows(lambda row: ", ".join(row["answers"])),
    "pairs": _pair_rows,
    "passages": _passage_rows,
    "questions": _question_rows,
    "triples": _triple_rows,
}


def _columns(view: str, labels: Sequence[str]) -> list[tuple[str, Any]]:
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    if view == "triples":
        ends = [f"{end}_{part}" for end in ("subject", "object") for part in ("type", "label", *labels)]
        names = ["id", "subject", "relation", "object", *ends]
        return [*((name, text) for name in names), ("share", pa.float64())]
    columns = {
        "pairs": [(name, text) for name in ("id", "anchor", "positive", "country", "skeleton")],
        "passages": [
            *((name, text) for name in ("id", "text", "country", "name")),
            ("sentences", texts),
            ("triples", pa.list_(texts)),
        ],
        "questions": [
            *((name, text) for name in ("id", "question", "sql", "form", "skeleton", "kind", "canonical")),
            *(("answer_type", text), ("wording", pa.int64())),
            *((name, texts) for name in ("answers", "entities", "countries")),
        ],
    }
    asked = [*((name, text) for name in ("id", "prompt", "completion", "skeleton")), ("wording", pa.int64())]
    return columns.get(view, [*asked, ("answers", texts)])


if set(SKELETONS) != set(QUESTIONS):
    raise AssertionError("every skeleton has wordings, and no other")
