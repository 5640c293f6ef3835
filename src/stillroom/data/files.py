"""`load`: rows from the user's files, a built-in source or the Hugging Face Hub, as one memory-mapped data set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from inspect import signature
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.data.intake import Want, checked_table
from stillroom.data.readers import READERS, Placed, read_rows
from stillroom.data.rows import row_id
from stillroom.data.tables import sample, split_rows
from stillroom.errors import UserError, nearest

if TYPE_CHECKING:
    from datasets import Dataset

Source = str | Path | Sequence[str | Path]

BUILT_IN = {
    "arithmetic": "stillroom.data.arithmetic",
    "digits": "stillroom.data.digits",
    "emoji": "stillroom.data.emoji",
    "facts": "stillroom.data.facts",
    "judgements": "stillroom.data.judgements",
    "parallel": "stillroom.data.parallel",
    "pydocs": "stillroom.data.pydocs",
    "speech": "stillroom.data.speech",
    "wordnet": "stillroom.data.wordnet",
    "words": "stillroom.data.words",
}
"""Name -> module. It has ``VIEWS`` (view -> row format, or None for rows that are not for training), of which the first
is the default; ``SPLITS``, likewise; and ``load(view, split, limit, seed, *, its own options)``."""

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def load(
    source: Source,
    *,
    view: str | None = None,
    split: str | None = None,
    format: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    group: str | None = None,
    classes: Sequence[str] | None = None,
    prompt_only: bool = False,
    **options: Any,
) -> Dataset:
    """Rows as a `datasets.Dataset`, checked, each with a string ``id``.

    Args:
        source: a `.jsonl`, `.json`, `.csv` or `.parquet` file, a glob of them or a list; a built-in source (see
            `BUILT_IN`); or the id of a data set on the hub, ``owner/name``, the one kind that needs a network.
        view: which rows of a built-in source (``chat``, ``pairs``, ...); its first view if not given.
        split: ``train``, ``validation`` or ``test``. Built-in sources and the hub have fixed splits and give ``train``
            if none is named. Files give all rows if none is named; else they are divided 80 : 10 : 10 by a hash of the
            rows' group, whatever the seed.
        format: one of the formats of `stillroom.data.rows`; recognised by the columns if not given.
        limit: at most that many rows, drawn with ``seed``.
        seed: of the draw, and of the rows where they are generated.
        group: the column whose values must not cross a split of files; each row is its own group if not given.
        classes: names of the classes, for labelled formats, in the order of their numbers. If not given, and labels are
            names, the names found, sorted.
        prompt_only: rows are questions whose answers are still to be written.
        options: further arguments of a built-in source (``packages`` and ``cap`` of pydocs).

    Returns:
        The rows with all their columns. Label names have become numbers (``features["label"].names`` holds the names);
        the negatives of a triple are always a list.

    Raises:
        UserError: what is missing or which row is wrong, where, and what was expected.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit must be at least 1; it is {limit}")
    if isinstance(source, str) and source in BUILT_IN:
        own = {name: value for name, value in (("group", group), ("classes", classes)) if value is not None}
        return _built_in(source, view, split, format, limit, seed, {**own, **options})
    if group is not None and split is None:
        raise UserError("'group' keeps rows together in a split; name the split too")
    if view is not None:
        raise UserError(f"only built-in sources have views; {source!r} is none of {', '.join(BUILT_IN)}")
    if options:
        raise UserError(f"only built-in sources have the option {next(iter(options))!r}; {source!r} is none")
    want = Want(format, tuple(classes) if classes is not None else None, prompt_only)
    if isinstance(source, str) and _is_hub_id(source):
        return sample(_from_hub(source, split or "train", want), limit, seed)
    dataset = _from_files(_paths(source), want)
    if split is not None:
        if split not in SHARES:
            raise UserError(f"there is no split {split!r}{nearest(split, SHARES)}; splits: {', '.join(SHARES)}")
        found = split_rows(dataset, group or "id", SHARES)[split]
        if not len(found):
            raise UserError(
                f"{split} gets none of {len(dataset)} rows, because there are few of them; name a file for it"
            )
        dataset = found
    return sample(dataset, limit, seed)


