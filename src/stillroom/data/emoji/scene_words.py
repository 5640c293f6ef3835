"""What can be said of a scene in English: a caption, and questions with their answers.

Everything is computed from the boxes and masks. A relation is only asked for where it is clear: sideways or up and down
by at least `CLEARLY` of the picture's side, larger by at least `LARGER` times the pixels; and an object is only asked
after by its name where nothing else in the scene is called so.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from itertools import permutations
from typing import TYPE_CHECKING

from stillroom.data.emoji.families import without_colour

if TYPE_CHECKING:
    from stillroom.data.emoji.base_table import Cast
    from stillroom.data.emoji.scenes import Scene, Thing

CLEARLY = 0.15
LARGER = 1.5
ABOUT = ("number", "kind", "presence", "left", "right", "above", "below", "colour", "size")
"""What questions are about."""

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_SIDES = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
_SINGULAR = re.compile(r"(ss|us|is|ous)$")
_ADDED = re.compile(r" (?:with|without|in|of|on|at|for|over|\w+ing) ")  # after it, a name says more of the noun before


def spoken(thing: Thing) -> str:
    """The name of a thing; a painted one has its paint in place of any colour of its own: "green apple"."""
    return f"{thing.paint} {without_colour(thing.kind.name)}" if thing.paint else thing.kind.name


def with_article(name: str) -> str:
    """``a dog``, ``an apple``, ``glasses``, ``a face with open eyes``."""
    return name if _is_plural(name) else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def plural(name: str) -> str:
    """``dogs``, ``boxes``, ``cherries``, ``faces with open eyes``."""
    if _is_plural(name):
        return name
    noun = _noun(name)
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies{name[len(noun) :]}"
    return f"{noun}{'es' if re.search(r'(s|x|z|ch|sh)$', noun) else 's'}{name[len(noun) :]}"


def _noun(name: str) -> str:
    """The name up to its noun: ``person`` of ``person playing handball``."""
    return _ADDED.split(name, maxsplit=1)[0]


def _is_plural(name: str) -> bool:
    return _noun(name).endswith("s") and not _SINGULAR.search(_noun(name))


def _is(name: str) -> str:
    return "are" if _is_plural(name) else "is"


def caption(scene: Scene) -> str:
    """``a green apple to the left of a dog face on a blue background``."""
    counts = Counter(map(spoken, scene.things))
    ground = f"on {with_article(scene.background)} background"
    if len(scene.things) == 2 == len(counts):
        side = next((side for side in _SIDES if _is_on(scene, side, 0, 1)), None)
        if side:
            first, second = (with_article(spoken(thing)) for thing in scene.things)
            return f"{first} {_SIDES[side]} {second} {ground}"
    parts = [with_article(name) if count == 1 else f"{_number(count)} {plural(name)}" for name, count in counts.items()]
    return f"{' and '.join([', '.join(parts[:-1]), parts[-1]] if parts[1:] else parts)} {ground}"


def questions(scene: Scene, cast: Cast, draw: random.Random) -> list[dict[str, str]]:
    """One question of each sort that the scene has an answer to, two about presence: one yes, one no."""
    found: dict[str, list[tuple[str, str]]] = {about: [] for about in ABOUT}
    for about, question, answer in _all(scene, cast, draw):
        found[about].append((question, answer))
    return [
        {"about": about, "question": question, "answer": answer}
        for about, known in found.items()
        for question, answer in (known if about == "presence" else [draw.choice(known)] if known else [])
    ]


def _all(scene: Scene, cast: Cast, draw: random.Random) -> Iterator[tuple[str, str, str]]:
    spoken_names = [spoken(thing) for thing in scene.things]
    counts = Counter(spoken_names)
    yield "number", "How many objects are there?", str(len(scene.things))
    for name, count in counts.items() if max(counts.values()) > 1 else ():
        yield "number", f"How many times does the picture show {with_article(name)}?", str(count)
    present = draw.choice(spoken_names)
    yield "presence", f"Does the picture show {with_article(present)}?", "yes"
    plain = [without_colour(thing.kind.name) for thing in scene.things]
    absent = [kind for kind in cast.kinds if without_colour(kind.name) not in plain]
    if absent:
        yield "presence", f"Does the picture show {with_article(draw.choice(absent).name)}?", "no"
    yield "colour", "What colour is the background?", scene.background
    if len(scene.things) == 1:
        yield "kind", "What is in the picture?", spoken_names[0]
    once = [place for place, name in enumerate(spoken_names) if counts[name] == 1]
    for place in once:
        thing = scene.things[place]
        if not thing.paint and thing.colour:
            yield "colour", f"What colour {_is(spoken_names[place])} the {spoken_names[place]}?", thing.colour
        if thing.paint and plain.count(plain[place]) == 1:
            yield "colour", f"What colour {_is(plain[place])} the {plain[place]}?", thing.paint
    for first, second in permutations(once, 2):
        ours, theirs = spoken_names[first], spoken_names[second]
        for side, words in _SIDES.items():
            if _is_on(scene, side, first, second):
                yield side, f"{_is(ours).capitalize()} the {ours} {words} the {theirs}?", "yes"
                yield side, f"{_is(theirs).capitalize()} the {theirs} {words} the {ours}?", "no"
                if len(scene.things) == 2:
                    yield "kind", f"What is {words} the {theirs}?", ours
        large, small = max(scene.areas[first], scene.areas[second]), min(scene.areas[first], scene.areas[second])
        if large >= LARGER * small:
            answer = ours if scene.areas[first] == large else theirs
            yield "size", f"Which is larger, the {ours} or the {theirs}?", answer


def _is_on(scene: Scene, side: str, first: int, second: int) -> bool:
    """Whether the first thing is clearly on that side of the second, by the middles of their boxes."""
    ours, theirs = scene.boxes[first], scene.boxes[second]
    axis = 0 if side in ("left", "right") else 1
    apart = (theirs[axis] + theirs[axis + 2] - ours[axis] - ours[axis + 2]) / 2
    return (apart if side in ("left", "above") else -apart) >= CLEARLY * scene.style.size


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)
