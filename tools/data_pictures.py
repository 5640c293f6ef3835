"""The pictures of docs/data.md: one row of each source, drawn as SVG, made again by ``python tools/data_pictures.py``.

Each picture takes light or dark from whoever looks at it, and names in its description what it shows.
"""

from __future__ import annotations

import math
import textwrap
from base64 import b64encode
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stillroom.data import load
from stillroom.report.text import escape

DOCS = Path(__file__).parent.parent / "docs"
WIDTH = 720
LINE = 19  # pixels
MONO, SANS = "ui-monospace,monospace", "system-ui,sans-serif"
STYLE = (
    "<style>:root{--ink:#22221f;--faint:#77776f;--blue:#0b62a8;--red:#c44e00;--paper:#f6f5ef}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e9e7de;--faint:#96958b;--blue:#6fb1ea;--red:#f0985e;"
    "--paper:#23231f}}text{fill:var(--ink)}.faint{fill:var(--faint)}.blue{fill:var(--blue)}.red{fill:var(--red)}"
    "path,line{stroke:var(--faint);fill:none}</style>"
)


def text(
    x: float, y: float, said: str, *, face: str = SANS, size: int = 14, kind: str = "", anchor: str = "start"
) -> str:
    """One line of text."""
    style = f'style="font:{size}px {face};white-space:pre" xml:space="preserve"'
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}" {style}>{escape(said)}</text>'


def block(x: float, y: float, said: str, *, columns: int, face: str = SANS, kind: str = "") -> tuple[str, float]:
    """Lines of text wrapped at so many characters, and where the next one would stand."""
    lines = [line for part in said.splitlines() for line in (textwrap.wrap(part, columns) or [""])]
    parts = [text(x, y + LINE * place, line, face=face, kind=kind) for place, line in enumerate(lines)]
    return "".join(parts), y + LINE * len(lines)


def picture(name: str, said: str, body: str, height: float) -> None:
    """Write docs/data-NAME.svg."""
    size = f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}"'
    paper = f'<rect width="{WIDTH}" height="{height:g}" rx="6" style="fill:var(--paper)"/>'
    whole = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{STYLE}<title>{escape(said)}</title>{paper}'
    (DOCS / f"data-{name}.svg").write_text(whole + body + "</svg>\n", encoding="utf-8")


def raster(values: Any, x: float, y: float, width: float, height: float) -> str:
    """An array [rows, columns] in [0, 1] as an embedded picture: the more, the less transparent."""
    values = np.clip(np.asarray(values, dtype=np.float64), 0, 1)
    pixels = np.zeros((*values.shape, 4), dtype=np.uint8)
    pixels[..., :3], pixels[..., 3] = (58, 132, 196), (255 * values).round()
    held = BytesIO()
    Image.fromarray(pixels, "RGBA").save(held, "PNG", optimize=True)
    data = b64encode(held.getvalue()).decode()
    box = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" preserveAspectRatio="none"'
    return f'<image {box} style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'


def rows_of_text(name: str, said: str, parts: Sequence[tuple[str, str, str]]) -> None:
    """Named texts under each other: (name, text, face)."""
    body, y = "", 34.0
    for title, content, face in parts:
        body += text(24, y, title, kind="faint", size=13)
        made, y = block(150, y, content, columns=62 if face == MONO else 72, face=face)
        body, y = body + made, y + 10
    picture(name, said, body, y + 4)


# --- one picture a source ---------------------------------------------------------------------------------------------


def pydocs() -> None:
    """A short function: signature, docstring, code."""
    found = load("pydocs", view="functions", limit=4000)
    row = next(
        row for row in found if 60 < len(row["code"]) < 260 and 40 < len(row["docstring"]) < 200 and len(row["id"]) < 60
    )
    parts = [("id", row["id"], SANS), ("docstring", row["docstring"], SANS), ("code", row["code"], MONO)]
    rows_of_text("pydocs", f"a row of pydocs: the function {row['id']}", parts)