def _built_in(
    name: str,
    view: str | None,
    split: str | None,
    format: str | None,
    limit: int | None,
    seed: int,
    options: Mapping[str, Any],
) -> Dataset:
    source = import_module(BUILT_IN[name])
    view = view or next(iter(source.VIEWS))
    if view not in source.VIEWS:
        known = ", ".join(source.VIEWS)
        raise UserError(f"{name} has no view {view!r}{nearest(view, source.VIEWS)}; views: {known}")
    if format is not None and source.VIEWS[view] != format:
        fitting = [other for other, kind in source.VIEWS.items() if kind == format]
        way_out = f"use view {' or '.join(fitting)}" if fitting else "no view of it is"
        raise UserError(f"the view {view!r} of {name} is not of the format {format!r}; {way_out}")
    split = split or source.SPLITS[0]
    if split not in source.SPLITS:
        known = ", ".join(source.SPLITS)
        raise UserError(f"{name} has no split {split!r}{nearest(split, source.SPLITS)}; splits: {known}")
    known_options = [name for name, kind in signature(source.load).parameters.items() if kind.kind is kind.KEYWORD_ONLY]
    for option in options:
        if option not in known_options:
            has = f"it has {', '.join(known_options)}" if known_options else "it has none"
            raise UserError(f"{name} has no option {option!r}{nearest(option, known_options)} ({has})")
    return source.load(view, split, limit, seed, **options)


def _paths(source: Source) -> list[Path]:
    if not isinstance(source, (str, Path)):
        if not source:
            raise UserError("the list of data files is empty")
        return [path for part in source for path in _paths(part)]
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        raise UserError(f"{source} is a folder; name its files, for instance '{path / '*.jsonl'}'")
    if _is_pattern(str(path)):
        found = _matches(path)
        if not found:
            raise UserError(f"no file matches {source}")
        return found
    if not path.parent.is_dir():
        raise UserError(f"{source}: there is no folder {path.parent}")
    if path.suffix not in READERS and str(path) == path.name:
        raise UserError(
            f"{path.name!r} is neither a file, nor a built-in source ({', '.join(BUILT_IN)}), nor a hub id of the form "
            f"owner/name{nearest(path.name, BUILT_IN)}"
        )
    raise UserError(f"{source}: no such file{nearest(path.name, (item.name for item in path.parent.iterdir()))}")


def _is_pattern(name: str) -> bool:
    return any(mark in name for mark in "*?[")


def _matches(pattern: Path) -> list[Path]:
    fixed = list(takewhile(lambda part: not _is_pattern(part), pattern.parts))
    rest = pattern.parts[len(fixed) :]
    return sorted(path for path in Path(*fixed).glob("/".join(rest)) if path.is_file())


def _is_hub_id(source: str) -> bool:
    looks = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", source) is not None
    return looks and Path(source).suffix not in READERS and not Path(source).exists()


def _from_files(paths: list[Path], want: Want) -> Dataset:
    def stream() -> Iterator[Placed]:
        for path in paths:
            for where, row in read_rows(path):
                yield where, _with_whole_path(row, path.parent, where)

    state = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    name = paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more files"
    return checked_table(stream, state, want, name)


def _with_whole_path(row: Any, folder: Path, where: str) -> Any:
    """A row's picture, mask or sound is named as seen from the folder of its file; from here on by its whole path.

    The row's id is that of the row as it was written, so that it stays when the folder moves.
    """
    for column, beside in (("image", {"label", "text", "mask"}), ("mask", {"image"}), ("audio", {"text"})):
        if not (isinstance(row, dict) and beside & set(row) and isinstance(row.get(column), str)):
            continue
        path = (folder / row[column]).absolute()
        if not path.is_file():
            raise UserError(f"{where}: there is no {column} {row[column]!r} in {folder}")
        row = {**row, "id": row_id(row), column: str(path)}
    return row


def _from_hub(name: str, split: str, want: Want) -> Dataset:
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    try:
        found = datasets.load_dataset(name, split=split)
    except datasets.exceptions.DatasetNotFoundError:
        raise UserError(
            f"{name!r} is no file here, and the hub has no such data set or you may not read it (log in: hf auth login)"
        ) from None
    except (ConnectionError, TimeoutError, HfHubHTTPError) as error:
        raise UserError(
            f"the hub can't be reached to load {name!r} ({error}); local files and built-in sources need no network"
        ) from None
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
    for column, kind in found.features.items():
        if isinstance(kind, datasets.Image):
            found = found.cast_column(column, datasets.Image(decode=False))
        if isinstance(kind, datasets.ClassLabel) and column == "label" and want.classes is None:
            want = replace(want, classes=tuple(kind.names))

    def stream() -> Iterator[Placed]:
        return ((f"{name} row {number}", row) for number, row in enumerate(found, 1))

    return checked_table(stream, [name, split, found._fingerprint], want, name)
