"""Verbatim quotes as marked blocks: writing them, reading them out of a reply, and whether a text has them."""

from __future__ import annotations

import re
from collections.abc import Iterable

BEGIN, END = "##begin_quote##", "##end_quote##"
_BLOCK = re.compile(rf"{BEGIN}(.*?){END}", re.DOTALL)


def write_quotes(quotes: Iterable[str]) -> str:
    """A block for each quote, a line each."""
    return "\n".join(f"{BEGIN} {quote.strip()} {END}" for quote in quotes)


def read_quotes(reply: str) -> list[str]:
    """The quotes of all whole blocks, in order; empty blocks hold none."""
    return [quote for block in _BLOCK.findall(reply) if (quote := block.strip())]


def well_formed(reply: str) -> bool:
    """Whether a reply is blocks and white space and nothing else. An empty reply is not; an empty block is."""
    return bool(_BLOCK.search(reply)) and not _BLOCK.sub("", reply).strip()


def spaced(text: str) -> str:
    """The text with single spaces, as quotes are compared with what they are taken from."""
    return " ".join(text.split())


def quoted_from(quote: str, text: str) -> bool:
    """Whether the quote stands in the text, word for word; white space aside."""
    return spaced(quote) in spaced(text)
