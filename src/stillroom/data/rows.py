"""The formats that users' rows come in, and what is said about a row that does not fit.

| format           | columns                                                                    |
|------------------|----------------------------------------------------------------------------|
| `text`           | text                                                                       |
| `completion`     | prompt, completion                                                         |
| `chat`           | messages: a list of {role, content}                                        |
| `preference`     | prompt, chosen, rejected: two answers, the better one first                |
| `pair`           | anchor, positive                                                           |
| `triple`         | anchor, positive, negative (a text or a list of texts)                     |
| `labelled-text`  | text, label (the name of a class, or its number from 0)                    |
| `tagged`         | tokens: a list of words; tags: the number of each one's class, 0 for none |
| `labelled-image` | image (a file, its bytes, or numbers [height][width] or [channel][height][width]), label |
| `class`          | label alone: what a model that makes pictures is asked for; never recognised, only named |
| `any`            | whatever there is: seeds that steps of synthesis make rows of; never recognised, only named |
| `transcribed-audio` | audio (numbers in [-1, 1], or a sound file), text; sampling_rate if there are numbers |
| `node`           | node: its number in a graph, from 0                                        |
| `labelled-node`  | node, label                                                                |
| `link`           | source, target: two nodes that are joined                                  |
| `image-text`     | image, text (its caption)                                                  |
| `segmented-image` | image, mask (each pixel's class from 0, as an image or numbers [height][width]; 255: none) |

Every row may carry an `id` and any other columns; they are kept. Checks are plain functions, not models, because a
corpus is checked row by row: a hundred thousand rows take about a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from stillroom.data.cache import fingerprint
from stillroom.errors import UserError, nearest

Row = Mapping[str, Any]
ROLES = ("system", "user", "assistant", "tool")


def recognise(columns: Iterable[str]) -> str:
    """The format that these columns make.

    Where two fit, the one that uses more of the columns is meant: text and label are `labelled-text`, not `text`. An
    image with a label is `labelled-image`, whether it has a mask or not.

    Raises:
        UserError: no format fits, or two fit and neither holds the other.
    """
    have = list(columns)
    fits = {name: set(needed) for name, needed in FORMATS.items() if name not in NAMED and set(needed) <= set(have)}
    best = [name for name, needed in fits.items() if not any(needed < other for other in fits.values())]
    best = [name for name in best if _GIVES_WAY.get(name) not in best]
    if len(best) == 1:
        return best[0]
    if best:
        raise UserError(f"the columns {_listed(have)} fit the formats {' and '.join(best)}; name one with 'format'")
    known = "; ".join(f"{name} ({', '.join(needed)})" for name, needed in FORMATS.items() if name not in NAMED)
    raise UserError(f"the columns {_listed(have)} make none of the formats: {known}")


def check(
    row: Any, format: str, where: str, *, classes: Sequence[str] | None = None, prompt_only: bool = False
) -> None:
    """Refuse a row that is not of this format.

    Args:
        row: a mapping of column to value.
        format: a name of the table above.
        where: how to call the row in the message: ``chat.jsonl line 17``.
        classes: the names of the classes, for labelled formats; without them any name or number is a label.
        prompt_only: the answer is still to be written: `chat` must then not end with the assistant, and `completion`
            needs only the prompt.

    Raises:
        UserError: where, what was expected, what was found.
    """
    if format not in FORMATS:
        raise UserError(f"there is no format {format!r}{nearest(format, FORMATS)}; formats: {', '.join(FORMATS)}")
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: a row must be an object with named columns; found {describe(row)}")
    for column in FORMATS[format]:
        if column == "completion" and prompt_only:
            continue
        if row.get(column) is None:
            have = [name for name, value in row.items() if value is not None]
            near = nearest(column, set(have) - set(FORMATS[format]))
            raise UserError(f"{where}: {column!r} is missing{near} (found {_listed(have)})")
        _CHECKS[column](row[column], column, where)
    if format == "chat":
        _check_turns(row["messages"], where, prompt_only)
    if format == "preference" and row["chosen"] == row["rejected"]:
        raise UserError(f"{where}: 'chosen' and 'rejected' are the same, so nothing is preferred; leave the row out")
    if format == "tagged" and len(row["tokens"]) != len(row["tags"]):
        raise UserError(
            f"{where}: there are {len(row['tokens'])} tokens and {len(row['tags'])} tags; there must be as many"
        )
    if classes is not None and "label" in FORMATS[format]:
        _check_class(row["label"], classes, where)


def chosen_alone(dataset: Any) -> Any:
    """Rows of the format `preference` as rows of the format `completion`, with the answer that is preferred.

    What can't learn from comparing answers can learn from the better ones. Rows of other formats are given as they are.
    """
    names = dataset.column_names
    if not set(FORMATS["preference"]) <= set(names) or "completion" in names:
        return dataset
    return dataset.remove_columns("rejected").rename_column("chosen", "completion")


def row_id(row: Row) -> str:
    """The row's own id as text, or 16 hex digits of its content.

    Null columns don't count, so that a row has the same id before and after it went through a table.
    """
    own = row.get("id")
    return fingerprint(_without_nulls(row)) if own is None else str(own)


def describe(value: Any) -> str:
    """A value's kind in plain words, for messages."""
    if value is None:
        return "nothing"
    for kind, words in _KINDS:
        if isinstance(value, kind):
            return words
    return f"a {type(value).__name__}"


