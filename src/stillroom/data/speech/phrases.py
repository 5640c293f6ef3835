"""Short English phrases of eight themes, from a small grammar: what `speech` says, and text for a language model.

Some two hundred words, tens of thousands of phrases, in small letters with spaces and apostrophes only. Which split a
phrase is in depends on a hash of it alone.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from stillroom.data.tables import part_of

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}

_PATIENCE = 300  # draws without a new phrase after which a theme is through

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

WORDS: dict[str, tuple[str, ...]] = {
    "digit": DIGITS,
    "number": ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "twenty", "thirty"),
    "room": ("kitchen", "bedroom", "hall", "garage", "garden", "office", "bathroom", "cellar"),
    "device": ("lamp", "heater", "radio", "fan", "oven", "printer", "camera", "screen", "washer", "alarm"),
    "color": ("red", "blue", "green", "white", "black", "yellow"),
    "side": ("left", "right"),
    "compass": ("north", "south", "east", "west"),
    "place": ("station", "harbor", "market", "library", "bridge", "museum", "school", "hospital", "airport", "castle"),
    "vehicle": ("train", "bus", "taxi", "ferry", "bicycle", "tram"),
    "day": ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    "time": ("morning", "noon", "evening", "night"),
    "weather": ("sunny", "cloudy", "windy", "rainy", "foggy", "cold", "warm", "dry"),
    "food": ("bread", "cheese", "rice", "apples", "carrots", "butter", "fish", "beans", "honey", "onions"),
    "drink": ("coffee", "tea", "milk", "water", "juice"),
    "container": ("bag", "box", "bottle", "basket", "jar"),
    "person": ("anna", "peter", "maria", "david", "sarah", "thomas", "my brother", "my sister", "the doctor"),
    "music": ("song", "album", "concert", "piano piece", "march", "waltz"),
    "mood": ("quiet", "cheerful", "slow", "long", "new", "famous"),
    "animal": ("dog", "cat", "horse", "sheep", "rabbit", "owl", "duck", "goat"),
    "act": ("sleeps", "waits", "drinks", "plays", "hides", "runs"),
    "where": ("under the tree", "behind the barn", "near the river", "on the hill", "by the fence"),
    "paper": ("letter", "message", "report", "invoice", "photo", "ticket"),
}

THEMES: dict[str, tuple[str, ...]] = {
    "digits": (
        "{digit} {digit} {digit}",
        "{digit} {digit} {digit} {digit}",
        "{digit} {digit} {digit} {digit} {digit}",
        "call {digit} {digit} {digit} {digit}",
    ),
    "home": (
        "turn on the {color} {device} in the {room}",
        "turn off the {device} in the {room}",
        "set the {device} in the {room} to {number}",
        "don't touch the {color} {device}",
        "is the {room} {device} still on",
    ),
    "travel": (
        "turn {side} at the {place}",
        "take the {vehicle} from the {place} to the {place}",
        "the {vehicle} from the {place} comes on {day} {time}",
        "take the {vehicle} to the {place}",
        "the {vehicle} to the {place} leaves in {number} minutes",
        "how far is the {place} from the {place}",
        "there's no {vehicle} on {day}",
    ),
    "weather": (
        "{day} will be {weather} and {weather}",
        "it's {weather} in the {compass}",
        "in the {compass} {day} {time} will be {weather}",
        "expect a {weather} {time} on {day}",
        "will it be {weather} on {day} {time}",
    ),
    "kitchen": (
        "add {number} {container}s of {drink}",
        "buy a {container} of {food} and some {drink}",
        "buy {number} {container}s of {food} and a {container} of {drink}",
        "we need {food} and {food}",
        "heat the {drink} for {number} minutes",
        "there isn't any {food} left",
    ),
    "office": (
        "send the {paper} to {person}",
        "remind me to call {person} on {day} {time}",
        "{person} didn't read the {paper}",
        "print {number} copies of the {paper}",
        "meet {person} at {number} on {day}",
    ),
    "music": (
        "play a {mood} {music}",
        "play a {mood} {music} by {person} in the {room}",
        "play the {music} by {person} again",
        "skip this {mood} {music}",
        "{person} wrote a {mood} {music}",
        "repeat the {music} {number} times",
    ),
    "animals": (
        "the {color} {animal} {act} {where}",
        "{number} {animal}s are {where}",
        "the {animal} {act} with the {animal}",
        "{person} feeds the {animal} in the {time}",
        "where's the {color} {animal}",
    ),
}


def phrases(split: str, count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """The first ``count`` phrases of a split with their themes; none comes twice, and themes take turns.

    A longer draw from the same seed begins with the shorter one.
    """
    draw = random.Random(f"{seed} {split}")
    seen = set[str]()
    themes = list(THEMES)
    while themes and len(seen) < count:
        for theme in tuple(themes):
            phrase = _new_phrase(theme, split, seen, draw)
            if phrase is None:
                themes.remove(theme)
            elif len(seen) < count:
                seen.add(phrase)
                yield phrase, theme


def _new_phrase(theme: str, split: str, seen: set[str], draw: random.Random) -> str | None:
    """A phrase that did not come yet, or None where the theme seems to have no more."""
    for _ in range(_PATIENCE):
        phrase = _phrase(theme, draw)
        if phrase not in seen and part_of(phrase, SHARES, salt="phrase") == split:
            return phrase
    return None


def _phrase(theme: str, draw: random.Random) -> str:
    told = draw.choice(THEMES[theme])
    while "{" in told:
        told = re.sub(r"\{(\w+)\}", lambda found: draw.choice(WORDS[found[1]]), told, count=1)
    return told.replace("sheeps", "sheep").replace("boxs", "boxes")
