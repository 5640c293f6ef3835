"""A reply's text to checked fields, or the reason why not. Replies are data: they are parsed, never evaluated.

The reasons are few, so that they can be counted: `EMPTY`, `TRUNCATED`, `REPEATS`, `NOT_JSON`, `WRONG_FIELDS`; what
exactly was wrong is the failure's detail. A failure keeps the reply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from stillroom.synthesis.account import Outcome, accounted
from stillroom.synthesis.columns import beside, each_row, free, require
from stillroom.synthesis.rejects import Rejects

if TYPE_CHECKING:
    from datasets import Dataset

EMPTY, TRUNCATED, REPEATS = "empty", "truncated", "repeats the prompt"
NOT_JSON, WRONG_FIELDS, EMPTY_LIST = "not JSON", "wrong fields", "an empty list"

M = TypeVar("M", bound=BaseModel)
_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
_ECHO = 20  # characters; a shorter text may begin a reply by chance
_TRIES = 200  # places at which an object may begin; a reply of brackets alone shall not cost minutes


@dataclass(frozen=True)
class Unparsed:
    """A reply that is not what was asked for.

    Attributes:
        reason: one of this module's reasons.
        detail: what exactly, in a few words.
        reply: the text as it came.
    """

    reason: str
    detail: str
    reply: str


def plain(reply: str, *, finish_reason: str | None = None, asked: Sequence[str] = ()) -> str | Unparsed:
    """The text of a reply without the space around it, unless it is empty, cut off or an echo.

    Args:
        reply: as it came.
        finish_reason: as the server says it; ``length`` for an answer that was cut off.
        asked: the texts of the prompt's turns.
    """
    text = reply.strip()
    if finish_reason == "length":
        return Unparsed(TRUNCATED, "the answer reached its longest length", reply)
    if not text:
        return Unparsed(EMPTY, "", reply)
    if echoes(text, asked):
        return Unparsed(REPEATS, "", reply)
    return text


def parse(reply: str, model: type[M], *, finish_reason: str | None = None, asked: Sequence[str] = ()) -> M | Unparsed:
    """The first JSON object of a reply that has the model's fields.

    Objects are looked for in fenced blocks, then in the whole text; words around them do no harm. A whole object counts
    even if the reply was cut off after it.

    Args:
        reply: as it came.
        model: the fields, their types and limits.
        finish_reason: as the server says it.
        asked: the texts of the prompt's turns.
    """
    return _parse(reply, TypeAdapter(model), "{", finish_reason, asked)


def parse_list(
    reply: str, model: type[M], *, finish_reason: str | None = None, asked: Sequence[str] = ()
) -> list[M] | Unparsed:
    """The first JSON list of a reply whose items all have the model's fields; see `parse`.

    A list that was cut off is `TRUNCATED` as a whole: what a model would have written next is often what makes the
    list balanced.
    """
    return _parse(reply, TypeAdapter(list[model]), "[", finish_reason, asked)  # type: ignore[valid-type]


def parse_rows(
    dataset: Dataset,
    model: type[BaseModel] | Any,
    *,
    column: str = "reply",
    rejects: str | Path | None = None,
    stage: str = "parse",
) -> Outcome:
    """Replies to columns, one for each field of the model.

    Args:
        dataset: rows with ``column`` and, as `stillroom.synthesis.generate.generate` makes it, ``{column}_call``.
        model: the fields. ``list[Model]`` for replies that are lists: each item becomes a row of its own, with the id
            ``id/0``, ``id/1``, ...; a reply with an empty list gives no row, and is counted as such.
        column: the replies' texts.
        rejects: file for the rows that can't be parsed, with reason and detail.
        stage: name in the account.

    Raises:
        UserError: there is no such column, or one that a field would make is there already.
    """
    items = get_origin(model) is list
    kind: type[BaseModel] = get_args(model)[0] if items else model
    fields = list(kind.model_fields)
    require(dataset, column)
    free(dataset, fields)
    places: list[int] = []
    ids: list[str] = []
    made: dict[str, list[Any]] = {name: [] for name in fields}
    with accounted(stage) as account, Rejects(rejects, stage) as aside:
        for place, row in enumerate(each_row(dataset)):
            account.rows += 1
            call = row.get(f"{column}_call") or {}
            about: dict[str, Any] = {"finish_reason": call.get("finish_reason"), "asked": call.get("asked") or ()}
            text = row[column] or ""
            found: Any = parse_list(text, kind, **about) if items else parse(text, kind, **about)
            if isinstance(found, Unparsed):
                account.rejected[found.reason] += 1
                aside.add(row, found.reason, found.detail)
                continue
            several = found if isinstance(found, list) else [found]
            if not several:
                account.rejected[EMPTY_LIST] += 1
                aside.add(row, EMPTY_LIST)
            account.added += max(len(several) - 1, 0)
            account.kept += len(several)
            for number, one in enumerate(several):
                places.append(place)
                ids.append(f"{row.get('id', place)}/{number}")
                values = one.model_dump(mode="json")
                for name in fields:
                    made[name].append(values[name])
    if items and "id" in dataset.column_names:
        return Outcome(beside(dataset.remove_columns(["id"]), places, {"id": ids, **made}), account)
    return Outcome(beside(dataset, places, made), account)


def echoes(reply: str, asked: Sequence[str]) -> bool:
    """Whether a reply begins with what was asked, or is the beginning of it. Case and white space don't matter.

    Only the beginning is looked at: a reply may well quote a question in the midst of an answer.
    """
    said = _flat(reply)
    texts = [_flat(text) for text in asked]
    for told in (*texts, " ".join(texts)):
        if len(told) >= _ECHO and (said.startswith(told) or (len(said) >= _ECHO and told.startswith(said))):
            return True
    return False


def _flat(text: str) -> str:
    return " ".join(text.casefold().split())


def _parse(
    reply: str, adapter: TypeAdapter[Any], opening: str, finish_reason: str | None, asked: Sequence[str]
) -> Any | Unparsed:
    text = reply.strip()
    if not text:
        return Unparsed(TRUNCATED if finish_reason == "length" else EMPTY, "no text", reply)
    if echoes(text, asked):
        return Unparsed(REPEATS, "", reply)
    wrong = ""
    try:
        for value in _values(text, opening):
            try:
                # As JSON, so that what JSON has no type for (a date, a tuple, an enum) is read from its text.
                return adapter.validate_json(json.dumps(value))
            except ValidationError as error:
                wrong = wrong or _told(error)
    except _CutOffError:
        return Unparsed(TRUNCATED, "the JSON has no end", reply)
    if finish_reason == "length":
        return Unparsed(TRUNCATED, "the answer reached its longest length", reply)
    if wrong:
        return Unparsed(WRONG_FIELDS, wrong, reply)
    return Unparsed(NOT_JSON, f"no JSON {'object' if opening == '{' else 'list'} in it", reply)


class _CutOffError(Exception):
    """A JSON value begins and the text ends before it does."""


def _values(text: str, opening: str) -> Iterator[Any]:
    """The JSON values that begin with ``opening``, those of fenced blocks first; not what lies inside another one."""
    cut_off = False
    for part in (*(match[1] for match in _FENCE.finditer(text)), text):
        try:
            yield from _values_of(part, opening)
        except _CutOffError:
            cut_off = True
    if cut_off:
        raise _CutOffError


def _values_of(text: str, opening: str) -> Iterator[Any]:
    text = text.rstrip()
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    place, tries = _next_bracket(text, 0), 0
    while place >= 0 and tries < _TRIES:
        tries += 1
        try:
            value, end = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            if error.pos >= len(text) or error.msg.startswith("Unterminated string"):
                raise _CutOffError from None
            end = place + 1
        except (ValueError, RecursionError):  # NaN, a number of thousands of digits, a thousand brackets in a row
            end = place + 1
        else:
            if text[place] == opening:
                yield value
            elif isinstance(value, list):
                yield from (item for item in value if isinstance(item, dict))
            elif len(lists := [part for part in value.values() if isinstance(part, list)]) == 1:
                yield lists[0]  # many models put a list that was asked for under a name
        place = _next_bracket(text, end)


def _next_bracket(text: str, start: int) -> int:
    places = [place for place in (text.find("{", start), text.find("[", start)) if place >= 0]
    return min(places, default=-1)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _told(error: ValidationError) -> str:
    """Which fields are wrong and how, in one line."""
    parts = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False)[:5]:
        where = ".".join(str(part) for part in fault["loc"]) or "the whole"
        parts.append(f"{where}: {fault['msg']}")
    return "; ".join(parts)
