"""Items of a numbered or bulleted list in a reply, for the many prompts that end with ``1.``."""

from __future__ import annotations

import re

_ITEM = re.compile(r"^\s*(?:\(?(\d{1,4})[.):]|[-*•])\s+(.*\S)\s*$")


def listed(reply: str, *, first: bool = False) -> list[str]:
    """The items in their order, without their marks. Lines that go on with an item are joined to it.

    Args:
        reply: the text. Words before the first item are left out; so is what comes after an empty line that no item
            follows, unless it is indented.
        first: the prompt ended with the first mark, so the reply begins in the middle of the first item.
    """
    items: list[str] = []
    begun, after_gap = first, False
    if first:
        items.append("")
    for line in reply.splitlines():
        if match := _ITEM.match(line):
            items.append(match[2])
            begun, after_gap = True, False
        elif not line.strip():
            after_gap = begun
        elif begun and (not after_gap or line[:1].isspace()):
            items[-1] = f"{items[-1]} {line.strip()}".strip()
    return [item for item in items if item]
