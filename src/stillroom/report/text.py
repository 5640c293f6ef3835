"""Untrusted text on its way into a page: data sets and models may say anything, and none of it may become markup."""

from __future__ import annotations

import html
import re

# What HTML and XML forbid (control characters, lone surrogates, non-characters), and the marks that turn the direction
# of the text around them, with which a string can display as another.
UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
# A setting whose name says that its value is a secret; `api_key_env`, which names a variable, is none.
CREDENTIAL = re.compile(
    r"""((?:api_?key|secret|password|(?:auth|access|bearer|hf)_token)["']?[ \t]*[:=][ \t]*)(?!null\b)([^\s,}]+)""", re.I
)


def clean(text: str) -> str:
    """The text with whatever can't be shown replaced by U+FFFD."""
    return UNFIT.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def escape(text: str) -> str:
    """For SVG and HTML, between tags or in a quoted attribute."""
    return html.escape(clean(text), quote=True)


def without_keys(text: str) -> str:
    """The text of a recipe or command with every API key and password taken out."""
    return CREDENTIAL.sub(r"\1(kept out)", text)


def shorten(text: str, length: int) -> str:
    """At most ``length`` characters on one line, the last an ellipsis if something was cut."""
    line = " ".join(clean(text[: 4 * length]).split())
    cut = len(line) > length or len(text) > 4 * length
    return line[: length - 1].rstrip() + "…" if cut else line
