"""Texts spoken by `espeak-ng`, many in one call.

One call speaks a batch with a long break after every text. Speech is never silent for so long; so the recording is
cut there, and the number of pieces must be that of the texts.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from stillroom.data.tables import batches
from stillroom.errors import UserError

if TYPE_CHECKING:
    import numpy as np

BATCH = 100
_BREAK = 2.0  # seconds of silence asked for after each text
_SILENCE = 1.0  # seconds of silence that are a break
_LEVEL = 0.003  # what is not louder is silence: some voices have an echo that fades slowly
_MARGIN = 0.05  # seconds of silence kept around what is said


@dataclass(frozen=True)
class Voice:
    """A voice of espeak-ng: ``en-us+f3``, its speed in words a minute, its pitch from 0 to 99."""

    name: str
    speed: int = 175
    pitch: int = 50


@dataclass(frozen=True)
class Spoken:
    """A recording, numbers in [-1, 1] at ``rate`` a second, and its sounds in the International Phonetic Alphabet."""

    audio: np.ndarray
    rate: int
    phonemes: str


@cache
def version() -> str:
    """What the program says of itself, without the folder of its data.

    Raises:
        UserError: it is not installed.
    """
    done = subprocess.run([_program(), "--version"], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.partition("Data at")[0].strip()


def _program() -> str:
    found = shutil.which("espeak-ng")
    if found is None:
        raise UserError("this needs the program espeak-ng, which is not installed; on Debian: apt install espeak-ng")
    return found


def speak(texts: Sequence[str], voice: Voice) -> Iterator[Spoken]:
    """Each text spoken by a voice. Texts are words with spaces, without punctuation that would divide them.

    Raises:
        UserError: espeak-ng is not installed or doesn't do what it is asked.
    """
    for batch in batches(texts, BATCH):
        yield from _speak_batch(batch, voice)


def _speak_batch(texts: Sequence[str], voice: Voice) -> list[Spoken]:
    said = "\n".join(f"<p>{escape(text)}</p><break time='{_BREAK * 1000:.0f}ms'/>" for text in texts)
    settings = ["-v", voice.name, "-s", str(voice.speed), "-p", str(voice.pitch)]
    with tempfile.TemporaryDirectory() as folder:
        sound, phonemes = Path(folder, "sound.wav"), Path(folder, "phonemes.txt")
        files = ["-w", str(sound), "--ipa", f"--phonout={phonemes}"]
        done = subprocess.run(
            [_program(), *settings, *files, "-b", "1", "-m", "--stdin"],
            input=f"<speak>{said}</speak>".encode(),
            capture_output=True,
            check=False,
            timeout=600,
        )
        if done.returncode or not sound.is_file():
            reason = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
            raise UserError(f"espeak-ng can't speak with the voice {voice.name!r}: {reason}")
        audio, rate = _read(sound)
        lines = [line.strip() for line in phonemes.read_text("utf-8").splitlines() if line.strip()]
    pieces = _pieces(audio, rate)
    if len(pieces) != len(texts) or len(lines) != len(texts):
        raise UserError(
            f"espeak-ng was given {len(texts)} texts for the voice {voice.name!r} and spoke {len(pieces)} in "
            f"{len(lines)} lines of phonemes; texts must be words without punctuation"
        )
    return [Spoken(piece, rate, line) for piece, line in zip(pieces, lines, strict=True)]


def _read(path: Path) -> tuple[np.ndarray, int]:
    import numpy as np

    with wave.open(str(path)) as file:
        frames = file.readframes(file.getnframes())
        return np.frombuffer(frames, dtype="<i2").astype("float32") / 2**15, file.getframerate()


def _pieces(audio: np.ndarray, rate: int) -> list[np.ndarray]:
    """What lies between the breaks, with a margin of silence on both sides."""
    import numpy as np

    loud = np.flatnonzero(np.abs(audio) > _LEVEL)
    if not len(loud):
        return []
    gaps = np.flatnonzero(np.diff(loud) > _SILENCE * rate)
    starts = loud[np.concatenate([[0], gaps + 1])]
    ends = loud[np.concatenate([gaps, [len(loud) - 1]])] + 1
    margin = round(_MARGIN * rate)
    return [np.pad(audio[start:end], margin) for start, end in zip(starts, ends, strict=True)]
