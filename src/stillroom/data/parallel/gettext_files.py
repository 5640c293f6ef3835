"""The messages of programs and their translations, from gettext's compiled catalogues (`.mo` files).

The English side is found by the format that gettext's manual documents, and each message is then asked for through the
standard library's `gettext`, which knows contexts and each language's rule for plurals.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from functools import cache
from gettext import GNUTranslations
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

FOLDER = Path("/usr/share/locale")
"""Where the system's catalogues lie. ``$TEXTDOMAINDIR``, gettext's own variable, names another folder."""

# What gettext's folders call a language where the CLDR, whose names are used here, calls it otherwise.
_FOLDERS = {
    "nb": ("nb", "no", "nb_NO"),
    "no": ("no", "nb", "nb_NO"),
    "pt": ("pt_BR",),
    "pt_PT": ("pt_PT", "pt"),
    "sr_Latn": ("sr@latin", "sr@Latn"),
    "uz_Cyrl": ("uz@cyrillic",),
    "zh": ("zh_CN", "zh_Hans", "zh"),
    "zh_Hant": ("zh_TW", "zh_Hant"),
}

_MAGIC = 0x950412DE
_TWO = 2  # the number for which a plural is asked


class Catalogue(NamedTuple):
    """A file, and the name of the program or package whose messages are in it."""

    domain: str
    path: Path


def catalogues(language: str) -> list[Catalogue]:
    """The catalogues of the system and of the installed Python packages for a language, sorted by name.

    A catalogue that is there under two names (a link) is listed once.
    """
    folder = Path(os.environ.get("TEXTDOMAINDIR") or FOLDER).expanduser()
    found = list[Catalogue]()
    for name in _FOLDERS.get(language, (language,)):
        system = sorted(folder.glob(f"{name}/LC_MESSAGES/*.mo"))
        found += [Catalogue(path.stem, path) for path in system]
        found += [item for item in _of_packages() if item.path.parent.parent.name == name]
    once = {item.path.resolve(): item for item in reversed(found)}
    return sorted(item for item in once.values() if item.path.is_file())


@cache
def _of_packages() -> tuple[Catalogue, ...]:
    """All catalogues that installed packages list among their files."""
    found = list[Catalogue]()
    for item in metadata.distributions():
        record = item.read_text("RECORD") or ""
        listed = re.findall(r"^([^,\n]+/LC_MESSAGES/[^,\n]+\.mo),", record, re.MULTILINE) if ".mo," in record else []
        found += [Catalogue(item.name, Path(str(item.locate_file(path)))) for path in listed]
    return tuple(found)


def messages(path: Path) -> Iterator[tuple[str, str]]:
    """English and translation of each message; of a plural, what is said of one thing and what is said of two.

    Raises:
        ValueError: it is not a whole catalogue, or not in the encoding that it says.
    """
    try:
        with path.open("rb") as file:
            known = GNUTranslations(file)
        originals = [part.decode(known.charset() or "utf-8") for part in _originals(path.read_bytes())]
    except (OSError, ValueError, LookupError, struct.error) as error:
        raise ValueError(f"{path} can't be read: {error}") from None
    for original in originals:
        context, mark, message = original.rpartition("\x04")
        one, plural, many = message.partition("\0")
        if not one:
            continue  # the header
        if not plural:
            yield one, known.pgettext(context, one) if mark else known.gettext(one)
            continue
        for english, number in ((one, 1), (many, _TWO)):
            yield (
                english,
                known.npgettext(context, one, many, number) if mark else known.ngettext(one, many, number),
            )


def _originals(content: bytes) -> Iterator[bytes]:
    """The untranslated messages: context, end of transmission, singular, zero, plural, of which only one is needed."""
    order = "<" if struct.unpack_from("<I", content)[0] == _MAGIC else ">"
    count, start = struct.unpack_from(f"{order}2I", content, 8)
    for number in range(count):
        length, offset = struct.unpack_from(f"{order}2I", content, start + 8 * number)
        yield content[offset : offset + length]
