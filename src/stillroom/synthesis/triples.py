"""Triples of a knowledge graph as text: relations with their prompts, and real first names for PersonX and PersonY."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stillroom.data.tables import share

NAMES = (
    *("Alex", "Robin", "Sam", "Kim", "Jamie", "Taylor", "Morgan", "Casey"),
    *("Jordan", "Riley", "Avery", "Quinn", "Dana", "Jesse", "Lee", "Pat"),
)
PERSONS = ("PersonX", "PersonY", "PersonZ")


@dataclass(frozen=True)
class Relation:
    """A relation as a model is asked about it.

    Attributes:
        name: in the graph.
        task: what is asked for, a sentence above the examples.
        asks: what stands between a head and its tail, as the prompt's last line begins. ``PersonX`` in it is named as
            in the head.
        examples: heads with tails, for few-shot prompts.
        label: what a head is called in the prompt.
    """

    name: str
    task: str
    asks: str
    examples: tuple[tuple[str, str], ...]
    label: str = "Event"

    def prompt(self, head: str, *, shots: int, seed: int = 0) -> tuple[str, dict[str, str]]:
        """The few-shot prompt for a head, ending where the tail begins, and which names stand for whom in it.

        Args:
            head: with PersonX, PersonY as they are.
            shots: how many of the examples are shown, the first ones.
            seed: of the names.
        """
        lines = [self.task, ""] if self.task else []
        for shown, tail in self.examples[:shots]:
            names = names_for(shown, seed)
            lines += [*self._asked(shown, names), ""]
            lines[-2] += f" {named(tail, names)}"
        names = names_for(head, seed)
        return "\n".join([*lines, *self._asked(head, names)]), names

    def _asked(self, head: str, names: Mapping[str, str]) -> list[str]:
        return [f"{self.label}: {named(head, names)}", named(self.asks, names)]


def names_for(head: str, seed: int = 0, names: Sequence[str] = NAMES) -> dict[str, str]:
    """A first name for each person, drawn by the head and the seed; none of them occurs in the head."""
    free = [name for name in names if not re.search(rf"\b{re.escape(name)}\b", head)]
    order = sorted(free, key=lambda name: share(f"{head} {name}", salt=f"name {seed}"))
    return dict(zip(PERSONS, order, strict=False))


def named(text: str, names: Mapping[str, str]) -> str:
    """The text with names for the persons."""
    for person, name in names.items():
        text = re.sub(rf"\b{person}\b", name, text)
    return text


def unnamed(text: str, names: Mapping[str, str]) -> str:
    """The text with the persons for their names, whole words only; ``Sam's`` becomes ``PersonX's``."""
    back = {name: person for person, name in names.items()}
    form = re.compile(rf"\b({'|'.join(map(re.escape, back))})\b")
    return form.sub(lambda found: back[found[0]], text)


def strangers(text: str, names: Sequence[str] = NAMES) -> list[str]:
    """Names of the list that a text still has: of people that its head knows nothing of."""
    return [name for name in names if re.search(rf"\b{re.escape(name)}\b", text)]
