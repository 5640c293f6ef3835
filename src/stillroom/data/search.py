"""A search task: what is searched with, what is found, and which of it is right."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Retrieval:
    """Texts to search with, texts to find, and for each query the place of its document -> its gain.

    ``ids`` are those of the rows that the documents come from.
    """

    queries: list[str]
    documents: list[str]
    relevance: list[dict[int, int]]
    ids: list[str]
