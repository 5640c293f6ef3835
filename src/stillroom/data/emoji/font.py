"""Pictures out of the colour font of Debian's `fonts-noto-color-emoji`, read from the file's own tables.

The font keeps every picture as a PNG of 136 x 128 pixels. Three kinds of tables lead to it: `cmap`, from a character to
the number of a glyph; the ligatures of `GSUB`, from several glyphs (a person, a joiner, a rocket) to one (an
astronaut); `CBLC`, from a glyph to the place of its PNG in `CBDT`. So there is nothing to render, and no shaping
library is needed.

Source: the OpenType specification, version 1.9 (tables cmap, GSUB, CBLC and CBDT).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from stillroom.errors import UserError

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
INSTALL_FONT = "the pictures of emoji are read from a font that is not here: apt-get install fonts-noto-color-emoji"

_LIGATURES = 4  # a type of GSUB lookup
_PNG = {17: 5, 18: 8}  # format of an image in CBDT -> bytes of metrics before the length of its PNG


class EmojiFont:
    """A font whose glyphs are PNGs.

    Args:
        path: a TrueType file with the tables named above.

    Raises:
        UserError: there is no such file, or it has no PNGs.
    """

    def __init__(self, path: Path = FONT) -> None:
        if not path.is_file():
            raise UserError(INSTALL_FONT)
        self._data = path.read_bytes()
        records = (self._read(">4sIII", 12 + 16 * number) for number in range(self._short(4)))
        self._tables = {name.decode("latin-1"): start for name, _, start, _ in records}
        missing = [name for name in ("cmap", "GSUB", "CBLC", "CBDT") if name not in self._tables]
        if missing:
            raise UserError(
                f"{path.name} has no table {missing[0]}, so it is not the font that fonts-noto-color-emoji has"
            )

    def png(self, text: str) -> bytes | None:
        """The PNG of an emoji of one or several characters; None where the font has none for all of them together."""
        glyph = self._glyph(text)
        return None if glyph is None else self._pictures.get(glyph)

    def _glyph(self, text: str) -> int | None:
        glyphs = [self._characters.get(ord(character)) for character in text]
        if None in glyphs or not glyphs:
            return None
        whole = tuple(glyph for glyph in glyphs if glyph is not None)
        return whole[0] if len(whole) == 1 else self._ligatures.get(whole)

    @cached_property
    def _characters(self) -> dict[int, int]:
        """Character -> glyph, from the subtable of format 12."""
        start = self._tables["cmap"]
        for number in range(self._short(start + 2)):
            subtable = start + self._read(">HHI", start + 4 + 8 * number)[2]
            if self._short(subtable) == 12:
                count = self._read(">I", subtable + 12)[0]
                groups = (self._read(">III", subtable + 16 + 12 * group) for group in range(count))
                return {first + step: glyph + step for first, last, glyph in groups for step in range(last - first + 1)}
        raise UserError("the emoji font's cmap has no subtable of format 12")

    @cached_property
    def _ligatures(self) -> Mapping[tuple[int, ...], int]:
        """Glyphs of a sequence -> the one glyph in their place."""
        start = self._tables["GSUB"]
        found = dict[tuple[int, ...], int]()
        for lookup in self._offsets(start + self._short(start + 8)):
            if self._short(lookup) == _LIGATURES:
                for subtable in self._offsets(lookup + 4, base=lookup):
                    found.update(self._ligatures_of(subtable))
        return found

    def _ligatures_of(self, subtable: int) -> Iterator[tuple[tuple[int, ...], int]]:
        first_glyphs = self._coverage(subtable + self._short(subtable + 2))
        for first, ligatures in zip(first_glyphs, self._offsets(subtable + 4, base=subtable), strict=True):
            for ligature in self._offsets(ligatures):
                result, count = self._read(">HH", ligature)
                yield (first, *self._read(f">{count - 1}H", ligature + 4)), result

    def _coverage(self, start: int) -> list[int]:
        """The glyphs of a coverage table, in order."""
        form, count = self._read(">HH", start)
        if form == 1:
            return list(self._read(f">{count}H", start + 4))
        ranges = (self._read(">HHH", start + 4 + 6 * number) for number in range(count))
        return [glyph for first, last, _ in ranges for glyph in range(first, last + 1)]

    @cached_property
    def _pictures(self) -> dict[int, bytes]:
        """Glyph -> PNG, of the largest size that the font has."""
        index, images = self._tables["CBLC"], self._tables["CBDT"]
        sizes = [index + 8 + 48 * number for number in range(self._read(">I", index + 4)[0])]
        largest = max(sizes, key=lambda size: self._data[size + 45])  # vertical pixels per em
        array, _, count, _ = self._read(">IIII", largest)
        found = {}
        for number in range(count):
            first, last, offset = self._read(">HHI", index + array + 8 * number)
            header = index + array + offset
            index_form, image_form, data = self._read(">HHI", header)
            places = list(self._places(index_form, header + 8, last - first + 1))
            for step, (begin, end) in enumerate(places):
                if end > begin and image_form in _PNG:
                    at = images + data + begin + _PNG[image_form]
                    found[first + step] = self._data[at + 4 : at + 4 + self._read(">I", at)[0]]
        return found

    def _places(self, form: int, at: int, count: int) -> Iterator[tuple[int, int]]:
        """Where the images of ``count`` glyphs begin and end, as an index subtable with offsets (form 1, 3) tells."""
        if form not in (1, 3):
            raise UserError(f"the emoji font keeps places of its pictures in form {form}; 1 and 3 are read")
        yield from pairwise(self._read(f">{count + 1}{'I' if form == 1 else 'H'}", at))

    def _offsets(self, at: int, base: int | None = None) -> list[int]:
        """The places that a list of offsets points to: a number of them, and then each, counted from ``base``."""
        base = at if base is None else base
        return [base + offset for offset in self._read(f">{self._short(at)}H", at + 2)]

    def _short(self, at: int) -> int:
        return self._read(">H", at)[0]

    def _read(self, form: str, at: int) -> tuple[Any, ...]:
        return struct.unpack_from(form, self._data, at)