_KINDS: list[tuple[Any, str]] = [
    (str, "a string"),
    (bool, "true or false"),
    ((int, float), "a number"),
    (Mapping, "an object"),
    ((list, tuple), "a list"),
    (bytes, "bytes"),
]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "no columns"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    if isinstance(value, (list, tuple)):
        return [_without_nulls(part) for part in value]
    return value


def _check_string(value: Any, column: str, where: str) -> None:
    if not isinstance(value, str):
        raise UserError(f"{where}: {column!r} must be a string; found {describe(value)}")
    if not value.strip():
        raise UserError(f"{where}: {column!r} is empty")


def _check_strings(value: Any, column: str, where: str) -> None:
    if isinstance(value, str):
        return _check_string(value, column, where)
    if not isinstance(value, list):
        raise UserError(f"{where}: {column!r} must be a string or a list of strings; found {describe(value)}")
    if not value:
        raise UserError(f"{where}: {column!r} is an empty list")
    for number, part in enumerate(value, 1):
        _check_string(part, column, f"{where}, {column} {number}")


def _check_words(value: Any, column: str, where: str) -> None:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        raise UserError(f"{where}: {column!r} must be a list of words; found {describe(value)}")


def _check_tags(value: Any, column: str, where: str) -> None:
    right = isinstance(value, list) and all(isinstance(tag, int) and not isinstance(tag, bool) for tag in value)
    if not right or min(value, default=0) < 0:
        raise UserError(f"{where}: {column!r} must be a list with the number of each word's class, from 0")


def _check_messages(value: Any, column: str, where: str) -> None:
    if not isinstance(value, list):
        raise UserError(f"{where}: {column!r} must be a list of {{role, content}}; found {describe(value)}")
    if not value:
        raise UserError(f"{where}: {column!r} is an empty list")
    for number, message in enumerate(value, 1):
        place = f"{where}, message {number}"
        if not isinstance(message, Mapping):
            raise UserError(f"{place}: a message must be {{role, content}}; found {describe(message)}")
        role = message.get("role")
        if role not in ROLES:
            found = repr(role) if isinstance(role, str) else describe(role)
            near = nearest(role, ROLES) if isinstance(role, str) else ""
            raise UserError(f"{place}: 'role' must be one of {', '.join(ROLES)}; found {found}{near}")
        if message.get("content") is None and message.get("tool_calls"):
            continue
        if not isinstance(message.get("content"), str):
            raise UserError(f"{place}: 'content' must be a string; found {describe(message.get('content'))}")


