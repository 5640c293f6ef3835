"""`speech`: phrases spoken by a dozen voices of `espeak-ng`, with their transcripts and phonemes.

| column          | holds                                                                                             |
|-----------------|---------------------------------------------------------------------------------------------------|
| `id`            | the phrase's number and the speaker, ``train-17-anna``                                            |
| `audio`         | numbers in [-1, 1], float32, one channel                                                          |
| `sampling_rate` | numbers of `audio` in a second: 16,000, or 8,000 if asked for                                     |
| `text`          | what is said, in small letters with apostrophes and spaces                                        |
| `phonemes`      | how this speaker says it, in the International Phonetic Alphabet, as espeak-ng writes it          |
| `speaker`       | who says it: a voice with its own speed and pitch, `SPEAKERS`                                     |
| `seconds`       | how long it takes                                                                                 |
| `theme`         | what it is about: digits, home, travel, weather, kitchen, office, music, animals                  |

Views: `clean`, all as above; `noisy`, the same with white noise at a signal-to-noise ratio of ``snr`` decibels (power
over the whole recording), and a column `snr`; `names`, the names of countries, languages and currencies in four
languages, by the Unicode CLDR, with `language`, `english` and as `theme` the kind of thing; `texts`, phrases of the
same grammar that nobody has spoken (id, text, theme), of which there are more.

Splits are by phrase (a hash of it; of `names`, of the thing that is named in all languages) and by speaker at once:
speakers of validation and test, and what they say, do not come in training. Audio is stored as numbers, so that nothing
has to decode it: ``load("speech").with_format("numpy")``.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.data import cldr
from stillroom.data.cache import build_once, fingerprint
from stillroom.data.progress import Tick, patient_bar
from stillroom.data.speech import espeak
from stillroom.data.speech.espeak import Voice
from stillroom.data.speech.phrases import SHARES, phrases
from stillroom.data.tables import part_of, read_table, sample, share, write_table
from stillroom.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

VIEWS = {
    "clean": "transcribed-audio",
    "noisy": "transcribed-audio",
    "names": "transcribed-audio",
    "texts": "text",
}
SPLITS = ("train", "validation", "test")
PHRASES = {"train": 1500, "validation": 200, "test": 200}
"""Phrases that are spoken in each split: less than two seconds each."""
TEXTS = {"train": 20_000, "validation": 2000, "test": 2000}
RATES = (16_000, 8_000)
SNR = 10.0  # decibels

_VERSION = 1  # of what is said and how; a change makes what is in the cache stale


@dataclass(frozen=True)
class Speaker:
    """A voice, and the one split that it speaks in."""

    name: str
    split: str
    voice: Voice
    language: str = "en"


SPEAKERS = (
    Speaker("anna", "train", Voice("en-us+f1", 165, 55)),
    Speaker("bruno", "train", Voice("en-us+m3", 170, 45)),
    Speaker("clara", "train", Voice("en-gb-x-rp+f3", 180, 50)),
    Speaker("dennis", "train", Voice("en-gb-scotland+m2", 165, 40)),
    Speaker("edith", "train", Voice("en-029+f4", 175, 60)),
    Speaker("frank", "train", Voice("en-gb-x-gbclan+m4", 190, 50)),
    Speaker("grace", "train", Voice("en-us+linda", 200, 65)),
    Speaker("henry", "train", Voice("en-us-nyc+m1", 185, 35)),
    Speaker("iris", "validation", Voice("en-us+f2", 175, 60)),
    Speaker("jack", "validation", Voice("en-gb-x-rp+m6", 180, 45)),
    Speaker("karen", "test", Voice("en-us+f5", 170, 50)),
    Speaker("leo", "test", Voice("en-gb-x-gbcwmd+m7", 175, 55)),
    Speaker("mona", "test", Voice("en-029+belinda", 190, 60)),
)
NAMERS = tuple(
    Speaker(f"{language}-{name}", split, Voice(f"{voice}+{variant}", speed, pitch), language)
    for language, voice in (("en", "en-us"), ("de", "de"), ("fr", "fr"), ("es", "es"))
    for name, split, variant, speed, pitch in (
        ("ruth", "train", "f1", 165, 55),
        ("sven", "train", "m3", 180, 45),
        ("tina", "validation", "f4", 170, 60),
        ("udo", "test", "m1", 175, 40),
    )
)
"""Who says names: in each language two in training, one in validation and one in test."""


def load(
    view: str,
    split: str,
    limit: int | None,
    seed: int,
    *,
    rate: int = RATES[0],
    takes: int = 1,
    speakers: Sequence[str] | None = None,
    snr: float = SNR,
) -> Dataset:
    """``limit`` rows of a view of one split, drawn with ``seed``, or all. `texts` are generated from ``seed``.

    Args:
        view: ``clean``, ``noisy``, ``names`` or ``texts``.
        split: ``train``, ``validation`` or ``test``.
        limit: at most so many.
        seed: of the draw.
        rate: numbers in a second, 16,000 or 8,000.
        takes: how many of the split's speakers say each phrase.
        speakers: only these of the split's speakers, by name.
        snr: of `noisy`, in decibels; 0 is noise as strong as speech.

    Raises:
        UserError: an option that does not fit, or espeak-ng is not installed.
    """
    if view == "texts":
        return _texts(split, limit or TEXTS[split], seed)
    if rate not in RATES:
        raise UserError(f"speech has a rate of {' or '.join(map(str, RATES))}; {rate} was asked for")
    chosen = _chosen(NAMERS if view == "names" else SPEAKERS, split, speakers)
    languages = Counter(speaker.language for speaker in chosen)
    if not 1 <= takes <= min(languages.values()):
        raise UserError(f"{min(languages.values())} speakers can say a phrase of this split; takes is {takes}")
    said = _names(split, chosen, takes) if view == "names" else _phrases(split, chosen, takes)
    clean = _spoken(view, split, said, rate)
    found = _with_noise(clean, split, float(snr)) if view == "noisy" else read_table(clean)
    return sample(found, limit, seed)


@dataclass(frozen=True)
class _Said:
    """A row before it is spoken."""

    id: str
    text: str
    theme: str
    speaker: Speaker
    english: str = ""


def _chosen(everybody: Sequence[Speaker], split: str, names: Sequence[str] | None) -> list[Speaker]:
    there = [speaker for speaker in everybody if speaker.split == split]
    if names is None:
        return there
    known = [speaker.name for speaker in there]
    names = [names] if isinstance(names, str) else names
    for name in names:
        if name not in known:
            raise UserError(f"nobody called {name!r} speaks in {split}{nearest(name, known)}; {', '.join(known)} do")
    if not names:
        raise UserError(f"the list of speakers is empty; in {split} there are {', '.join(known)}")
    return [speaker for speaker in there if speaker.name in names]


def _takers(key: str, speakers: Sequence[Speaker], takes: int) -> list[Speaker]:
    """Who says this: the same, whatever else is said."""
    return sorted(speakers, key=lambda speaker: share(f"{key} {speaker.name}", salt="speaker"))[:takes]


def _phrases(split: str, speakers: Sequence[Speaker], takes: int) -> list[_Said]:
    return [
        _Said(f"{split}-{number}-{speaker.name}", text, theme, speaker)
        for number, (text, theme) in enumerate(phrases(split, PHRASES[split]))
        for speaker in _takers(text, speakers, takes)
    ]


def _names(split: str, speakers: Sequence[Speaker], takes: int) -> list[_Said]:
    """Names of the things of a split in each language; what has digits or brackets in its name is left out."""
    things = list(_things())
    english = cldr.world().names
    found = []
    for language in sorted({speaker.language for speaker in speakers}):
        called = english if language == "en" else cldr.names(language)
        own = [speaker for speaker in speakers if speaker.language == language]
        seen = set[str]()
        for kind, key in things:
            text = spoken_text(called[kind].get(key, ""))
            if not text or text in seen or part_of(f"{kind} {key}", SHARES, salt="name") != split:
                continue
            seen.add(text)
            for speaker in _takers(f"{kind} {key}", own, takes):
                identity = f"{kind}-{key}-{speaker.name}"
                found.append(_Said(identity, text, kind, speaker, spoken_text(english[kind][key]) or ""))
    return found


def _things() -> Iterator[tuple[str, str]]:
    tables = cldr.world().tables
    yield from (("country", row[0]) for row in tables["countries"])
    yield from (("language", key) for key in sorted({row[1] for row in tables["country_languages"] if row[3]}))
    yield from (("currency", key) for key in sorted({row[1] for row in tables["country_currencies"] if not row[3]}))


def spoken_text(name: str) -> str | None:
    """A name in small letters, apostrophes and spaces; None if there is more in it that would be read aloud."""
    plain = re.sub(r"[-‑–]", " ", name.lower().replace("’", "'"))
    plain = " ".join(plain.split())
    return plain if re.fullmatch(r"[^\W\d_]+(?:[' ]+[^\W\d_]+)*", plain) else None


def _spoken(view: str, split: str, said: Sequence[_Said], rate: int) -> Path:
    """The table of these rows, spoken now if it is not in the cache yet."""
    import pyarrow as pa

    def build(target: Path) -> None:
        with patient_bar("speaking") as bar:
            write_table(target, _speak(said, rate, bar), pa.schema(_columns(view)))

    lines = [
        [row.id, row.text, row.speaker.voice.name, row.speaker.voice.speed, row.speaker.voice.pitch] for row in said
    ]
    kind = "names" if view == "names" else "clean"
    return build_once(f"speech/{kind}", fingerprint(_VERSION, espeak.version(), kind, split, rate, lines), build)


def _speak(said: Sequence[_Said], rate: int, progress: Tick) -> Iterator[dict[str, Any]]:
    """Rows by speaker, because a call of espeak-ng has one voice."""
    done = 0
    for speaker in dict.fromkeys(row.speaker for row in said):
        own = [row for row in said if row.speaker == speaker]
        for row, spoken in zip(own, espeak.speak([row.text for row in own], speaker.voice), strict=True):
            audio = _resampled(spoken.audio, spoken.rate, rate)
            done += 1
            progress(done, len(said))
            yield {
                "id": row.id,
                "audio": audio,
                "sampling_rate": rate,
                "text": row.text,
                "phonemes": spoken.phonemes,
                "speaker": speaker.name,
                "seconds": len(audio) / rate,
                "theme": row.theme,
                "language": speaker.language,
                "english": row.english,
            }


def _resampled(audio: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    import numpy as np
    from scipy.signal import resample_poly

    return np.clip(resample_poly(audio, wanted, rate), -1, 1).astype("float32")


def _columns(view: str) -> list[tuple[str, Any]]:
    import pyarrow as pa

    text = pa.string()
    return [
        *(("id", text), ("audio", pa.list_(pa.float32())), ("sampling_rate", pa.int64())),
        *((name, text) for name in ("text", "phonemes", "speaker")),
        *(("seconds", pa.float64()), ("theme", text)),
        *([("language", text), ("english", text)] if view == "names" else []),
        *([("snr", pa.float64())] if view == "noisy" else []),
    ]


def _with_noise(clean: Path, split: str, snr: float) -> Dataset:
    import pyarrow as pa

    def build(target: Path) -> None:
        rows = read_table(clean).with_format("numpy", columns=["audio"], output_all_columns=True)
        noisy = ({**row, "audio": add_noise(row["audio"], snr, row["id"]), "snr": snr} for row in rows)
        write_table(target, noisy, pa.schema(_columns("noisy")))

    return read_table(build_once("speech/noisy", fingerprint(_VERSION, clean.name, split, snr), build))


def add_noise(audio: np.ndarray, snr: float, seed: str) -> np.ndarray:
    """The recording with white noise of ``snr`` decibels less power, made quieter as a whole where it would clip.

    Args:
        audio: [samples], numbers in [-1, 1].
        snr: 10 log10 of the power of speech over that of noise.
        seed: the noise depends on it alone.
    """
    import numpy as np

    noise = np.random.default_rng(random.Random(seed).getrandbits(64)).standard_normal(len(audio))
    power = np.mean(np.square(audio, dtype="float64")) / 10 ** (snr / 10)
    mixed = audio + noise * np.sqrt(power / np.mean(noise**2))
    return (mixed / max(1.0, np.abs(mixed).max())).astype("float32")


def _texts(split: str, count: int, seed: int) -> Dataset:
    from datasets import Dataset

    rows = enumerate(phrases(split, count, seed))
    return Dataset.from_list(
        [{"id": f"{split}-{seed}-{number}", "text": text, "theme": theme} for number, (text, theme) in rows]
    )
