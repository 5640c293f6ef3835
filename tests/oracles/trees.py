"""All binary trees of a sentence, one by one: what charts are checked against."""

from __future__ import annotations

from collections.abc import Iterator


def all_trees(start: int, end: int) -> Iterator[frozenset[tuple[int, int]]]:
    """The spans of two words and more of every binary tree over the words start, ..., end - 1."""
    if end - start == 1:
        yield frozenset()
        return
    for split in range(start + 1, end):
        for left in all_trees(start, split):
            for right in all_trees(split, end):
                yield frozenset({(start, end)}) | left | right
