"""Speech: as many recordings as phrases, each of its own; splits without a common phrase or speaker; noise as stated.

Run: pytest tests/data/test_data_speech.py
"""

import re
import shutil
import signal
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

from stillroom.data import cache_folder, cldr, load, speech
from stillroom.data.speech import NAMERS, SPEAKERS, add_noise, espeak, spoken_text
from stillroom.data.speech.espeak import Voice, speak
from stillroom.data.speech.phrases import DIGITS, THEMES, phrases
from stillroom.errors import UserError

SPLITS = ("train", "validation", "test")
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="Debian package espeak-ng is not installed")
needs_cldr = pytest.mark.skipif(not cldr.FOLDER.is_dir(), reason="Debian package unicode-cldr-core is not installed")


@pytest.fixture(scope="module", autouse=True)
def few():
    """A few phrases: what is tested does not depend on how many there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech, "PHRASES", {"train": 48, "validation": 16, "test": 16})
        yield


@pytest.fixture(scope="module")
def spoken(few):
    return {split: load("speech", split=split, takes=2).with_format("numpy") for split in SPLITS}


# --- texts ---


def test_phrases_are_plain_and_come_once():
    found = list(phrases("train", 2000, seed=5))
    assert len({text for text, _ in found}) == 2000
    assert all(re.fullmatch(r"[a-z]+('[a-z]+)?( [a-z]+('[a-z]+)?)*", text) for text, _ in found)
    assert {theme for _, theme in found} == set(THEMES)
    assert found[:50] == list(phrases("train", 50, seed=5)) != list(phrases("train", 50, seed=6))
    assert len({word for text, _ in found for word in text.split()}) < 300


def test_no_phrase_crosses_whatever_the_seed():
    found = [{text for seed in (0, 1) for text, _ in phrases(split, 1500, seed)} for split in SPLITS]
    assert not any(first & second for first, second in combinations(found, 2))


def test_texts_are_rows_for_a_language_model():
    table = load("speech", view="texts", split="validation", limit=300, seed=1)
    assert table.column_names == ["id", "text", "theme"]
    assert len(set(table["text"])) == 300


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Côte d’Ivoire", "côte d'ivoire"),
        ("Guinea-Bissau", "guinea bissau"),
        ("Congo (DRC)", None),
        ("Turks & Caicos", None),
        ("Mark 2", None),
        ("", None),
    ],
)
def test_names_become_transcripts(name, text):
    assert spoken_text(name) == text


# --- speech ---


@needs_espeak
def test_no_phrase_and_no_speaker_crosses(spoken):
    for column in ("text", "speaker"):
        found = [set(spoken[split][column]) for split in SPLITS]
        assert not any(first & second for first, second in combinations(found, 2))
        assert all(found)
    voices = [
        {speaker.voice.name.partition("+")[2] for speaker in SPEAKERS if speaker.split == split} for split in SPLITS
    ]
    assert not any(first & second for first, second in combinations(voices, 2)), "not only by name"
    for language in ("en", "de", "fr", "es"):
        names = [{s.voice.name for s in NAMERS if (s.split, s.language) == (split, language)} for split in SPLITS]
        assert not any(first & second for first, second in combinations(names, 2))


@needs_espeak
def test_rows_are_whole(spoken):
    for split in SPLITS:
        table = spoken[split]
        assert len(set(table["id"])) == len(table) == 2 * speech.PHRASES[split]
        for row in table:
            assert row["audio"].dtype == np.float32
            assert row["sampling_rate"] == 16_000
            assert row["seconds"] == pytest.approx(len(row["audio"]) / 16_000)
            assert 0.4 < row["seconds"] < 8
            assert 0.1 < np.abs(row["audio"]).max() <= 1
            assert row["phonemes"]


@needs_espeak
def test_a_phrase_in_a_batch_sounds_as_it_does_alone():
    """The pieces of a batch are cut at the right places: each is what espeak-ng says when given this text alone."""
    texts = [text for text, _ in phrases("test", 12)]
    voice = Voice("en-us+f2", 175, 60)  # one with an echo
    for text, together in zip(texts, speak(texts, voice), strict=True):
        (alone,) = speak([text], voice)
        assert together.phonemes == alone.phonemes
        assert abs(len(together.audio) - len(alone.audio)) < 0.05 * together.rate
        size = min(len(together.audio), len(alone.audio))
        spectra = [np.abs(np.fft.rfft(piece.audio[:size])) for piece in (together, alone)]
        assert np.corrcoef(*spectra)[0, 1] > 0.8


@needs_espeak
def test_longer_texts_take_longer():
    texts = [" ".join(DIGITS[:count]) for count in (1, 3, 6, 10)]
    seconds = [len(piece.audio) / piece.rate for piece in speak(texts, Voice("en-us"))]
    assert seconds == sorted(seconds)
    assert seconds[3] > 3 * seconds[0]


@needs_espeak
def test_all_speakers_are_different_and_can_speak():
    """espeak-ng passes over a variant that does not fit a voice: then two speakers would be one."""
    for everybody in (SPEAKERS, NAMERS):
        heard = [next(iter(speak(["no no no"], speaker.voice))).audio for speaker in everybody]
        assert all(np.abs(audio).max() > 0.05 for audio in heard)
        for first, second in combinations(heard, 2):
            size = min(len(first), len(second))
            assert not np.allclose(first[:size], second[:size], atol=1e-3)


@needs_espeak
def test_options_choose_rate_speakers_and_takes():
    table = load("speech", split="test", rate=8_000, speakers=["leo"]).with_format("numpy")
    assert set(table["speaker"]) == {"leo"}
    assert len(table) == 16
    assert table[0]["seconds"] == pytest.approx(len(table[0]["audio"]) / 8_000)
    refused = [
        ({"rate": 44_100}, "16000 or 8000; 44100"),
        ({"speakers": ["leon"]}, "nobody called 'leon' speaks in test; did you mean 'leo'"),
        ({"speakers": ["anna"]}, "nobody called 'anna' speaks in test"),
        ({"takes": 4}, "3 speakers can say a phrase"),
        ({"takes": 0}, "takes is 0"),
        ({"speakers": []}, "the list of speakers is empty"),
    ]
    for options, message in refused:
        with pytest.raises(UserError, match=message):
            load("speech", split="test", **options)


@needs_espeak
def test_noise_has_the_power_that_is_stated(spoken):
    noisy = load("speech", view="noisy", split="test", takes=2, snr=3.0).with_format("numpy")
    assert noisy["id"][:].tolist() == spoken["test"]["id"][:].tolist()
    assert set(np.asarray(noisy["snr"]).tolist()) == {3.0}
    for clean, row in zip(spoken["test"], noisy, strict=True):
        # The mixture may be scaled as a whole: least squares takes the speech out of it, what is left is noise.
        scale = np.dot(row["audio"], clean["audio"]) / np.dot(clean["audio"], clean["audio"])
        rest = row["audio"] / scale - clean["audio"]
        found = 10 * np.log10(np.mean(clean["audio"] ** 2) / np.mean(rest**2))
        assert found == pytest.approx(3.0, abs=0.3)
        assert np.abs(row["audio"]).max() <= 1


def test_noise_depends_on_its_seed():
    audio = np.sin(np.arange(1000, dtype="float32") / 5) / 2
    assert (add_noise(audio, 10, "a") == add_noise(audio, 10, "a")).all()
    assert (add_noise(audio, 10, "a") != add_noise(audio, 10, "b")).any()
    assert np.abs(add_noise(audio, -20, "a")).max() <= 1


@needs_espeak
@needs_cldr
def test_names_are_spoken_in_four_languages():
    table = load("speech", view="names", split="validation")
    assert set(table["language"]) == {"en", "de", "fr", "es"}
    assert set(table["theme"]) == {"country", "language", "currency"}
    other = {language for language in table["language"]}
    things = {split: names_of(split) for split in SPLITS}
    assert other and not any(first & second for first, second in combinations(things.values(), 2))
    german = {
        row["english"]: row["text"]
        for row in table.select_columns(["english", "text", "language"])
        if row["language"] == "de"
    }
    called = cldr.names("de")
    english = cldr.world().names
    for key, name in english["country"].items():
        if spoken_text(name) in german and called["country"].get(key):
            assert german[spoken_text(name)] == spoken_text(called["country"][key])


def names_of(split):
    """Which things a split names, whatever the language; nothing is spoken for it."""
    there = [speaker for speaker in NAMERS if speaker.split == split]
    return {tuple(row.id.split("-")[:2]) for row in speech._names(split, there, 1)}


# --- the program ---


def test_without_espeak_the_package_is_named(monkeypatch):
    espeak.version.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="apt install espeak-ng"):
        load("speech")


@needs_espeak
def test_a_voice_that_is_not_there_is_named():
    with pytest.raises(UserError, match="can't speak with the voice 'xx'"):
        list(speak(["one"], Voice("xx")))


@needs_espeak
def test_texts_that_are_divided_are_refused():
    with pytest.raises(UserError, match="texts must be words without punctuation"):
        list(speak(["one. two! three? and a clause; which goes on"], Voice("en-us")))


@needs_espeak
def test_a_killed_build_leaves_nothing(tmp_path, monkeypatch):
    """Killed while it speaks: no table at its address, and the next call builds it whole."""
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path))
    code = (
        "import os, signal\n"
        "from stillroom.data import load, speech\n"
        "from stillroom.data.speech import espeak\n"
        "speech.PHRASES = {'train': 16, 'validation': 8, 'test': 8}\n"
        "whole = espeak.speak\n"
        "def dying(texts, voice):\n"
        "    yield next(iter(whole(texts, voice)))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "espeak.speak = dying\n"
        "load('speech', split='test')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    left = [path for path in (cache_folder() / "speech" / "clean").iterdir() if path.suffix != ".lock"]
    assert all(".partial-" in path.name for path in left)
    monkeypatch.setattr(speech, "PHRASES", {"train": 16, "validation": 8, "test": 8})
    assert len(load("speech", split="test")) == 8
    assert not list((cache_folder() / "speech" / "clean").glob("*.partial-*"))
