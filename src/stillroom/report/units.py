"""Numbers as the report prints them: three significant digits, thousands separators, units after a thin space.

``None`` (not measured) is an en dash everywhere, so that a table never has to ask.
"""

from __future__ import annotations

import math

THIN = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
ABSENT = "\N{EN DASH}"
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, unit: str = "", digits: int = 3) -> str:
    """``0.412``, ``12.3``, ``1,234``, ``1.20 × 10⁻⁵``: three significant digits, never fewer than the integer part."""
    if value is None:
        return ABSENT
    if math.isnan(value):
        return "NaN"
    sign = MINUS if value < 0 else ""
    text = sign + _magnitude(abs(value), digits)
    return text + THIN + unit if unit else text


def _magnitude(value: float, digits: int) -> str:
    if math.isinf(value):
        return "∞"
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}"
    rounded = float(f"{value:.{digits}g}")  # first, so that 9.999 is given the digits of 10.0
    power = math.floor(math.log10(rounded)) if rounded else -324
    if power < -3 or power > 9:
        return f"{value / 10.0**power:.{digits - 1}f}{THIN}{TIMES}{THIN}10{str(power).translate(SUPERSCRIPT)}"
    return f"{value:,.{max(0, digits - 1 - power)}f}"


def share(ratio: float | None, digits: int = 3) -> str:
    """A ratio as a percentage: ``94.1 %``."""
    return ABSENT if ratio is None else number(100.0 * ratio, "%", digits)


def times(ratio: float | None, digits: int = 3) -> str:
    """A ratio as a factor: ``2.91 ×``."""
    return ABSENT if ratio is None else number(float(ratio), TIMES, digits)


def _scaled(value: float | None, steps: tuple[tuple[float, str], ...], smallest: str) -> str:
    """``value`` in the largest unit that it fills."""
    if value is None:
        return ABSENT
    for factor, unit in steps:
        if abs(float(f"{value:.3g}")) >= factor:
            return number(value / factor, unit)
    return number(value, smallest)


def magnitude(count: float | None) -> str:
    """A large count, such as that of parameters: ``596 M``."""
    return _scaled(count, ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")), "")


def size(count: float | None) -> str:
    """Bytes in decimal units, as disks are sold: ``1.19 GB``."""
    return _scaled(count, ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")), "B")


def milliseconds(value: float | None) -> str:
    """``8.20 ms``."""
    return ABSENT if value is None else number(float(value), "ms")


def rate(value: float | None) -> str:
    """Rows a second: ``1,240 /s``."""
    return ABSENT if value is None else number(float(value), "/s")


def duration(seconds: float | None) -> str:
    """``8.20 s``, ``4 min 12 s``, ``3 h 07 min``, ``2 d 05 h``."""
    if seconds is None or not math.isfinite(seconds):
        return number(seconds)
    if seconds < 59.95:
        return number(float(seconds), "s")
    if round(seconds) < 3600:
        return _two(round(seconds), 60, "min", "s")
    if round(seconds / 60) < 1440:
        return _two(round(seconds / 60), 60, "h", "min")
    return _two(round(seconds / 3600), 24, "d", "h")


def _two(count: int, each: int, large: str, small: str) -> str:
    whole, rest = divmod(count, each)
    return f"{whole:,}{THIN}{large} {rest:02d}{THIN}{small}"