def _check_turns(messages: Sequence[Row], where: str, prompt_only: bool) -> None:
    last = messages[-1]["role"]
    if prompt_only and last == "assistant":
        raise UserError(f"{where}: the last message must not be the assistant's, because its answer is to be written")
    if not prompt_only and last != "assistant":
        raise UserError(f"{where}: the last message must be the assistant's, the one to learn from; it is the {last}'s")
    if not (prompt_only or messages[-1].get("content") or messages[-1].get("tool_calls")):
        raise UserError(f"{where}: the last message is empty, so there is nothing to learn from")


def _check_label(value: Any, column: str, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise UserError(f"{where}: {column!r} must be the name or number of a class; found {describe(value)}")
    if isinstance(value, int) and value < 0:
        raise UserError(f"{where}: {column!r} must be the number of a class, from 0; found {value}")


def _check_class(label: str | int, classes: Sequence[str], where: str) -> None:
    if isinstance(label, int):
        if not 0 <= label < len(classes):
            raise UserError(f"{where}: label {label} is not the number of a class, 0 to {len(classes) - 1}")
    elif label not in classes:
        shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise UserError(f"{where}: label {label!r} is none of the classes {shown}{nearest(label, classes)}")


def _check_audio(value: Any, column: str, where: str) -> None:
    numbers = hasattr(value, "tobytes") or (
        isinstance(value, list) and bool(value) and isinstance(value[0], int | float)
    )
    if not (numbers or isinstance(value, str)):
        raise UserError(f"{where}: {column!r} must be numbers in [-1, 1] or a sound file; found {describe(value)}")


def _check_node(value: Any, column: str, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        found = value if isinstance(value, int) and not isinstance(value, bool) else describe(value)
        raise UserError(f"{where}: {column!r} must be the number of a node, from 0; found {found}")


def _check_image(value: Any, column: str, where: str) -> None:
    numbers = isinstance(value, list) and bool(value) and isinstance(value[0], list)
    stored = isinstance(value, Mapping) and {"bytes", "path"} <= set(value)
    decoded = hasattr(value, "tobytes")
    if not (isinstance(value, (str, bytes)) or numbers or stored or decoded):
        raise UserError(
            f"{where}: {column!r} must be a file, an image's bytes or rows of numbers; found {describe(value)}"
        )


FORMATS: dict[str, tuple[str, ...]] = {
    "text": ("text",),
    "completion": ("prompt", "completion"),
    "chat": ("messages",),
    "preference": ("prompt", "chosen", "rejected"),
    "pair": ("anchor", "positive"),
    "triple": ("anchor", "positive", "negative"),
    "labelled-text": ("text", "label"),
    "tagged": ("tokens", "tags"),
    "labelled-image": ("image", "label"),
    "class": ("label",),
    "any": (),
    "transcribed-audio": ("audio", "text"),
    "node": ("node",),
    "labelled-node": ("node", "label"),
    "link": ("source", "target"),
    "image-text": ("image", "text"),
    "segmented-image": ("image", "mask"),
}

NAMED = ("any", "class")  # formats that are never recognised, since columns of other meaning would fit them
_GIVES_WAY = {"segmented-image": "labelled-image", "link": "completion"}  # format -> the one meant where both fit

_CHECKS: dict[str, Callable[[Any, str, str], None]] = {
    "text": _check_string,
    "prompt": _check_string,
    "completion": _check_string,
    "chosen": _check_string,
    "rejected": _check_string,
    "messages": _check_messages,
    "anchor": _check_string,
    "positive": _check_string,
    "negative": _check_strings,
    "label": _check_label,
    "image": _check_image,
    "audio": _check_audio,
    "node": _check_node,
    "source": _check_node,
    "target": _check_node,
    "tokens": _check_words,
    "tags": _check_tags,
    "mask": _check_image,
}
