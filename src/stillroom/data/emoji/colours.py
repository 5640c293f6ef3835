"""Colours of pictures by name: what colour most of a picture has, and how to paint it another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

PALETTE = {
    "red": (222, 60, 60),
    "orange": (240, 145, 50),
    "yellow": (240, 215, 70),
    "green": (80, 170, 80),
    "blue": (70, 120, 220),
    "purple": (150, 85, 190),
    "pink": (240, 150, 190),
    "grey": (150, 150, 150),
}
"""The colours of backgrounds and paints, in RGB."""

CLEAR = 0.6
"""The share of a picture that must have a colour before the picture is said to have it."""

_HUES = (
    (15, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (255, "blue"), (295, "purple"), (340, "pink"), (361,
    "red"),
)  # fmt: skip


def main_colour(picture: Image.Image) -> str:
    """The name of the colour that at least `CLEAR` of an RGBA picture's opaque pixels have; "" if none has."""
    import numpy as np

    pixels = np.asarray(picture.convert("RGBA")).reshape(-1, 4)
    pixels = pixels[pixels[:, 3] > 127, :3].astype("float32") / 255
    if not len(pixels):
        return ""
    names, counts = np.unique(colour_names(pixels), return_counts=True)
    best = int(counts.argmax())
    return str(names[best]) if counts[best] >= CLEAR * len(pixels) else ""


def colour_names(rgb: np.ndarray) -> np.ndarray:
    """The English names of colours, [n, 3] in [0, 1]: by hue, but brown is dark orange and pale red is pink."""
    import numpy as np

    high, low = rgb.max(1), rgb.min(1)
    chroma = high - low
    safe = np.where(chroma > 0, chroma, 1)
    red, green, blue = rgb.T
    sector = np.select(
        [high == red, high == green], [(green - blue) / safe % 6, (blue - red) / safe + 2], (red - green) / safe + 4
    )
    hue = 60 * sector
    saturation = chroma / np.where(high > 0, high, 1)
    names = np.select([hue < edge for edge, _ in _HUES], [name for _, name in _HUES], "red").astype("<U6")
    names[(hue > 10) & (hue < 50) & ((high < 0.7) | (saturation < 0.6))] = "brown"
    names[((hue > 300) | (hue < 12)) & (saturation < 0.5) & (high > 0.75)] = "pink"
    names[saturation < 0.15] = "grey"
    names[(saturation < 0.15) & (high > 0.85)] = "white"
    names[high < 0.25] = "black"
    return names


def painted(picture: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """The picture in shades of one colour: black stays black, middle tones become the colour, white a pale one."""
    from PIL import ImageOps

    pale = tuple(channel + (255 - channel) * 3 // 4 for channel in colour)
    dark = tuple(channel // 4 for channel in colour)
    shades = ImageOps.colorize(picture.convert("RGB").convert("L"), dark, pale, colour, midpoint=140)
    shades.putalpha(picture.getchannel("A"))
    return shades