def words() -> None:
    """Some words of the vocabulary."""
    found = load("words", limit=60, tokenizer="sentence-transformers/all-MiniLM-L6-v2")
    body = ""
    for place, row in enumerate(found):
        body += text(24 + 118 * (place % 6), 34 + LINE * (place // 6), row["text"][:14], face=MONO)
    picture("words", "sixty words of a tokenizer's vocabulary", body, 34 + LINE * 10)


def digits() -> None:
    """Forty digits."""
    body = ""
    for place, row in enumerate(load("digits", limit=36)):
        left, top = 24 + 38 * (place % 18), 20 + 50 * (place // 18)
        body += raster(row["image"], left, top, 32, 32)
        body += text(left + 16, top + 44, str(row["label"]), kind="faint", size=11, anchor="middle")
    picture("digits", "thirty-six digits with their labels", body, 130)


def arithmetic() -> None:
    """A problem with its solution in three forms."""
    row = load("arithmetic", view="problems", limit=1)[0]
    faces = {"question": SANS, "chain": SANS, "equation": MONO, "program": MONO, "answer": MONO}
    rows_of_text("arithmetic", "a problem and its solution", [(name, row[name], face) for name, face in faces.items()])


def judgements() -> None:
    """What people say of pairs of words."""
    from stillroom.data.judgements import wordsim353

    pairs = wordsim353()
    order = np.argsort(pairs["score"])
    chosen = [int(order[round(part)]) for part in np.linspace(0, len(order) - 1, 9)]
    body = ""
    for place, number in enumerate(chosen):
        y, score = 34 + 24 * place, float(pairs["score"][number])
        said = f"{pairs['first'][number]} – {pairs['second'][number]}"
        body += text(24, y, said)
        body += f'<rect x="260" y="{y - 11}" width="{40 * score:g}" height="12" class="blue"/>'
        body += text(266 + 40 * score, y, f"{score:g}", size=12, kind="faint")
    picture("judgements", "nine pairs of WordSim-353 with their mean scores from 0 to 10", body, 40 + 24 * 9)


def facts() -> None:
    """The triples of one country, as a wheel."""
    found = [row for row in load("facts", view="triples") if row["subject_label"] == "Switzerland"] or []
    chosen = found[:12]
    cx, cy, reach = WIDTH / 2, 170.0, 125.0
    body = ""
    for place, row in enumerate(chosen):
        angle = 2 * math.pi * place / len(chosen)
        x, y = cx + 2.0 * reach * math.cos(angle), cy + reach * math.sin(angle)
        body += f'<line x1="{cx}" y1="{cy}" x2="{x:.1f}" y2="{y:.1f}" opacity=".5"/>'
        body += text(x, y + 4, row["object_label"], anchor="middle", size=13)
        mx, my = cx + 1.25 * reach * math.cos(angle), cy + 0.62 * reach * math.sin(angle)
        body += text(mx, my + 4, row["relation"], anchor="middle", size=11, kind="blue")
    body += text(cx, cy + 5, "Switzerland", anchor="middle", size=16)
    picture("facts", "triples about Switzerland", body, 340)


def wordnet() -> None:
    """A chain of hypernyms with some siblings."""
    found = {row["id"]: row for row in load("wordnet", view="synsets", split="train", limit=None)}
    for split in ("validation", "test"):
        found |= {row["id"]: row for row in load("wordnet", view="synsets", split=split)}
    here, chain = "n02084071", []
    while here in found and len(chain) < 7:
        chain.append(found[here])
        here = next(iter(found[here]["hypernyms"]), "")
    body, y = "", 34.0
    for depth, row in enumerate(reversed(chain)):
        body += text(24 + 22 * depth, y, row["words"][0], kind="blue" if row is chain[0] else "")
        body += text(300, y, textwrap.shorten(row["definition"], 52, placeholder=" …"), size=13, kind="faint")
        y += 26
    picture("wordnet", "the dog and what it is a kind of, up to the seventh step", body, y)


def parallel() -> None:
    """One phrase in many languages."""
    rows = (row for row in load("parallel", view="tuples") if len(row["texts"]) >= 8 and row["kind"] == "message")
    row = next(row for row in rows if len(row["texts"][0]["text"].split()) > 4 and "%" not in row["texts"][0]["text"])
    parts = [(one["language"], one["text"], SANS) for one in row["texts"][:9]]
    rows_of_text("parallel", "one message of a program in several languages", parts)


def speech() -> None:
    """A phrase: its waveform, the power of its frequencies, what is said."""
    row = load("speech", split="test", limit=1).with_format("numpy")[0]
    sound, rate = np.asarray(row["audio"], dtype=np.float64), 16_000
    ends = np.abs(sound[: len(sound) // 336 * 336]).reshape(336, -1).max(1)
    wave = "".join(
        f"M{24 + 2 * place} {60 - 40 * end:.0f}V{60 + 40 * end:.0f}" for place, end in enumerate(ends / ends.max())
    )
    body = f'<path d="{wave}" style="stroke:var(--blue);stroke-width:1.4"/>'
    frames = np.lib.stride_tricks.sliding_window_view(sound, 400)[:: max((len(sound) - 400) // 168, 1)][:168]
    power = np.log(np.abs(np.fft.rfft(frames * np.hanning(400)))[:, :100] + 1e-3)
    power = (power.reshape(len(power), 25, 4).mean(-1) - power.min()) / np.ptp(power)
    body += raster(power.T[::-1] ** 2, 24, 116, 672, 104)
    body += text(24, 252, str(row["text"])) + text(24, 272, str(row["phonemes"]), kind="faint")
    said = f"{row['seconds']:.2f} s at {rate // 1000} kHz by {row['speaker']}; frequencies up to 4 kHz"
    body += text(WIDTH - 24, 252, said, anchor="end", size=12, kind="faint")
    picture("speech", f"the phrase “{row['text']}” as a waveform and as frequencies over time", body, 288)


PICTURES: tuple[Callable[[], Any], ...] = (
    pydocs,
    words,
    digits,
    arithmetic,
    judgements,
    facts,
    wordnet,
    parallel,
    speech,
)

if __name__ == "__main__":
    for draw in PICTURES:
        draw()
